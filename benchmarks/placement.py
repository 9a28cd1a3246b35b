"""How busy one process keeps many GPUs: ``python -m benchmarks.placement --gpus 64 --seconds 30``.

A study as `painvrl study run` runs it, with its sampler, storage, MLflow, rungs and swept points. The
trainings alone are simulated: each takes its seconds on a clock that jumps to the next end, and none is
stopped at a rung. What the process itself computes between two ends passes on that clock, too, as it takes
it here. So a GPU is idle for as long as it would wait for its next trial.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from painvrl.core.workspace import Workspace
from painvrl.engine.executor import OnJobRung, OnStage, goes_on
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.outcomes import Completed, CurvePoint, Outcome, SweptPoint
from painvrl.study import runner
from painvrl.study.file.spec import StudySpec, load_spec

ROOT = Path(__file__).parent.parent
STAGES = ("pretrain", "environments", "mask", "invariant", "variant", "evaluate")
METRICS = ("iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20")
POINTS = 20
"""Of a swept training, about as many as `studies/movielens.yaml` keeps of one."""


@dataclass
class SimulatedGpus:
    """An executor whose jobs end on a clock of its own.

    Attributes:
        seconds: that a training takes, give or take a fifth.
        now: of the simulated clock.
        spans: when each training began and ended.
    """

    size: int
    seconds: float
    now: float = 0.0
    spans: list[tuple[float, float]] = field(default_factory=list)
    data: DataSummary = field(
        default_factory=lambda: DataSummary(fingerprint="simulated", parts=("iid", "ood"))
    )
    _ends: list[tuple[float, int]] = field(default_factory=list)
    _jobs: dict[int, Job] = field(default_factory=dict)
    _rng: random.Random = field(default_factory=lambda: random.Random(0))
    _left: float = field(default_factory=time.process_time)

    def start(self, job: Job) -> None:
        """The job takes a GPU now."""
        self._pass()
        end = self.now + self.seconds * self._rng.uniform(0.8, 1.2)
        heapq.heappush(self._ends, (end, job.number))
        self._jobs[job.number] = job
        self.spans.append((self.now, end))

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome]:
        """The first job to end; the clock jumps there if it has not passed it."""
        self._pass()
        end, number = heapq.heappop(self._ends)
        job = self._jobs.pop(number)
        self.now = max(self.now, end)
        for stage in STAGES:
            on_stage(number, stage)
        for rung in sorted(job.rungs):
            on_rung(number, rung, self._metrics())
        return number, self._outcome(job)

    def busy(self) -> float:
        """The share of the GPUs' time that was used, from the start of the first job to that of the last."""
        first, last = self.spans[0][0], self.spans[-1][0]
        used = sum(min(end, last) - start for start, end in self.spans)
        return used / (self.size * (last - first))

    def _pass(self) -> None:
        """What the process has computed since passes on the simulated clock."""
        now = time.process_time()
        self.now, self._left = self.now + now - self._left, now

    def _metrics(self) -> dict[str, float]:
        """Near a front: IID is given for OOD."""
        angle, length = self._rng.uniform(0.0, math.pi / 2), self._rng.uniform(0.9, 1.0)
        iid, ood = 0.25 * length * math.cos(angle), 0.2 * length * math.sin(angle)
        return dict(zip(METRICS, (1.1 * iid, iid, 1.1 * ood, ood), strict=True))

    def _outcome(self, job: Job) -> Completed:
        swept = {} if job.sweep is None else job.sweep.hyperparameters
        points = tuple(
            SweptPoint(
                values={path: self._rng.uniform(each.low, each.high) for path, each in swept.items()},
                metrics=self._metrics(),
            )
            for _ in range(POINTS if swept else 0)
        )
        curves = tuple(
            CurvePoint(curve=stage, step=step, values=self._metrics())
            for stage in STAGES
            for step in range(8)
        )
        return Completed(
            metrics=points[0].metrics if points else self._metrics(),
            points=points,
            curves=curves,
            seconds=dict.fromkeys(STAGES, self.seconds / len(STAGES)),
        )


def simulate(spec: StudySpec, folder: Path, gpus: int, seconds: float, trials: int) -> SimulatedGpus:
    """A study of so many trials on so many GPUs."""
    simulated = SimulatedGpus(size=gpus, seconds=seconds)

    @contextmanager
    def executor_of(*_: Any, **__: Any) -> Iterator[SimulatedGpus]:
        yield simulated

    with mock.patch.object(runner, "executor_of", executor_of):
        runner.run_study(spec, Workspace(folder), torch.device("cpu"), trials=trials, workers=gpus)
    return simulated


def main() -> None:
    """Print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", default=ROOT / "studies" / "movielens.yaml")
    parser.add_argument("--gpus", type=int, nargs="+", default=[64])
    parser.add_argument("--seconds", type=float, default=30.0, help="of a training, give or take a fifth")
    parser.add_argument("--rounds", type=int, default=10, help="trials of each GPU")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as in study run")
    asked = parser.parse_args()
    spec = load_spec(asked.study, asked.set)
    for gpus in asked.gpus:
        with tempfile.TemporaryDirectory() as folder:
            trials = gpus * asked.rounds
            found = simulate(spec, Path(folder), gpus, asked.seconds, trials)
        print(f"{gpus} GPUs, {trials} trials of {asked.seconds:g} s: {found.busy():.1%} busy")


if __name__ == "__main__":
    main()
