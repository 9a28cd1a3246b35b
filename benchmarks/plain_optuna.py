"""Optuna alone on the same objective, beside ``benchmarks.sweeps``: ``python -m benchmarks.plain_optuna``.

A plain script over the space of ``studies/movielens.yaml``, as anyone would write it. Each training has one
value of every hyperparameter. There are no presets, no pruning and no sweep. Prints the hypervolume against
trainings and seconds. Optuna's storage is in memory and nothing is tracked, so all seconds are trainings and
asks. They are the processor's: with one thread they do not depend on what else the machine does.

``painvrl`` is the file's own study, swept, with its presets and its pruning. Its seconds are those of its
trials by the wall clock, so its core should have no other work. What ``--results`` holds already is not run
again. ``--picture`` draws the hypervolume against the seconds.

``MOASHA`` is Syne Tune's, where that is installed: points are drawn at random, and its scheduler stops
trainings by the values at their first evaluations. Reads valid parts only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import torch

from benchmarks import sweeps
from benchmarks.common import mean_and_spread, print_table
from benchmarks.machine import RESULTS, describe, write_results
from benchmarks.sweeps import ROOT
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed
from painvrl.engine.training import TrainingObjective
from painvrl.run.hyperparameters import apply
from painvrl.stats.dominance import hypervolume
from painvrl.study.file.spec import StudySpec, load_spec
from painvrl.study.search.pruning import PruningConfig, rungs_of

LOOKS = (1, 2, 5, 10, 20, 40)
SAMPLERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=10),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "MOASHA": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
OURS = "painvrl"
EVALUATIONS = tuple(range(1, 7))
"""Of the first training of a run: where MOASHA may stop it."""
OnRung = Callable[[str, Mapping[str, float]], str | None]


class Halving:
    """MOASHA's scheduler for one training at a time."""

    def __init__(self, objectives: tuple[str, ...], seed: int) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        self._objectives = objectives
        self._scheduler = MOASHA(
            {},
            list(objectives),
            do_minimize=False,
            time_attr="t",
            max_t=len(EVALUATIONS) + 1,
            random_seed=seed,
        )

    def begin(self, number: int) -> tuple[OnRung, Callable[[Mapping[str, float]], None]]:
        """What a training asks at its evaluations, and what it tells at its end."""
        from syne_tune.backend.trial_status import Trial

        trial, rung = Trial(number, {}, datetime.now(UTC)), 0
        self._scheduler.on_trial_add(trial)

        def ask(_: str, values: Mapping[str, float]) -> str | None:
            nonlocal rung
            rung += 1
            result = {"t": rung, **{name: values[name] for name in self._objectives}}
            return "MOASHA" if self._scheduler.on_trial_result(trial, result) == "STOP" else None

        def tell(values: Mapping[str, float]) -> None:
            result = {"t": len(EVALUATIONS) + 1, **{name: values[name] for name in self._objectives}}
            self._scheduler.on_trial_complete(trial, result)

        return ask, tell


def run(spec: StudySpec, sampler: str, seed: int, trials: int, cache: Path) -> list[list[float]]:
    """After each training the seconds so far and the hypervolume."""
    objective = TrainingObjective(spec.config, cache_dir=cache, device=torch.device("cpu"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["maximize"] * len(spec.objectives), sampler=SAMPLERS[sampler](seed)
    )
    values: list[list[float]] = []
    curve: list[list[float]] = []
    halving = Halving(spec.objectives, seed) if sampler == "MOASHA" else None
    looks = PruningConfig(evaluations=EVALUATIONS)
    begun = time.process_time()

    def train(trial: optuna.Trial) -> list[float]:
        point = spec.space.suggest(trial, spec.config)
        config = apply(spec.config, point)
        job = Job(number=trial.number, point=point, config=config)
        ask: OnRung = lambda *_: None  # noqa: E731
        if halving is not None:
            ask, tell = halving.begin(trial.number)
            job = replace(job, rungs=rungs_of(config, looks))
        outcome = objective(job, lambda _: None, ask)
        if not isinstance(outcome, Completed):
            raise optuna.TrialPruned
        if halving is not None:
            tell(outcome.metrics)
        values.append([outcome.metrics[name] for name in spec.objectives])
        return values[-1]

    def look(*_: object) -> None:
        curve.append([time.process_time() - begun, hypervolume(values) if values else 0.0])

    study.optimize(train, n_trials=trials, callbacks=[look])
    return curve


def run_ours(spec: StudySpec, seed: int, trials: int, cache: Path) -> list[list[float]]:
    """The same of the file's own study."""
    with TemporaryDirectory() as folder:
        moments = sweeps.run(sweeps.with_seed(spec, seed, "auto", trials), Path(folder), cache)
    return [[moment.seconds, moment.hypervolume] for moment in moments]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Hypervolume against seconds: a line is the mean over seeds, a band goes from the worst to the best."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    longest = max(row["curve"][-1][0] for row in rows)
    seconds = np.geomspace(2.0, longest, 200)
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        curves = [np.array(row["curve"]) for row in rows if row["sampler"] == sampler]
        # Nothing is known before a run's first training ends, nor after its last.
        there = [np.searchsorted(curve[:, 0], seconds, side="right") - 1 for curve in curves]
        steps = [
            np.where(index < 0, 0.0, 1e4 * curve[index, 1])
            for curve, index in zip(curves, there, strict=True)
        ]
        shown = seconds <= max(curve[-1, 0] for curve in curves)
        label = "painvrl, swept" if sampler == OURS else sampler
        (line,) = axes.plot(
            seconds[shown], np.mean(steps, axis=0)[shown], label=f"{label} ({len(curves)} seeds)"
        )
        axes.fill_between(
            seconds[shown], np.min(steps, axis=0)[shown], np.max(steps, axis=0)[shown],
            color=line.get_color(), alpha=0.15, linewidth=0,
        )  # fmt: skip
    axes.set(xscale="log", xlabel="seconds, one thread", ylabel="hypervolume x 10,000", ylim=(0, None))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, loc="center left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, and write ``results/plain_optuna.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=ROOT / "studies" / "movielens.yaml")
    parser.add_argument(
        "--samplers", nargs="+", default=["TPE", "NSGA-II", "random"], choices=[OURS, *SAMPLERS]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=ROOT / "workspace" / "cache", help="of prepared data")
    parser.add_argument("--results", default="plain_optuna", help="name of the file in results/")
    parser.add_argument("--picture", type=Path, help="draw it into this PNG file")
    asked = parser.parse_args()
    spec, machine = load_spec(asked.study), describe()
    path = RESULTS / f"{asked.results}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = {(row["sampler"], row["seed"]) for row in rows}
    for seed in asked.seeds:
        for sampler in asked.samplers:
            if (sampler, seed) in kept:
                continue
            if sampler == OURS:
                curve = run_ours(spec, seed, asked.trials, asked.cache)
            else:
                curve = run(spec, sampler, seed, asked.trials, asked.cache)
            rows.append({"sampler": sampler, "seed": seed, "curve": curve})
            print(sampler, seed, curve[-1], flush=True)
            path = write_results(asked.results, {"study": asked.study.name, "rows": rows}, machine=machine)
    if asked.picture:
        draw([row for row in rows if row["sampler"] in asked.samplers], asked.picture)
    looks = [look for look in LOOKS if look <= asked.trials]
    table = []
    for sampler in asked.samplers:
        curves = [row["curve"] for row in rows if row["sampler"] == sampler]
        cells = [mean_and_spread([1e4 * curve[look - 1][1] for curve in curves]) for look in looks]
        table.append([sampler, *cells, f"{statistics.mean(curve[-1][0] for curve in curves):.0f}"])
    print_table(
        "Hypervolume x 10,000 after so many trainings", ["sampler", *map(str, looks), "seconds"], table
    )
    print(path)


if __name__ == "__main__":
    main()
