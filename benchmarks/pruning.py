"""What pruning and the choice of the sampler cost and give: ``python -m benchmarks.pruning [--seeds 10]``.

Runs the whole of ``studies/movielens.yaml`` in several arms under several seeds (a seed is that of the
sampler, and of split and initialisation together), without MLflow: ``tpe`` with pruning and without it,
``random`` and ``nsga2``. Every process has one thread, and two run at a time, so that the arms of a seed meet
the same machine. Studies without pruning note what their trials had where a pruner might have looked, so
that the rule can be replayed on their points: what do the trials that it stops take away from the front?

Prints the ratios of pruned to unpruned (wall time, processor time, hypervolume) with 95% t intervals, the
same ratios for two unpruned studies whose samplers have other seeds (what chance alone does to them), the
replays, and hypervolume against epochs spent. ``--output`` keeps every number; a study that stands there
is not run again while the study's file is the same. Reads valid parts only.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import CACHE, T95, print_table
from benchmarks.kept import completed, digest
from painvrl.core.workspace import Workspace
from painvrl.engine.job import Job, OnRung
from painvrl.engine.outcomes import Completed, Failed, Outcome
from painvrl.engine.training import TrainingObjective
from painvrl.stats.dominance import hypervolume
from painvrl.study.file.spec import StudySpec, load_spec
from painvrl.study.runner import run_study
from painvrl.study.search.pruner import axes_by_part
from painvrl.study.search.pruning import PruningConfig, ahead_of, places, rungs_of
from painvrl.study.tracking.port import NullTracker

# An arm: sampler, whether it prunes, and by how much the sampler's seed is moved.
ARMS = {
    "tpe": ("tpe", False, 0),
    "tpe, pruned": ("tpe", True, 0),
    "random": ("random", False, 0),
    "nsga2": ("nsga2", False, 0),
    "tpe, other seed": ("tpe", False, 1000),
}
LOOKS = (1, 2, 3, 6)
ETAS = (2.0, 3.0, 4.0)
EVERY = 10
EPOCHS = (1000, 2000, 4000, 6000, 8000)


class Diary:
    """An objective that notes of every trial what it took, what it came to, and what it had at the looks."""

    def __init__(self, inner: TrainingObjective, spec: StudySpec) -> None:
        self.data, self.rows = inner.data, list[dict[str, Any]]()
        self._inner, self._objectives, self._own = inner, spec.objectives, spec.config

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        """Train, and note it."""
        wall, processor = time.perf_counter(), time.process_time()
        looks: list[dict[str, Any]] = []

        def look(rung: str, values: Mapping[str, float]) -> str | None:
            plane = [values[name] for name in axes_by_part(self._objectives)]
            looks.append({"rung": rung, "processor": time.process_time() - processor, "plane": plane})
            return on_rung(rung, values) if rung in job.rungs else None

        rungs = job.rungs | rungs_of(job.config, PruningConfig(evaluations=LOOKS))
        outcome = self._inner(replace(job, rungs=rungs), on_stage, look)
        values, epochs = None, {}
        if not isinstance(outcome, Failed):
            for point in outcome.curves:
                epochs[point.curve] = point.step
            epochs = {name: step for name, step in epochs.items() if not name.startswith("mask")}
        if isinstance(outcome, Completed):
            values = [outcome.metrics[name] for name in self._objectives]
        self.rows.append(
            {
                "searched": job.preset is None and job.config != self._own,
                "point": dict(job.point),
                "values": values,
                "epochs": sum(epochs.values()),
                "wall": time.perf_counter() - wall,
                "processor": time.process_time() - processor,
                "looks": looks,
            }
        )
        return outcome


def spec_of(arm: str, seed: int) -> StudySpec:
    """The shipped study as an arm runs it."""
    sampler, pruned, moved = ARMS[arm]
    spec = load_spec(Path("studies/movielens.yaml"))
    study = spec.study.model_copy(update={"seed": seed + moved, "sampler": sampler})
    config = spec.config.model_copy(update={"seed": seed})
    return spec.model_copy(update={"study": study, "config": config, "pruning": pruned})


def run(arm: str, seed: int) -> dict[str, Any]:
    """One study, in a workspace that is thrown away."""
    torch.set_num_threads(1)
    spec = spec_of(arm, seed)
    device = torch.device("cpu")
    diary = Diary(TrainingObjective(spec.config, cache_dir=CACHE, device=device), spec)
    with tempfile.TemporaryDirectory() as folder:
        run_study(spec, Workspace(Path(folder)), device, tracker=NullTracker(), objective=diary)
    return {"arm": arm, "seed": seed, "spec": digest(spec), "trials": diary.rows}


def replayed(trials: Sequence[dict[str, Any]], evaluation: int, eta: float) -> tuple[float, float, float]:
    """The rule on the points of a study that was not pruned.

    Returns:
        Shares of the processor time, of the hypervolume and of the trials that it leaves.
    """
    rivals: list[list[float]] = []
    left, spent = [], 0.0
    for trial in trials:
        look = next((one for one in trial["looks"] if one["rung"].endswith(f"/{evaluation * EVERY}")), None)
        stopped = False
        if look is not None:
            others = [list(values) for values in dict.fromkeys(map(tuple, rivals))]
            ahead = ahead_of([*others, look["plane"]], len(others))
            stopped = trial["searched"] and ahead >= places(len(others) + 1, eta)
            rivals.append(look["plane"])
        spent += look["processor"] if stopped and look is not None else trial["processor"]
        if not stopped:
            left.append(trial)
    whole = sum(trial["processor"] for trial in trials)
    return spent / whole, volume(left) / volume(trials), len(left) / len(trials)


def volume(trials: Sequence[dict[str, Any]]) -> float:
    """The hypervolume of the complete ones."""
    return hypervolume([trial["values"] for trial in trials if trial["values"] is not None])


def total(name: str, trials: Sequence[dict[str, Any]]) -> float:
    """What all trials took of something."""
    return float(sum(trial[name] for trial in trials))


def after(trials: Sequence[dict[str, Any]], epochs: float) -> float:
    """The hypervolume when so many epochs had been spent."""
    spent, done = 0, []
    for trial in trials:
        spent += trial["epochs"]
        if spent > epochs:
            break
        done.append(trial)
    return volume(done)


def interval(values: Sequence[float]) -> str:
    """Mean and 95% t interval."""
    mean, n = statistics.mean(values), len(values)
    if n < 2:
        return f"{mean:.3f}"
    half = T95[n - 2] * statistics.stdev(values) / math.sqrt(n)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def report(kept: dict[str, Any]) -> None:
    """Print the tables of what was kept."""
    studies = {(one["arm"], one["seed"]): one["trials"] for one in kept["studies"]}

    def ratios(arm: str, of: Callable[[Sequence[dict[str, Any]]], float]) -> list[float]:
        seeds = sorted(seed for name, seed in studies if name == arm and ("tpe", seed) in studies)
        return [of(studies[arm, seed]) / of(studies["tpe", seed]) for seed in seeds]

    rows = []
    for arm in ARMS:
        if arm == "tpe" or not ratios(arm, volume):
            continue
        columns = [interval(ratios(arm, partial(total, name))) for name in ("wall", "processor", "epochs")]
        rows.append([arm, str(len(ratios(arm, volume))), *columns, interval(ratios(arm, volume))])
    columns = ["arm", "seeds", "wall time", "processor time", "epochs", "hypervolume"]
    print_table("Ratios to tpe without pruning, 95% t intervals", columns, rows)
    unpruned = [trials for (arm, _), trials in studies.items() if arm == "tpe"]
    rows = []
    for evaluation, eta in itertools.product(LOOKS, ETAS):
        shares = zip(*(replayed(trials, evaluation, eta) for trials in unpruned), strict=True)
        rows.append([str(evaluation), f"{eta:g}", *(interval(share) for share in shares)])
    columns = ["evaluation", "eta", "processor time", "hypervolume", "trials"]
    print_table("The rule on the points of tpe: shares it leaves", columns, rows)
    grid = [
        [
            arm,
            *(
                interval([after(t, epochs) * 1e4 for (name, _), t in studies.items() if name == arm])
                for epochs in EPOCHS
            ),
        ]
        for arm in ARMS
        if any(name == arm for name, _ in studies)
    ]
    print_table("Hypervolume x 10,000 against epochs spent", ["arm", *map(str, EPOCHS)], grid)


def main() -> None:
    """Measure what is not there yet, keep it, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--other-seeds", type=int, default=5, help="of the arms without pruning beside tpe")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/pruning.json"))
    asked = parser.parse_args()
    pairs = [(arm, seed) for seed in range(asked.seeds) for arm in ("tpe, pruned", "tpe")]
    others = [(arm, seed) for arm in ("random", "nsga2") for seed in range(asked.other_seeds)]
    chance = [("tpe, other seed", seed) for seed in range(asked.other_seeds)]
    wanted = [*pairs, *others, *chance]
    report(completed(asked.output, "arm", wanted, spec_of=spec_of, run=run, jobs=asked.jobs))


if __name__ == "__main__":
    main()
