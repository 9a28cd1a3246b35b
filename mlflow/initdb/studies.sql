-- Runs and studies cannot share one database: MLflow and Optuna both keep a table `alembic_version`.
CREATE DATABASE studies;
