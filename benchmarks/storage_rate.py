"""Asks and tells a second of a study's database, by so many processes at once that train nothing.

    python -m benchmarks.storage_rate --storage postgresql://... --runners 1 2 4 --trials 200

Each round makes a study of its own, of random points, and leaves it there. The figures say nothing while
anything else computes on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import uuid
from multiprocessing.synchronize import Barrier
from pathlib import Path

from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.budget import Budget
from painvrl.study.search.source import StudySource
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.port import NullTracker

DONE = Completed(metrics={"iid/ndcg_at_20": 0.2, "ood/ndcg_at_20": 0.1})


def spec_of(name: str, storage: str | None, trials: int) -> StudySpec:
    """A study of two hyperparameters."""
    return StudySpec.model_validate(
        {
            "study": {"name": name, "storage": storage, "trials": trials, "sampler": "random"},
            "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
            "config": {"data": {"kind": "planted"}, "split": {"protocol": "planted"}},
            "presets": [],
            "pruning": False,
            "space": {
                "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9},
                "mask.irm_weight": {"type": "float", "low": 0.1, "high": 100.0, "log": True},
            },
        }
    )


def work(spec: StudySpec, workspace: Workspace, start: Barrier | None = None) -> None:
    """Ask and tell until all trials are there."""
    stored = open_study(spec, workspace)
    adapter = AskTell(stored, spec.study)
    budget = Budget(trials=spec.study.trials)
    source = StudySource(stored=stored, adapter=adapter, tracker=NullTracker(), budget=budget)
    if start is not None:
        start.wait()
    with adapter.leases.renewed():
        while (task := source.next(0)) is not None:
            source.keep(task, DONE)


def seconds_of(storage: str | None, workspace: Workspace, trials: int, runners: int) -> float:
    """Wall time of a study of ``trials`` that ``runners`` processes share; one works in this process."""
    spec = spec_of(f"rate-{uuid.uuid4().hex[:8]}", storage, trials)
    create_study(spec, workspace, data="rate")
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(runners)
    others = [context.Process(target=work, args=(spec, workspace, start)) for _ in range(runners - 1)]
    for other in others:
        other.start()
    if others:
        start.wait()  # all have loaded their libraries
    begun = time.perf_counter()
    work(spec, workspace)
    for other in others:
        other.join()
    seconds = time.perf_counter() - begun
    records = open_study(spec, workspace).trials()
    assert [record.state for record in records] == [TrialState.COMPLETE] * trials
    return seconds


def main() -> None:
    """Print a line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--storage", help="a PostgreSQL's URL; by default a SQLite file, for one process")
    parser.add_argument("--runners", type=int, nargs="+", default=[1])
    parser.add_argument("--trials", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder)).create()
        for runners in given.runners:
            seconds = seconds_of(given.storage, workspace, given.trials, runners)
            rate = given.trials / seconds
            print(f"{runners} processes: {rate:.1f} asks and as many tells a second ({seconds:.1f} s)")


if __name__ == "__main__":
    main()
