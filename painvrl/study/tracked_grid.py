"""A grid of runs that a tracker mirrors: where it stands, and which run of the tracker is whose.

FOLDER/runs/KEY.npz    what each complete run came to (:mod:`painvrl.engine.saved`)
FOLDER/tracking.json   its runs in the tracker
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Generic

from pydantic import TypeAdapter

from painvrl.core.errors import StudyError
from painvrl.core.wholefile import write_whole
from painvrl.engine.events import Progress, StudyStarted
from painvrl.engine.executor import Executor
from painvrl.engine.grid import C, Grid
from painvrl.engine.saved import RunStore, SavedRun
from painvrl.study.store.records import TrialRecord, TrialState
from painvrl.study.tracking.port import FinishedTrial, StudyHeader, Tracker


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where a tracker has a grid: its own run, and those of complete runs by key.

    ``of``: digest of what the grid is about; another one is another grid to the tracker.
    """

    of: str
    parent_run: str | None = None
    runs: Mapping[str, str] = field(default_factory=dict)


def load_tracked(path: Path, of: str) -> Tracked:
    """What the file remembers of this grid; nothing if it cannot be read."""
    try:
        tracked = TypeAdapter(Tracked).validate_json(path.read_bytes())
    except (OSError, ValueError):
        return Tracked(of=of)
    return tracked if tracked.of == of else Tracked(of=of)


def save_tracked(path: Path, tracked: Tracked) -> None:
    """Write what a later process needs to find the runs again."""
    write_whole(path, json.dumps(asdict(tracked), indent=1), what="what the runs are tracked as")


@dataclass
class TrackedGrid(Generic[C]):
    """The runs of a grid, and what a tracker and a later process know of them.

    Attributes:
        header: what the tracker is given; its ``objectives`` are what progress reports.
        of: digest of what makes it one grid to the tracker.
        cells: in the order in which they are trained.
        folder: where it is kept.
        key: what a cell's run is kept under.
    """

    header: StudyHeader
    of: str
    cells: Sequence[C]
    folder: Path
    key: Callable[[C], str]
    executor: Executor
    tracker: Tracker
    progress: Progress
    grid: Grid[C] = field(init=False)
    _tracked: Tracked = field(init=False)

    def __post_init__(self) -> None:
        self._tracked = load_tracked(self._path, self.of)
        self.grid = Grid(
            store=RunStore(self.folder / "runs"),
            key=self.key,
            measured=self.header.objectives,
            keep_track=self._keep_track,
            requested=len(self.cells),
            width=max(len(cell.row) for cell in self.cells),
        )

    @contextmanager
    def trained(self) -> Iterator[dict[str, str]]:
        """Train what is missing; what is put into the pages inside is shown beside the runs.

        Raises:
            StudyError: a run's file or the tracker's store is not as it must be.
            KeyboardInterrupt: the user stopped it. What is complete is kept.
        """
        self._open()
        pages: dict[str, str] = {}
        try:
            self.grid.train(self.cells, self.executor, self.tracker, self.progress)
            yield pages
        except BaseException as error:
            with suppress(StudyError):  # the first error, or the interrupt, is the one to show
                self.tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self.tracker.close("FINISHED" if self.grid.complete else "FAILED", pages=pages)

    def _open(self) -> None:
        """Find what is complete already, and tell tracker and listener where the grid stands."""
        found = self.grid.find(self.cells)
        finished = [FinishedTrial(record=self._record(cell, run), job=cell.job) for cell, run in found]
        opened = self.tracker.open(replace(self.header, parent_run=self._tracked.parent_run), finished)
        keys = {cell.job.number: self.key(cell) for cell in self.cells}
        moved = {keys[number]: run_id for number, run_id in opened.rewritten.items()}
        runs = {**self._tracked.runs, **moved}
        self._remember(replace(self._tracked, parent_run=opened.parent_run, runs=runs))
        self.progress.study_started(
            StudyStarted(
                study=self.header.name,
                requested=len(self.cells),
                finished=len(found),
                resumed=bool(found),
                reaped=(),
                data=self.executor.data,
            )
        )

    def _keep_track(self, cell: C, run_id: str | None) -> None:
        if run_id is not None:
            self._remember(replace(self._tracked, runs={**self._tracked.runs, self.key(cell): run_id}))

    def _record(self, cell: C, run: SavedRun) -> TrialRecord:
        return TrialRecord(
            number=cell.job.number,
            state=TrialState.COMPLETE,
            point=cell.job.point,
            outcome=run.outcome,
            run_id=self._tracked.runs.get(self.key(cell)),
        )

    @property
    def _path(self) -> Path:
        return self.folder / "tracking.json"

    def _remember(self, tracked: Tracked) -> None:
        self._tracked = tracked
        save_tracked(self._path, tracked)
