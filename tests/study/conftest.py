"""Studies whose trials cost nothing: a formula instead of a training."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sqlalchemy import event
from sqlalchemy.engine import Engine

from painvrl.core.workspace import Workspace
from painvrl.engine.events import StudyStarted, TrialFinished, TrialStarted
from painvrl.engine.job import DataSummary, Job, OnRung
from painvrl.engine.outcomes import Completed, CurvePoint, Failed, Outcome, SweptPoint
from painvrl.engine.sweep import Sweep, reported
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import apply
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import StudySummary, run_study
from painvrl.study.store.records import TrialRecord, TrialState
from painvrl.study.tracking.port import FinishedTrial, NullTracker, Opened, Status, StudyHeader, Tracker

CPU = torch.device("cpu")

Tree = dict[str, dict[str, object]]


@event.listens_for(Engine, "connect")
def _without_waiting_for_the_disk(connection: object, _: object) -> None:
    """Tests kill processes, not machines: what SQLite handed to the system is safe."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def spec_tree(tiny_settings: dict[str, object]) -> Tree:
    """A study's file as plain values."""
    return {
        "study": {"name": "toy", "trials": 4, "startup_trials": 2, "sampler": "tpe"},
        "presets": [],  # type: ignore[dict-item]
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],  # type: ignore[dict-item]
        "config": {**tiny_settings, "mask": {"sparsity": 0.5, "irm_weight": 1.0}},
        "space": {
            "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9},
            "mask.irm_weight": {"type": "float", "low": 0.1, "high": 100.0, "log": True},
            "environments.count": {"type": "int", "low": 2, "high": 8},
            "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
        },
        "pruning": False,  # type: ignore[dict-item]
    }


@pytest.fixture
def spec(spec_tree: Tree) -> StudySpec:
    """A study over four hyperparameters."""
    return StudySpec.model_validate(spec_tree)


@pytest.fixture(scope="session")
def empty_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with tables and no study: making the tables costs more than most tests."""
    from painvrl.study.store.database import connect

    workspace = Workspace(tmp_path_factory.mktemp("optuna")).create()
    connect(workspace.storage_url)
    return workspace.optuna_db


@pytest.fixture
def workspace(tmp_path: Path, empty_storage: Path) -> Workspace:
    """A workspace with an empty storage."""
    made = Workspace(tmp_path / "workspace").create()
    shutil.copy(empty_storage, made.optuna_db)
    return made


def metrics_of(job: Job) -> dict[str, float]:
    """A trade-off along sparsity, with a bend that the IRM weight makes."""
    sparsity, weight = job.config.mask.sparsity, job.config.mask.irm_weight
    iid = 0.3 * (1 - sparsity**2) + 0.001 * weight**0.25
    ood = 0.2 * sparsity + 0.002 * weight**0.25
    return {
        f"{part}/{metric}_at_{k}": value * scale * k / 20
        for part, value in (("iid", iid), ("ood", ood))
        for metric, scale in (("recall", 1.1), ("ndcg", 1.0), ("precision", 0.1))
        for k in (10, 20)
    }


@dataclass
class Formula:
    """An objective; ``script`` says what happens to trials instead, by the order in which they come."""

    script: Mapping[int, Outcome | BaseException | Callable[[], object]] = field(default_factory=dict)
    data: DataSummary = field(default=DataSummary(fingerprint="planted-1"))
    jobs: list[Job] = field(default_factory=list)

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        place = len(self.jobs)
        self.jobs.append(job)
        on_stage("pretrain")
        act = self.script.get(place)
        if isinstance(act, BaseException):
            raise act
        if callable(act):
            act()
        elif act is not None:
            return act
        return Completed(
            metrics=metrics_of(job),
            rounds=({"environments/size_1": 30.0, "mask/density": 0.6}, {"environments/size_1": 20.0}),
            curves=(CurvePoint(curve="pretrain", step=3, values={"loss": 0.5, "iid/ndcg_at_20": 0.1}),),
            seconds={"pretrain": 1.5, "mask": 0.5},
            epochs={"pretrain": 12},
        )

    def points(self) -> list[dict[str, object]]:
        """The points it was asked for, in order."""
        return [dict(job.point) for job in self.jobs]


@dataclass
class Diary:
    """A tracker and a listener that write everything down."""

    events: list[tuple[object, ...]] = field(default_factory=list)
    started: list[StudyStarted] = field(default_factory=list)
    trials: list[TrialFinished] = field(default_factory=list)
    front: dict[str, bool] = field(default_factory=dict)

    def open(
        self, header: StudyHeader, finished: Sequence[FinishedTrial], under_way: Collection[str] = ()
    ) -> Opened:
        self.events.append(("open", header.parent_run, [trial.record.number for trial in finished]))
        return Opened(parent_run="parent")

    def start(self, job: Job) -> str | None:
        self.events.append(("start", job.number))
        return f"run-{job.number}"

    def finish(self, run_id: str | None, job: Job, outcome: Outcome, **_: object) -> None:
        self.events.append(("finish", run_id, type(outcome).__name__))

    def kill(self, run_id: str | None) -> None:
        self.events.append(("kill", run_id))

    def mark_front(self, membership: Mapping[str, bool]) -> None:
        self.front = dict(membership)

    def points(
        self, trainings: Sequence[TrialRecord], front: Collection[str], config_of: object
    ) -> Mapping[str, str]:
        self.events.append(("points", [training.number for training in trainings], sorted(front)))
        return {name: f"run-{name}" for name in front if "." in name}

    def close(self, status: Status, **_: object) -> None:
        self.events.append(("close", status))

    def link(self, base_url: str) -> str | None:
        return f"{base_url}/front"

    def run_pages(self, base_url: str) -> str | None:
        return f"{base_url}/runs/"

    def study_started(self, event: StudyStarted) -> None:
        self.started.append(event)

    def trial_started(self, event: TrialStarted) -> None:
        self.events.append(("trial_started", event.number, event.finished))

    def trial_stage(self, number: int, stage: str) -> None:
        self.events.append(("stage", number, stage))

    def trial_finished(self, event: TrialFinished) -> None:
        self.trials.append(event)
        self.events.append(("trial_finished", event.number, event.finished))


@pytest.fixture
def swept_spec(spec_tree: Tree) -> StudySpec:
    """The study of :func:`spec`, its trainings swept over one more hyperparameter."""
    hyperparameter = {"type": "float", "low": 0.0, "high": 1.0}
    return StudySpec.model_validate(
        {**spec_tree, "space": {**spec_tree["space"], "fusion.cold_weight": hyperparameter}}
    )


@pytest.fixture
def swept(swept_spec: StudySpec) -> Callable[..., Completed]:
    """Makes what a training comes to that has several points, of the values of the objectives at each."""

    def make(*points: tuple[float, float]) -> Completed:
        found = tuple(
            SweptPoint(
                values={"fusion.cold_weight": place / 8},
                metrics={
                    **dict(zip(swept_spec.objectives, values, strict=True)),
                    "iid/recall_at_5": place / 16,
                },
            )
            for place, values in enumerate(points)
        )
        plan = Sweep(hyperparameters={}, objectives=swept_spec.objectives, axes=swept_spec.objectives)
        return Completed(metrics=found[reported(found, plan)].metrics, points=found)

    return make


@pytest.fixture
def formula() -> Formula:
    """An objective that always succeeds."""
    return Formula()


@pytest.fixture
def diary() -> Diary:
    """A tracker and a listener."""
    return Diary()


Go = Callable[..., StudySummary]


@pytest.fixture
def go(workspace: Workspace) -> Go:
    """Runs a study in the workspace, untracked unless reported otherwise."""

    def runner(
        spec: StudySpec,
        objective: Formula,
        *,
        trials: int | None = None,
        diary: Diary | None = None,
        tracker: Tracker | None = None,
        warm_start: str | None = None,
    ) -> StudySummary:
        return run_study(
            spec,
            workspace,
            CPU,
            trials=trials,
            progress=diary,
            tracker=tracker or diary or NullTracker(),
            objective=objective,
            warm_start=warm_start,
        )

    return runner


@pytest.fixture
def tracked(workspace: Workspace, empty_mlflow: Path) -> Workspace:
    """The workspace, with an empty MLflow store."""
    shutil.copy(empty_mlflow, workspace.mlflow_db)
    return workspace


@dataclass(frozen=True)
class Shelf:
    """What rules and tables read of a stored study, without a storage."""

    objectives: tuple[str, ...]
    records: tuple[TrialRecord, ...]
    config: TrainConfig
    name: str = "toy"
    requested: int = 9
    sampler: Mapping[str, str] = field(default_factory=dict)
    study: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(user_attrs={}))
    identity: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(seeds=1))

    def trials(self) -> tuple[TrialRecord, ...]:
        return self.records

    def config_of(self, record: TrialRecord) -> TrainConfig:
        return apply(self.config, record.point)


def record_of(
    number: int, metrics: Mapping[str, float] | Failed | None, objectives: Sequence[str]
) -> TrialRecord:
    """A complete trial, a failed one, or (``None``) one that runs."""
    outcome: Outcome | None = metrics if isinstance(metrics, Failed) else None
    state = TrialState.FAILED if outcome else TrialState.RUNNING
    values = None
    if isinstance(metrics, Mapping):
        outcome = Completed(metrics=metrics)
        state, values = TrialState.COMPLETE, tuple(metrics[name] for name in objectives)
    return TrialRecord(
        number=number,
        state=state,
        point={"mask.sparsity": number / 100},
        values=values,
        outcome=outcome,
        run_id=f"run-{number}",
        seconds=None if metrics is None else 10.0 + number,
        deaths=0,
    )


@pytest.fixture(scope="session")
def shelf(tiny_config: TrainConfig) -> Callable[..., Shelf]:
    """Makes a stored study of rows: metrics by name, a failure, or ``None`` for a running trial."""

    def make(rows: Sequence[Mapping[str, float] | Failed | None], objectives: Sequence[str]) -> Shelf:
        records = tuple(record_of(number, row, objectives) for number, row in enumerate(rows))
        return Shelf(objectives=tuple(objectives), records=records, config=tiny_config)

    return make


@pytest.fixture(scope="session")
def plane(shelf: Callable[..., Shelf]) -> Callable[..., Shelf]:
    """Makes a stored study of points on the plane of IID and OOD NDCG."""

    def make(*points: tuple[float, float] | Failed | None) -> Shelf:
        rows = [
            {"iid/ndcg_at_20": point[0], "ood/ndcg_at_20": point[1]} if isinstance(point, tuple) else point
            for point in points
        ]
        return shelf(rows, ["iid/ndcg_at_20", "ood/ndcg_at_20"])

    return make
