"""Configurations under seeds: training what is missing of such a grid, a run at a time or several.

An ablation is one grid; the confirmation of a front adds to its grid as it learns.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from painvrl.core.errors import StudyError
from painvrl.study.progress import Progress, TrialFinished, TrialStarted
from painvrl.study.runs.kept import KeptRun, RunStore
from painvrl.study.search.asktell import MAX_DEATHS
from painvrl.study.search.workers import Crew
from painvrl.study.tracking.port import Tracker
from painvrl.study.trial.objective import TrialJob
from painvrl.study.trial.outcomes import WORKER_DIED, Completed, Failed, Outcome, Pruned


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A run of the grid: a row's configuration under a seed. Its job has a number of its own."""

    row: str
    seed: int
    job: TrialJob


def _do_nothing(*_: object) -> None:
    """Whoever trains a run keeps it; nobody asks for the tracker's runs."""


@dataclass(frozen=True, kw_only=True)
class _UnderWay:
    cell: Cell
    start: float
    run_id: str | None


@dataclass(kw_only=True)
class SeededRuns:
    """The runs of a grid: what is complete, what failed, and how the rest is trained.

    Attributes:
        store: where complete runs are.
        crew, tracker, progress: who trains, mirrors and hears of it.
        key: what a cell's run is kept under.
        measured: names of the metrics that progress is told.
        keep: called first when a run completes; afterwards it is in the store.
        tracked: called last when a run completes, with its run in the tracker.
        wanted: runs in all, as far as is known.
        width: of the rows' names, for the titles.
        complete: runs by row and seed.
        failures: by row and seed why a run failed.
    """

    store: RunStore
    crew: Crew
    tracker: Tracker
    progress: Progress
    key: Callable[[Cell], str]
    measured: Sequence[str]
    keep: Callable[[Cell, Completed], None] = _do_nothing
    tracked: Callable[[Cell, str | None], None] = _do_nothing
    wanted: int = 0
    width: int = 0
    complete: dict[tuple[str, int], KeptRun] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    _under_way: dict[int, _UnderWay] = field(default_factory=dict)
    _deaths: Counter[int] = field(default_factory=Counter)

    def find(self, cells: Iterable[Cell]) -> tuple[tuple[Cell, KeptRun], ...]:
        """Which of the cells are in the store; they are complete from now on."""
        found = []
        for cell in cells:
            if (run := self.store.load(self.key(cell))) is not None:
                self.complete[cell.row, cell.seed] = run
                found.append((cell, run))
        return tuple(found)

    def train(self, cells: Iterable[Cell]) -> None:
        """Train what is not complete of the cells; what is under way at an error is interrupted.

        Raises:
            StudyError: a run's file or the tracker's store is not as it must be.
            KeyboardInterrupt: the user stopped it; what is complete is kept.
        """
        waiting = deque(cell for cell in cells if (cell.row, cell.seed) not in self.complete)
        try:
            while waiting or self._under_way:
                while waiting and len(self._under_way) < self.crew.size:
                    self._start(waiting.popleft())
                number, outcome = self.crew.next(self.progress.trial_stage)
                if again := self._end(number, outcome):
                    waiting.appendleft(again)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                for one in self._under_way.values():
                    with suppress(StudyError):  # an interrupt stays one
                        self.tracker.kill(one.run_id)
            raise

    def _start(self, cell: Cell) -> None:
        start = time.perf_counter()
        self.progress.trial_started(
            TrialStarted(
                number=cell.job.number,
                point=cell.job.point,
                finished=self._finished,
                wanted=self.wanted,
                others=len(self._under_way),
                title=self._title(cell),
            )
        )
        run_id = self.tracker.start(cell.job)
        self._under_way[cell.job.number] = _UnderWay(cell=cell, start=start, run_id=run_id)
        self.crew.start(replace(cell.job, key=self.key(cell)))

    def _end(self, number: int, outcome: Outcome) -> Cell | None:
        """Take in what a run came to; the cell if it is to be tried again."""
        ended = self._under_way[number]
        cell, again = ended.cell, False
        assert not isinstance(outcome, Pruned), "runs that are compared are not pruned"
        if isinstance(outcome, Completed):
            self._complete(ended, outcome)
        elif outcome.reason == WORKER_DIED and self._deaths[number] + 1 < MAX_DEATHS:
            self._deaths[number] += 1
            again = True
            outcome = replace(outcome, message=f"{outcome.message}; it is tried again")
            self.tracker.kill(ended.run_id)
        else:
            self.failures[cell.row, cell.seed] = f"{outcome.reason}: {outcome.message}"
            self.tracker.finish(ended.run_id, cell.job, outcome)
        del self._under_way[number]
        self._report(cell, outcome, time.perf_counter() - ended.start)
        return cell if again else None

    def _complete(self, ended: _UnderWay, outcome: Completed) -> None:
        """It is stored before the tracker, which can be mended, hears of it."""
        cell = ended.cell
        self.keep(cell, outcome)
        kept = self.store.load(self.key(cell))
        if kept is None:
            raise StudyError("the run's file is gone", file=self.store.folder, key=self._title(cell))
        self.complete[cell.row, cell.seed] = kept
        self.tracker.finish(ended.run_id, cell.job, outcome)
        self.tracked(cell, ended.run_id)

    def _report(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        values = None
        if not isinstance(outcome, Failed):
            values = {name: outcome.metrics[name] for name in self.measured}
        self.progress.trial_finished(
            TrialFinished(
                number=cell.job.number,
                outcome=outcome,
                values=values,
                seconds=seconds,
                finished=self._finished,
                wanted=self.wanted,
                on_front=0,
                front_size=0,
                title=self._title(cell),
            )
        )

    @property
    def _finished(self) -> int:
        return len(self.complete) + len(self.failures)

    def _title(self, cell: Cell) -> str:
        return f"{cell.row:<{self.width}} seed {cell.seed}"
