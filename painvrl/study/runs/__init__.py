"""Configurations under seeds: training what is missing, and a file a run."""
