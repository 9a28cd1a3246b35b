"""What a study remembers: Optuna's storage, versions, records, and one process at a time."""
