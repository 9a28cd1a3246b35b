"""Is a swept front better under fresh seeds, too? ``python -m benchmarks.fresh_fronts --keep FOLDER``.

Reads the studies that ``python -m benchmarks.sweeps --keep FOLDER`` kept. Both fronts of a sampler seed are
those at equal wall time, the shorter study's end. Their trainings run again under fresh seeds, which are
splits and initialisations, with every setting frozen: nothing is swept again. A front's points are then worth
their means over the fresh seeds, and its hypervolume is that of the means.

Every sampler seed has fresh seeds of its own, so the 95% interval over sampler seeds covers both kinds of
luck. Reads valid parts only.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.common import paired_interval
from benchmarks.machine import describe, write_results
from benchmarks.sweeps import ROOT, WAYS, workspace_of
from painvrl.core.workspace import Workspace
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed
from painvrl.engine.sweep import Sweep
from painvrl.engine.training import TrainingObjective
from painvrl.stats.dominance import hypervolume
from painvrl.study.report.history import history
from painvrl.study.search.pruner import axes_by_part
from painvrl.study.store.records import FINISHED, TrialRecord, front_of
from painvrl.study.store.storage import StoredStudy, open_study

SWEPT, ONE_VALUE = WAYS
FIRST_FRESH, APART = 1000, 10
"""The fresh seeds of sampler seed ``s`` begin at ``FIRST_FRESH + APART * s``."""


def records_by(study: StoredStudy, seconds: float) -> list[TrialRecord]:
    """The trials that were finished by then, were they trained one after another."""
    spent, found = 0.0, []
    for record in study.trials():
        if record.state in FINISHED:
            spent += record.seconds or 0.0
        if spent <= seconds:
            found.append(record)
    return found


def worth(
    study: StoredStudy, records: Sequence[TrialRecord], seeds: Sequence[int], cache: Path
) -> dict[str, Any]:
    """The front of these records, and what its hypervolume is under the fresh seeds."""
    front = front_of(records)
    of_trial: dict[int, list[TrialRecord]] = defaultdict(list)
    for point in front:
        of_trial[point.number].append(point)
    values: dict[str, list[list[float]]] = defaultdict(list)
    device = torch.device("cpu")
    for seed in seeds:
        config = study.config.model_copy(update={"seed": seed})
        objective = TrainingObjective(config, cache_dir=cache, device=device)
        for number, points in of_trial.items():
            for point, metrics in zip(points, retrained(study, objective, number, points, seed), strict=True):
                values[point.name].append([metrics[name] for name in study.objectives])
    means = [[fmean(column) for column in zip(*of_seeds, strict=True)] for of_seeds in values.values()]
    return {
        "points": len(front),
        "trainings": len(of_trial),
        "found": hypervolume([list(point.values or ()) for point in front]),
        "fresh": hypervolume(means),
    }


def retrained(
    study: StoredStudy, objective: TrainingObjective, number: int, points: Sequence[TrialRecord], seed: int
) -> list[Mapping[str, float]]:
    """The metrics of some points of one training under a seed."""
    config = study.config_of(study.trials()[number]).model_copy(update={"seed": seed})
    job = Job(number=number, point={}, config=config)
    swept = points[0].place is not None
    if swept:
        outcome = study.trials()[number].outcome
        assert isinstance(outcome, Completed)
        plan = Sweep(hyperparameters={}, objectives=study.objectives, axes=axes_by_part(study.objectives))
        at = tuple(outcome.points[point.place or 0].values for point in points)
        job = Job(number=number, point={}, config=config, sweep=plan, at=at)
    found = objective(job, lambda _: None, lambda *_: None)
    if not isinstance(found, Completed):
        raise SystemExit(f"trial {number} under seed {seed}: {found}")
    return [one.metrics for one in found.points] if swept else [found.metrics]


def measure(keep: Path, seed: int, count: int, cache: Path) -> dict[str, Any]:
    """A row: both fronts of a sampler seed."""
    studies = {}
    for way in WAYS:
        workspace = Workspace(workspace_of(keep, seed, way))
        studies[way] = open_study(None, workspace)
    seconds = min(history(study.trials())[-1].seconds for study in studies.values())
    first = FIRST_FRESH + APART * seed
    fresh = range(first, first + count)
    row: dict[str, Any] = {"seed": seed, "seconds": seconds, "fresh seeds": list(fresh)}
    for way, study in studies.items():
        row[way] = worth(study, records_by(study, seconds), fresh, cache)
    quarter = records_by(studies[SWEPT], seconds / 4)
    row["swept, a quarter of the time"] = worth(studies[SWEPT], quarter, fresh, cache)
    return row


def main() -> None:
    """Measure, print, and write ``results/fresh_fronts.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", type=Path, default=ROOT / "workspace" / "sweeps", help="as in benchmarks.sweeps"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="of the sampler")
    parser.add_argument("--fresh", type=int, default=2, choices=range(1, APART + 1), metavar="1..10")
    parser.add_argument("--cache", type=Path, default=ROOT / "workspace" / "cache", help="of prepared data")
    parser.add_argument("--results", default="fresh_fronts", help="name of the file in results/")
    asked = parser.parse_args()
    machine, rows = describe(), []
    for seed in asked.seeds:
        rows.append(measure(asked.keep, seed, asked.fresh, asked.cache))
        print(rows[-1], flush=True)
        path = write_results(asked.results, {"rows": rows}, machine=machine)
    for way in (SWEPT, "swept, a quarter of the time"):
        gaps = paired_interval([row[way]["fresh"] for row in rows], [row[ONE_VALUE]["fresh"] for row in rows])
        print(f"{way} less {ONE_VALUE}: {gaps[0]:.3e} [{gaps[1]:.3e}, {gaps[2]:.3e}]")
    print(path)


if __name__ == "__main__":
    main()
