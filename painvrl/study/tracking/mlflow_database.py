"""A study in MLflow's store; the workspace's own database, made quickly, and where it finds its artifacts."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import sqlalchemy
from filelock import FileLock

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace, sqlite_url
from painvrl.study.store.database import LOCKED_SECONDS, advice_on
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, knock, mlflow_calls
from painvrl.study.tracking.port import resolve_tracking_uri, runs_filter

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_logger = logging.getLogger(__name__)

_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Where MLflow keeps the absolute path of every artifact."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A study in the store that it is tracked in; ``parent_run``: its own run there."""

    client: MlflowClient
    uri: str
    parent_run: str

    @property
    def experiment(self) -> str | None:
        """The id of painvrl's experiment, if the store has it."""
        found = self.client.get_experiment_by_name(EXPERIMENT)
        return None if found is None else str(found.experiment_id)

    def runs(self, condition: str) -> Sequence[Run]:
        """Those of the study's runs of which MLflow's search finds ``condition`` true."""
        if (experiment := self.experiment) is None:
            return ()
        search, order = f"{runs_filter(self.parent_run)} and {condition}", ["attributes.start_time ASC"]
        found: Sequence[Run] = self.client.search_runs([experiment], search, order_by=order)
        return found


@contextmanager
def tracked(study: StoredStudy, workspace: Workspace) -> Iterator[Tracked | None]:
    """Around what is asked of a study's runs in MLflow, in the store that :func:`resolve_tracking_uri` names.

    ``None`` if it never was tracked, or if that is the workspace's database and there is none.

    Raises:
        StudyError: MLflow does not answer, or as :func:`ready_database`.
    """
    uri = resolve_tracking_uri(workspace)
    own = uri == workspace.tracking_uri
    if study.parent_run is None or (own and not workspace.mlflow_db.exists()):
        yield None
        return
    if own:
        ready_database(workspace)
    knock(uri)
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        yield Tracked(client=MlflowClient(tracking_uri=uri), uri=uri, parent_run=study.parent_run)


def ready_database(workspace: Workspace) -> None:
    """Make the workspace's database if there is none; have it name the artifacts where the workspace is.

    Raises:
        StudyError: it is locked, cannot be written, or is no database.
    """
    if not workspace.mlflow_db.exists():
        _make_tables(workspace)
    try:
        with closing(
            sqlite3.connect(f"{workspace.mlflow_db.as_uri()}?mode=rw", timeout=LOCKED_SECONDS, uri=True)
        ) as database:
            _follow(database, workspace)
    except sqlite3.Error as error:
        rule = f"MLflow's database refuses: {advice_on(str(error))}"
        raise StudyError(rule, file=workspace.mlflow_db) from None


def _follow(database: sqlite3.Connection, workspace: Workspace) -> None:
    """Rewrite MLflow's paths where the workspace was moved or copied, in one transaction.

    The place that it came from is left alone.
    """
    here = f"{workspace.artifacts.as_uri()}/"
    query = "SELECT artifact_location FROM experiments WHERE name = ?"
    found = database.execute(query, (EXPERIMENT,)).fetchone()
    location = here + EXPERIMENT if found is None else str(found[0])
    if not (location.startswith("file:") and location.endswith(f"/{EXPERIMENT}")):
        return  # a server's, or somebody's bucket: it does not move with the workspace
    there = location.removesuffix(EXPERIMENT)
    if there == here or _is_folder(there, workspace.artifacts):
        return
    with database:
        for table, column in _PATHS:
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (here, len(there) + 1, len(there), there),
            )
    before = Path(url2pathname(urlsplit(there).path)).parent
    said = "note: the workspace was at %s; MLflow finds its artifacts in %s now"
    _logger.warning(said, before, workspace.root)


def _is_folder(uri: str, folder: Path) -> bool:
    """Whether both are one folder, by way of a link or a mount: neither path is better then."""
    try:
        return folder.samefile(url2pathname(urlsplit(uri).path))
    except OSError:
        return False


def _make_tables(workspace: Workspace) -> None:
    """Make the database.

    MLflow makes its tables by repeating its history, in hundreds of small writes that each wait for the
    disk. In a file that no one sees yet nothing need wait: only the finished one gets the name.
    """
    lock = workspace.lock_path("making MLflow's tables")  # no study's: their names have no spaces
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock), mlflow_calls(workspace.tracking_uri):
        if workspace.mlflow_db.exists():
            return
        from mlflow.store.db.utils import _initialize_tables
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        new = workspace.mlflow_db.with_suffix(".new")
        new.unlink(missing_ok=True)
        engine = sqlalchemy.create_engine(sqlite_url(new))
        sqlalchemy.event.listen(
            engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF")
        )
        _initialize_tables(engine)
        # Its own experiment 0: left to itself MLflow would keep that in the current folder.
        SqlAlchemyStore(sqlite_url(new), workspace.artifacts.as_uri())._dispose_engine()  # noqa: SLF001
        # A property of the file: MLflow's commits wait once, not thrice. The studies' log goes, this stays:
        # the UI's server and MLflow's own pool of connections would keep it from being taken back.
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        engine.dispose()
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(workspace.mlflow_db)
