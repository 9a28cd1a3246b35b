"""Optuna alone on the same objective, beside ``benchmarks.sweeps``: ``python -m benchmarks.plain_optuna``.

A plain script over the space of ``studies/movielens.yaml``, as anyone would write it. Each training has one
value of every hyperparameter. There are no presets, no pruning and no sweep. Prints the hypervolume against
trainings and seconds. Optuna's storage is in memory and nothing is tracked, so all seconds are trainings and
asks. Reads valid parts only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.common import mean_and_spread, print_table
from benchmarks.machine import describe, write_results
from benchmarks.sweeps import ROOT
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed
from painvrl.engine.training import TrainingObjective
from painvrl.run.hyperparameters import apply
from painvrl.stats.dominance import hypervolume
from painvrl.study.file.spec import StudySpec, load_spec

LOOKS = (1, 2, 5, 10, 20, 40)
SAMPLERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=10),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def run(spec: StudySpec, sampler: str, seed: int, trials: int, cache: Path) -> list[list[float]]:
    """After each training the seconds so far and the hypervolume."""
    objective = TrainingObjective(spec.config, cache_dir=cache, device=torch.device("cpu"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["maximize"] * len(spec.objectives), sampler=SAMPLERS[sampler](seed)
    )
    values: list[list[float]] = []
    curve: list[list[float]] = []
    begun = time.perf_counter()

    def train(trial: optuna.Trial) -> list[float]:
        point = spec.space.suggest(trial, spec.config)
        job = Job(number=trial.number, point=point, config=apply(spec.config, point))
        outcome = objective(job, lambda _: None, lambda *_: None)
        if not isinstance(outcome, Completed):
            raise optuna.TrialPruned
        values.append([outcome.metrics[name] for name in spec.objectives])
        return values[-1]

    def look(*_: object) -> None:
        curve.append([time.perf_counter() - begun, hypervolume(values) if values else 0.0])

    study.optimize(train, n_trials=trials, callbacks=[look])
    return curve


def main() -> None:
    """Measure, print, and write ``results/plain_optuna.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=ROOT / "studies" / "movielens.yaml")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=ROOT / "workspace" / "cache", help="of prepared data")
    asked = parser.parse_args()
    spec, machine = load_spec(asked.study), describe()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for sampler in asked.samplers:
            curve = run(spec, sampler, seed, asked.trials, asked.cache)
            rows.append({"sampler": sampler, "seed": seed, "curve": curve})
            print(sampler, seed, curve[-1], flush=True)
            path = write_results("plain_optuna", {"study": asked.study.name, "rows": rows}, machine=machine)
    looks = [look for look in LOOKS if look <= asked.trials]
    table = []
    for sampler in asked.samplers:
        curves = [row["curve"] for row in rows if row["sampler"] == sampler]
        cells = [mean_and_spread([1e3 * curve[look - 1][1] for curve in curves]) for look in looks]
        table.append([sampler, *cells, f"{statistics.mean(curve[-1][0] for curve in curves):.0f}"])
    print_table(
        "Hypervolume x 1,000 after so many trainings", ["sampler", *map(str, looks), "seconds"], table
    )
    print(path)


if __name__ == "__main__":
    main()
