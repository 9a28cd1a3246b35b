"""Running an ablation: its lock, its data, its workers and its tracker around the grid of its runs."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from painvrl.data.digest import digest_of
from painvrl.errors import NothingFeasible, StudyError
from painvrl.study.ablation.spec import AblationSpec, Cell, cells_of, check_ablation
from painvrl.study.ablation.store import (
    KeepRun,
    KeptRun,
    RunStore,
    Tracked,
    load_tracked,
    run_key,
    save_tracked,
    write_text,
)
from painvrl.study.ablation.table import AblationTable, make_table
from painvrl.study.asktell import MAX_DEATHS
from painvrl.study.lock import study_lock
from painvrl.study.objective import TrainingObjective
from painvrl.study.outcomes import WORKER_DIED, Completed, Failed, Outcome, Pruned
from painvrl.study.progress import NullProgress, Progress, StudyStarted, TrialFinished, TrialStarted
from painvrl.study.records import TrialRecord, TrialState
from painvrl.study.runner import crew_of
from painvrl.study.tracking import DEFAULT_UI_URL, FinishedTrial, StudyHeader, Tracker
from painvrl.study.workers import Crew
from painvrl.workspace import Workspace
from painvrl.yamlfile import dump_yaml


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
            from painvrl.study.mlflow_tracker import mlflow_tracker

            tracker = mlflow_tracker(workspace)
        grid = _Grid(spec, cells, store, crew, tracker, progress, folder / "tracking.json")
        grid.open()
        try:
            grid.run()
            table = make_table(spec, grid.complete, grid.failures)
            pages = {"table.md": table.as_markdown(), "table.json": table.as_json()}
            for name, text in pages.items():
                write_text(folder / name, text)
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
class _UnderWay:
    cell: Cell
    start: float
    run_id: str | None


@dataclass
class _Grid:
    """The runs of an ablation: what is complete, what failed, and what is still to be trained."""

    spec: AblationSpec
    cells: Sequence[Cell]
    store: RunStore
    crew: Crew
    tracker: Tracker
    progress: Progress
    tracking: Path
    complete: dict[tuple[str, int], KeptRun] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    _under_way: dict[int, _UnderWay] = field(default_factory=dict)
    _deaths: Counter[int] = field(default_factory=Counter)
    _tracked: Tracked = field(default_factory=lambda: Tracked(of=""))

    def open(self) -> None:
        """Find what is complete already, and tell tracker and listener where the ablation stands."""
        of = digest_of(self.spec.config.model_dump(mode="json"), self.crew.data.all_seeds)
        self._tracked = load_tracked(self.tracking, of)
        finished = []
        for cell in self.cells:
            if (run := self.store.load(self._key(cell))) is not None:
                self.complete[cell.row, cell.seed] = run
                finished.append(FinishedTrial(record=self._record(cell, run), job=cell.job))
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
        """Train what is missing; what is under way at an error is interrupted."""
        waiting = deque(cell for cell in self.cells if (cell.row, cell.seed) not in self.complete)
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
                wanted=len(self.cells),
                others=len(self._under_way),
                title=self._title(cell),
            )
        )
        self._under_way[cell.job.number] = _UnderWay(cell, start, self.tracker.start(cell.job))
        self.crew.start(replace(cell.job, key=self._key(cell)))

    def _end(self, number: int, outcome: Outcome) -> Cell | None:
        """Take in what a run came to; the cell if it is to be tried again."""
        ended = self._under_way[number]
        cell, again = ended.cell, False
        assert not isinstance(outcome, Pruned), "an ablation's runs are not pruned"
        if isinstance(outcome, Completed):
            self._keep(ended, outcome)
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

    def _keep(self, ended: _UnderWay, outcome: Completed) -> None:
        """Its own process has stored the run already; the tracker, which can be mended, comes after that."""
        cell = ended.cell
        kept = self.store.load(self._key(cell))
        if kept is None:
            raise StudyError("the run's file is gone", file=self.store.folder, key=self._title(cell))
        self.complete[cell.row, cell.seed] = kept
        self.tracker.finish(ended.run_id, cell.job, outcome)
        if ended.run_id is not None:
            runs = {**self._tracked.runs, self._key(cell): ended.run_id}
            self._remember(replace(self._tracked, runs=runs))

    def _report(self, cell: Cell, outcome: Outcome, seconds: float) -> None:
        values = None
        if not isinstance(outcome, Failed):
            values = {name: outcome.metrics[name] for name in self.spec.measured()}
        self.progress.trial_finished(
            TrialFinished(
                number=cell.job.number,
                outcome=outcome,
                values=values,
                seconds=seconds,
                finished=self._finished,
                wanted=len(self.cells),
                on_front=False,
                front_size=0,
                title=self._title(cell),
            )
        )

    @property
    def _finished(self) -> int:
        return len(self.complete) + len(self.failures)

    def _key(self, cell: Cell) -> str:
        settings = self.spec.ablation
        return run_key(cell.job.config, self.crew.data, settings.metrics, settings.cutoff)

    def _title(self, cell: Cell) -> str:
        width = max(len(each.row) for each in self.cells)
        return f"{cell.row:<{width}} seed {cell.seed}"

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
