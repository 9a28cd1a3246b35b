"""What a study remembers: Optuna's storage, versions, records, and who works on it."""
