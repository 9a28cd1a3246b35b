"""Running an ablation: its lock, its data, its workers and its tracker around the grid of its runs.

    ablations/NAME/runs/KEY.npz    the outcome, and the table's metrics of every user
    ablations/NAME/tracking.json   its runs in the tracker
    ablations/NAME/table.md, table.json

A run's file (:mod:`painvrl.engine.saved`) is written by the process that trained it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from painvrl.core.errors import NothingFeasible
from painvrl.core.tables import Block, Result
from painvrl.core.wholefile import write_whole
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.data.digest import digest_of
from painvrl.engine.events import Progress
from painvrl.engine.executor import Placement, executor_of
from painvrl.engine.grid import Cell
from painvrl.engine.saved import RunStore, SavedRun, run_key
from painvrl.engine.training import TrainedJob, TrainingObjective
from painvrl.engine.user_value_store import user_values
from painvrl.evaluation.metrics import name as full_name
from painvrl.study.ablation.spec import AblationSpec, cells_of, check_ablation
from painvrl.study.ablation.table import AblationTable, make_table
from painvrl.study.store.lock import study_lock
from painvrl.study.tracked_grid import TrackedGrid
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker
from painvrl.study.tracking.port import DEFAULT_UI_URL, StudyHeader, Tracker


@dataclass(frozen=True, kw_only=True)
class AblationSummary(Result):
    """What an ablation came to. ``folder``: where its table is. ``link`` shows its runs in MLflow's UI."""

    table: AblationTable
    folder: Path
    link: str | None

    def blocks(self) -> Iterator[Block]:
        """The table, where it is written, and the link."""
        yield from self.table.blocks()
        yield f"table: {self.folder / 'table.md'}"
        if self.link:
            yield self.link

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return {**self.table.as_dict(), "folder": str(self.folder), "link": self.link}


@dataclass(frozen=True, kw_only=True)
class SaveRun:
    """Stores what a job came to, in the process that trained it."""

    store: RunStore
    metrics: tuple[str, ...]
    cutoff: int

    def __call__(self, trained: TrainedJob) -> None:
        """Score every user once more and write the run under the job's key."""
        (run,) = trained.under
        parts = run.prepared.valid_plan.parts
        names = [full_name(part.name, metric, self.cutoff) for part in parts for metric in self.metrics]
        values = user_values(run, names)
        kept = SavedRun(outcome=trained.outcome, users=values.users, values=values.values, means=values.means)
        self.store.store(trained.job.key, kept)


def run_ablation(
    spec: AblationSpec,
    workspace: Workspace,
    device: torch.device,
    *,
    workers: int = 1,
    memory_fraction: float | None = None,
    placement: Placement | None = None,
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
        placement: see :func:`painvrl.engine.executor.executor_of`.
        progress: is called on every run.
        tracker: mirrors the ablation; MLflow by default.
        ui_url: where MLflow's UI will be served, for the link.

    Raises:
        UserError: the specification, the data, the workspace or the tracking store is not as it must be.
        NothingFeasible: no run is complete.
        KeyboardInterrupt: the user stopped it. What is complete is kept, and the same call continues.
    """
    check_ablation(spec)
    settings = spec.ablation
    workspace.create()
    folder = workspace.ablations / settings.name
    cells = tuple(cells_of(spec))
    make = partial(
        TrainingObjective,
        cells[0].job.config,
        cache_dir=workspace.cache,
        share_pretrained=True,
        keep=SaveRun(store=RunStore(folder / "runs"), metrics=settings.metrics, cutoff=settings.cutoff),
        resume_dir=workspace.run_states,
    )
    with (
        study_lock(workspace.lock_path(f"ablation {settings.name}"), settings.name),
        executor_of(make, device, workers, memory_fraction, placement=placement) as executor,
    ):
        tracker = tracker or mlflow_tracker(workspace)
        data = executor.data

        def key(cell: Cell) -> str:
            return run_key(cell.job.config, data, settings.metrics, settings.cutoff)

        runs = TrackedGrid(
            header=StudyHeader(
                name=settings.name,
                objectives=spec.measured(),
                yaml=dump_yaml(spec),
                data=data,
                kind="ablation",
            ),
            of=digest_of(spec.config.deciding(), data.all_seeds),
            cells=cells,
            folder=folder,
            key=key,
            executor=executor,
            tracker=tracker,
            progress=progress or Progress(),
        )
        with runs.trained() as pages:
            table = make_table(
                spec, runs.grid.complete, {cell: str(why) for cell, why in runs.grid.failures.items()}
            )
            pages |= {"table.md": table.as_markdown(), "table.json": table.as_json()}
            for name, text in pages.items():
                write_whole(folder / name, text, what="the table")
        if not runs.grid.complete:
            last = next(reversed(runs.grid.failures.values()))
            raise NothingFeasible(f"the ablation {settings.name!r} has no complete run; the last said {last}")
        return AblationSummary(table=table, folder=folder, link=tracker.link(ui_url))
