"""Tracking: a mirror of a study for people to look at. The study itself lives in Optuna's storage.

A tracker may lose everything without a trial being lost: :meth:`Tracker.open` writes again what is
missing, all but the curves of trainings: the storage does not keep them. Until the tracker has got them they
are in the spool (:mod:`painvrl.study.tracking.spool`). This module loads no MLflow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote

from painvrl.core.errors import StudyError
from painvrl.core.shown import conceal, without_user
from painvrl.core.workspace import Workspace, sqlite_url
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.outcomes import Outcome
from painvrl.run.config import TrainConfig
from painvrl.study.front import FrontTable
from painvrl.study.store.records import TrialRecord

PARENT = "mlflow.parentRunId"
"""The tag that MLflow's UI nests runs by."""

DEFAULT_UI_URL = "http://127.0.0.1:5000"

IGNORED = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_ACTIVE_MODEL_ID",
    "MLFLOW_RUN_CONTEXT",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_ARTIFACTS_ONLY",
    "MLFLOW_STATIC_PREFIX",
    "MLFLOW_ENABLE_WORKSPACES",
    "MLFLOW_WORKSPACE",
)
"""MLflow's variables that say where other programs log to. MLFLOW_TRACKING_URI alone says it for painvrl."""

ConfigOf: TypeAlias = Callable[[TrialRecord], TrainConfig]
"""The configuration of a trial or a point."""

Status: TypeAlias = Literal["FINISHED", "KILLED", "FAILED"]
"""How a study's own run ends."""


class TrackerAway(StudyError):
    """A tracker is out of reach: its server does not answer, or is busy or broken."""


@dataclass(frozen=True, kw_only=True)
class StudyHeader:
    """What a tracker is given of a study.

    Attributes:
        yaml: the study's file with every default written out.
        parent_run: the run that an earlier process made for it.
        hyperparameters: paths of those that are searched, before a training or after it.
        kind: what the study is; only a ``study`` has a front.
        alive: runs of trials that are under way, those of other processes included.
    """

    name: str
    objectives: tuple[str, ...]
    yaml: str
    data: DataSummary
    hyperparameters: tuple[str, ...] = ()
    parent_run: str | None = None
    kind: Literal["study", "ablation", "baselines"] = "study"
    alive: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class FinishedTrial:
    """A trial as a tracker may have to write it again.

    Attributes:
        spooled: whether the record's outcome has its curves, which a tracker has not got yet.
        begun, ended: when, in milliseconds since 1970; ``None`` where nobody knows.
    """

    record: TrialRecord
    job: Job
    spooled: bool = False
    begun: int | None = None
    ended: int | None = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What :meth:`Tracker.open` found or made.

    Attributes:
        parent_run: the study's own run.
        rewritten: new run ids, by trial number, of trials whose run was gone.
        points: the runs that points of swept trials have of their own, by the points' names.
    """

    parent_run: str | None = None
    rewritten: Mapping[int, str] = field(default_factory=dict)
    points: Mapping[str, str] = field(default_factory=dict)


class Tracker:
    """Receives the trials of a study that one process trains, in order.

    A method that is not overridden keeps nothing.
    """

    def open(self, header: StudyHeader, finished: Sequence[FinishedTrial]) -> Opened:
        """Begin or go on; bring runs of earlier processes up to date."""
        return Opened()

    def start(self, job: Job) -> str | None:
        """A trial begins, or goes on in the run that its job names; the id of its run."""
        return None

    def finish(self, run_id: str | None, job: Job, outcome: Outcome, *, ended: int | None = None) -> None:
        """A trial completed or failed; ``ended``: when, in milliseconds since 1970, by default now.

        Told twice with one time, it stands there once.
        """

    def kill(self, run_id: str | None) -> None:
        """A trial was interrupted."""

    def mark_front(self, membership: Mapping[str, bool]) -> None:
        """Which runs are on the front now, and which are not."""

    def points(
        self, trainings: Sequence[TrialRecord], front: Collection[str], config_of: ConfigOf
    ) -> Mapping[str, str]:
        """A swept study is about to stop: its complete trials, and the names of the points on its front.

        Each of those points gets a run of its own, once, with its configuration. Returned are the runs of
        points, by name.
        """
        return {}

    def close(
        self, status: Status, *, pages: Mapping[str, str] | None = None, front: FrontTable | None = None
    ) -> None:
        """The study stops here; ``pages`` are what to show of it, text by file name, and its ``front``."""

    def link(self, base_url: str) -> str | None:
        """A link that shows the front, or all runs of what has none."""
        return None

    def run_pages(self, base_url: str) -> str | None:
        """Where the pages of runs are, each under its id."""
        return None


class NullTracker(Tracker):
    """Keeps nothing."""


def resolve_tracking_uri(workspace: Workspace, override: str | None = None) -> str:
    """Where runs are tracked: ``override``, else MLFLOW_TRACKING_URI, else the workspace's database.

    A SQLite file has one URL, however it was written: a relative path names the same file from every folder.
    """
    uri = override or os.environ.get("MLFLOW_TRACKING_URI") or workspace.tracking_uri
    conceal(uri)
    scheme, _, rest = uri.partition(":///")
    path, question, query = rest.partition("?")
    if scheme.partition("+")[0] != "sqlite" or path in {"", ":memory:"} or path.startswith("file:"):
        return uri
    return f"{sqlite_url(Path(unquote(path)).absolute())}{question}{query}"


def is_server(uri: str) -> bool:
    """Whether a tracking URI is a server's, which has a UI of its own."""
    return uri.startswith(("http://", "https://"))


def ui_of(uri: str, base_url: str) -> str:
    """Where MLflow's UI is: on the server that ``uri`` names, without its password, or at ``base_url``."""
    return without_user(uri) if is_server(uri) else base_url


def runs_filter(parent_run: str) -> str:
    """MLflow's search for all runs of one study."""
    return f"tags.`{PARENT}` = '{parent_run}'"


def front_url(base_url: str, experiment_id: str, parent_run: str, metric: str) -> str:
    """The page of MLflow's UI that shows exactly the front of a study."""
    search = f"tags.pareto = 'true' and {runs_filter(parent_run)}"
    return runs_url(base_url, experiment_id, search, metric)


def run_pages_url(base_url: str, experiment_id: str) -> str:
    """Where MLflow's UI has the pages of an experiment's runs, each under its id."""
    return f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs/"


def runs_url(base_url: str, experiment_id: str, search: str, metric: str) -> str:
    """The page of MLflow's UI that shows the runs that ``search`` finds.

    The order by a metric matters: without one the list shows the parent run, folded up, and
    nothing else. The workflow hides the UI's pages for language models.
    """
    query = {
        "workflowType": "machine_learning",
        "searchFilter": search,
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": "false",
        "compareRunsMode": "CHART",
    }
    pairs = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    return f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs?{pairs}"
