"""The least that Optuna and MLflow cost a study of so many trials: ``python -m benchmarks.study_floor``.

Both libraries as plainly as their own introductions use them, on SQLite files that wait for no disk, with
as many hyperparameters, objectives and metrics as a trial of ``studies/movielens.yaml`` has. No painvrl, no
training: what :mod:`benchmarks.study_overhead` counts beyond this is ours.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

KNOBS, OBJECTIVES, METRICS, STEPS = 6, 4, 12, 25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    asked = parser.parse_args()
    parts: dict[str, float] = {}
    last = time.perf_counter()

    def took(part: str) -> None:
        nonlocal last
        now = time.perf_counter()
        parts[part] = parts.get(part, 0.0) + now - last
        last = now

    import optuna

    took("import optuna")
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    took("import mlflow")
    with tempfile.TemporaryDirectory() as folder:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        database = f"sqlite:///{Path(folder)}"
        study = optuna.create_study(
            storage=f"{database}/optuna.db",
            directions=["maximize"] * OBJECTIVES,
            sampler=optuna.samplers.TPESampler(seed=0),
        )
        took("optuna's tables")
        client = MlflowClient(f"{database}/mlflow.db")
        experiment = client.create_experiment("floor", artifact_location=folder)
        took("mlflow's tables")
        for _ in range(asked.trials):
            trial = study.ask()
            point = [trial.suggest_float(f"knob_{place}", 0.0, 1.0) for place in range(KNOBS)]
            took("optuna: ask")
            run = client.create_run(experiment, tags={"trial": str(trial.number)}).info.run_id
            client.log_batch(
                run, params=[Param(f"knob_{place}", str(value)) for place, value in enumerate(point)]
            )
            metrics = [
                Metric(f"metric_{place}", point[0], 0, step)
                for place in range(METRICS)
                for step in range(STEPS)
            ]
            client.log_batch(run, metrics=metrics)
            client.set_terminated(run)
            took("mlflow: a run")
            study.tell(trial, [point[place] * (1 - point[0]) for place in range(OBJECTIVES)])
            took("optuna: tell")
    for part, seconds in parts.items():
        print(f"  {part:18} {seconds:6.2f} s")
    print(f"  {'all':18} {sum(parts.values()):6.2f} s for {asked.trials} trials")


if __name__ == "__main__":
    main()
