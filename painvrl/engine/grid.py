"""Configurations under seeds: a source of jobs that trains what is missing of such a grid.

An ablation is one grid, and so are the baselines; the confirmation of a front adds to its grid as it learns.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from painvrl.core.errors import StudyError
from painvrl.engine.events import Progress, Standing
from painvrl.engine.executor import Executor
from painvrl.engine.job import Job
from painvrl.engine.loop import MAX_DEATHS, Death, Task, Tracker, deaths_after, run_jobs
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned
from painvrl.engine.saved import RunStore, SavedRun


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A run of the grid: a row's configuration under a seed. Its job has a number of its own."""

    row: str
    seed: int
    job: Job


C = TypeVar("C", bound=Cell)


def _do_nothing(*_: object) -> None:
    """Whoever trains a run keeps it; no one asks for the tracker's runs."""


@dataclass(kw_only=True)
class Grid(Generic[C]):
    """The runs of a grid: what is complete, what failed, and what is still to be trained.

    Attributes:
        store: where complete runs are.
        key: what a cell's run is kept under.
        measured: names of the metrics that progress reports.
        keep_run: called first when a run completes; afterwards it is in the store.
        keep_track: called last when a run completes, with its run in the tracker.
        requested: runs in all, as far as is known.
        width: of the rows' names, for the titles.
        complete: runs by row and seed.
        failures: by row and seed why a run failed.
    """

    store: RunStore
    key: Callable[[C], str]
    measured: Sequence[str]
    keep_run: Callable[[C, Completed], None] = _do_nothing
    keep_track: Callable[[C, str | None], None] = _do_nothing
    requested: int = 0
    width: int = 0
    complete: dict[tuple[str, int], SavedRun] = field(default_factory=dict)
    failures: dict[tuple[str, int], Failed] = field(default_factory=dict)
    _waiting: deque[C] = field(default_factory=deque)
    _cells: dict[int, C] = field(default_factory=dict)
    _deaths: Counter[int] = field(default_factory=Counter)
    _runs: dict[int, str | None] = field(default_factory=dict)

    def find(self, cells: Iterable[C]) -> tuple[tuple[C, SavedRun], ...]:
        """Which of the cells are in the store; they are complete from now on."""
        found = []
        for cell in cells:
            if (run := self.store.load(self.key(cell))) is not None:
                self.complete[cell.row, cell.seed] = run
                found.append((cell, run))
        return tuple(found)

    def train(self, cells: Iterable[C], executor: Executor, tracker: Tracker, progress: Progress) -> None:
        """Train what is not complete of the cells.

        Raises:
            StudyError: a run's file or the tracker's store is not as it must be.
            KeyboardInterrupt: the user stopped it; what is complete is kept.
        """
        missing = [cell for cell in cells if (cell.row, cell.seed) not in self.complete]
        self._cells = {cell.job.number: cell for cell in missing}
        self._waiting = deque(missing)
        run_jobs(self, executor, tracker, progress)

    def finished(self) -> int:
        """Complete and failed runs."""
        return len(self.complete) + len(self.failures)

    def next(self, under_way: int) -> Task | None:
        """The next cell, in their order."""
        if not self._waiting:
            return None
        cell = self._waiting.popleft()
        job = replace(cell.job, key=self.key(cell), run_id=self._runs.get(cell.job.number))
        return Task(number=job.number, point=job.point, job=job, title=self._title(cell))

    def started(self, task: Task, run_id: str | None) -> None:
        """Its run is remembered for the case that it comes again."""
        self._runs[task.number] = run_id

    def got_on(self, task: Task, death: Death) -> None:
        """Whoever runs the grid hears of deaths alone."""

    def judge(self, number: int, rung: str, values: Mapping[str, float]) -> str | None:
        """Runs that are compared are not pruned."""
        return None

    def retry(self, task: Task, death: Death) -> bool:
        """The same cell comes next, unless too many processes died over it."""
        self._deaths[task.number] = deaths_after(self._deaths[task.number], death)
        if self._deaths[task.number] >= MAX_DEATHS:
            return False
        self._waiting.appendleft(self._cells[task.number])
        return True

    def keep(self, task: Task, outcome: Outcome) -> None:
        """A complete run has its file; a failed one its reason, until the next call tries it again."""
        cell = self._cells[task.number]
        assert not isinstance(outcome, Pruned), "runs that are compared are not pruned"
        if isinstance(outcome, Failed):
            self.failures[cell.row, cell.seed] = outcome
            return
        self.keep_run(cell, outcome)
        kept = self.store.load(self.key(cell))
        if kept is None:
            raise StudyError("the run's file is gone", file=self.store.folder, key=self._title(cell))
        self.complete[cell.row, cell.seed] = kept

    def tracked(self, task: Task, run_id: str | None) -> None:
        """Note the tracker's run of a complete one."""
        cell = self._cells[task.number]
        if (cell.row, cell.seed) in self.complete:
            self.keep_track(cell, run_id)

    def interrupted(self, task: Task) -> None:
        """The next call trains it."""

    def objectives(self) -> Sequence[str]:
        """The metrics that are measured."""
        return self.measured

    def standing(self, number: int) -> Standing:
        """A grid has no front."""
        return Standing()

    def _title(self, cell: C) -> str:
        return f"{cell.row:<{self.width}} seed {cell.seed}"
