"""Running an ablation: its lock, its data, its workers and its tracker around the grid of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from painvrl.core.errors import NothingFeasible, StudyError
from painvrl.core.wholefile import write_whole
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.data.digest import digest_of
from painvrl.study.ablation.spec import AblationSpec, cells_of, check_ablation
from painvrl.study.ablation.store import KeepRun, Tracked, load_tracked, save_tracked
from painvrl.study.ablation.table import AblationTable, make_table
from painvrl.study.progress import NullProgress, Progress, StudyStarted
from painvrl.study.runner import crew_of
from painvrl.study.runs.kept import KeptRun, RunStore, run_key
from painvrl.study.runs.seeded import Cell, SeededRuns
from painvrl.study.search.workers import Crew
from painvrl.study.store.lock import study_lock
from painvrl.study.store.records import TrialRecord, TrialState
from painvrl.study.tracking.port import DEFAULT_UI_URL, FinishedTrial, StudyHeader, Tracker
from painvrl.study.trial.objective import TrainingObjective


@dataclass(frozen=True, kw_only=True)
class AblationSummary:
    """What an ablation came to. ``folder``: where its table is. ``link`` shows its runs in MLflow's UI."""

    table: AblationTable
    folder: Path
    link: str | None


def run_ablation(
    spec: AblationSpec,
    workspace: Workspace,
    device: torch.device,
    *,
    workers: int = 1,
    memory_fraction: float | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
    ui_url: str = DEFAULT_UI_URL,
) -> AblationSummary:
    """Train what is missing of an ablation, and write its table.

    A run that failed is tried again by the next call; a complete one never.

    Args:
        spec: what to compare.
        workspace: where everything is kept.
        device: where to train; ``cuda`` without a number is all CUDA devices, dealt to the workers.
        workers: runs at a time.
        memory_fraction: of a CUDA device that each worker may use.
        progress: hears of every run.
        tracker: mirrors the ablation; MLflow by default.
        ui_url: where MLflow's UI will be served, for the link.

    Raises:
        UserError: the specification, the data, the workspace or the tracking store is not as it must be.
        NothingFeasible: no run is complete.
        KeyboardInterrupt: the user stopped it. What is complete is kept, and the same call goes on.
    """
    check_ablation(spec)
    settings = spec.ablation
    workspace.create()
    progress = progress or NullProgress()
    folder = workspace.ablations / settings.name
    store = RunStore(folder / "runs")
    cells = tuple(cells_of(spec))
    make = partial(
        TrainingObjective,
        cells[0].job.config,
        cache_dir=workspace.cache,
        share_pretrained=True,
        keep=KeepRun(store=store, metrics=settings.metrics, cutoff=settings.cutoff),
        resume_dir=workspace.unfinished,
    )
    with (
        study_lock(workspace.lock_path(f"ablation {settings.name}"), settings.name),
        crew_of(make, device, workers, memory_fraction) as crew,
    ):
        if tracker is None:
            from painvrl.study.tracking.mlflow_tracker import mlflow_tracker

            tracker = mlflow_tracker(workspace)
        grid = _Grid(spec, cells, store, crew, tracker, progress, folder / "tracking.json")
        grid.open()
        try:
            grid.run()
            table = make_table(spec, grid.complete, grid.failures)
            pages = {"table.md": table.as_markdown(), "table.json": table.as_json()}
            for name, text in pages.items():
                write_whole(folder / name, text, what="the table")
        except BaseException as error:
            with suppress(StudyError):  # the first error, or the interrupt, is the one to show
                tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        tracker.close("FINISHED" if grid.complete else "FAILED", pages=pages)
        if not grid.complete:
            last = next(reversed(grid.failures.values()))
            raise NothingFeasible(f"the ablation {settings.name!r} has no complete run; the last said {last}")
        return AblationSummary(table=table, folder=folder, link=tracker.link(ui_url))


@dataclass
class _Grid:
    """The runs of an ablation, and what a tracker and a later process are told of them."""

    spec: AblationSpec
    cells: Sequence[Cell]
    store: RunStore
    crew: Crew
    tracker: Tracker
    progress: Progress
    tracking: Path
    runs: SeededRuns = field(init=False)
    _tracked: Tracked = field(default_factory=lambda: Tracked(of=""))

    def __post_init__(self) -> None:
        self.runs = SeededRuns(
            store=self.store,
            crew=self.crew,
            tracker=self.tracker,
            progress=self.progress,
            key=self._key,
            measured=self.spec.measured(),
            tracked=self._keep_track,
            wanted=len(self.cells),
            width=max(len(cell.row) for cell in self.cells),
        )

    @property
    def complete(self) -> dict[tuple[str, int], KeptRun]:
        """Runs by row and seed."""
        return self.runs.complete

    @property
    def failures(self) -> dict[tuple[str, int], str]:
        """By row and seed why a run failed."""
        return self.runs.failures

    def open(self) -> None:
        """Find what is complete already, and tell tracker and listener where the ablation stands."""
        of = digest_of(self.spec.config.model_dump(mode="json"), self.crew.data.all_seeds)
        self._tracked = load_tracked(self.tracking, of)
        finished = [
            FinishedTrial(record=self._record(cell, run), job=cell.job)
            for cell, run in self.runs.find(self.cells)
        ]
        header = StudyHeader(
            name=self.spec.ablation.name,
            objectives=self.spec.measured(),
            yaml=dump_yaml(self.spec),
            data=self.crew.data,
            parent_run=self._tracked.parent_run,
            kind="ablation",
        )
        opened = self.tracker.open(header, finished)
        keys = {cell.job.number: self._key(cell) for cell in self.cells}
        moved = {keys[number]: run_id for number, run_id in opened.rewritten.items()}
        runs = {**self._tracked.runs, **moved}
        self._remember(replace(self._tracked, parent_run=opened.parent_run, runs=runs))
        self.progress.study_started(
            StudyStarted(
                study=self.spec.ablation.name,
                wanted=len(self.cells),
                finished=len(self.complete),
                resumed=bool(self.complete),
                reaped=(),
                data=self.crew.data,
            )
        )

    def run(self) -> None:
        """Train what is missing."""
        self.runs.train(self.cells)

    def _keep_track(self, cell: Cell, run_id: str | None) -> None:
        if run_id is not None:
            runs = {**self._tracked.runs, self._key(cell): run_id}
            self._remember(replace(self._tracked, runs=runs))

    def _key(self, cell: Cell) -> str:
        settings = self.spec.ablation
        return run_key(cell.job.config, self.crew.data, settings.metrics, settings.cutoff)

    def _record(self, cell: Cell, run: KeptRun) -> TrialRecord:
        return TrialRecord(
            number=cell.job.number,
            state=TrialState.COMPLETE,
            point=cell.job.point,
            values=None,
            outcome=run.outcome,
            run_id=self._tracked.runs.get(self._key(cell)),
            seconds=None,
            deaths=0,
        )

    def _remember(self, tracked: Tracked) -> None:
        self._tracked = tracked
        save_tracked(self.tracking, tracked)
