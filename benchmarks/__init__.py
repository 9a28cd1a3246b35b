"""What the figures in the docs are measured with; every script prints a Markdown table."""
