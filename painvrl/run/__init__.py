"""One training run: its configuration, its stages in order, its state on disk, and the model that is kept."""
