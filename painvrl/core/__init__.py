"""What everything else stands on: errors, settings, files, random numbers, devices."""
