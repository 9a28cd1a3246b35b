"""Calling MLflow: no telemetry, no chatter, its errors as one line; and the workspace's own database."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from filelock import FileLock

from painvrl.errors import StudyError
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.port import resolve_tracking_uri
from painvrl.workspace import Workspace

EXPERIMENT = "painvrl"


@contextmanager
def mlflow_calls(uri: str) -> Iterator[None]:
    """Around every use of MLflow: no telemetry, no chatter, its errors as one line."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # With a server it would print a link to stdout, among results that programs read.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own dependencies deprecate what it uses
        from mlflow.exceptions import MlflowException

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        except MlflowException as error:
            cause = str(error).splitlines()[0][:300]
            raise StudyError(f"MLflow does not answer as it should: {cause}", file=_public(uri)) from error


def tracked_at(study: StoredStudy, workspace: Workspace, tracking_uri: str | None) -> tuple[str, str] | None:
    """The store that a study is tracked in, and its own run there; the arguments: ``resolve_tracking_uri``.

    ``None`` if it never was, or if that is the workspace's database and there is none: MLflow would make one.
    """
    uri = resolve_tracking_uri(workspace, tracking_uri)
    if study.parent_run is None or (uri == workspace.tracking_uri and not workspace.mlflow_db.exists()):
        return None
    return uri, study.parent_run


def make_tables(workspace: Workspace) -> None:
    """Make the workspace's database, if there is none.

    MLflow makes its tables by repeating its history, in hundreds of small writes that each wait for the
    disk. In a file that nobody sees yet nothing need wait: only the finished one gets the name.
    """
    if workspace.mlflow_db.exists():
        return
    lock = workspace.lock_path("making MLflow's tables")  # no study's: their names have no spaces
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock), mlflow_calls(workspace.tracking_uri):
        if workspace.mlflow_db.exists():
            return
        from mlflow.store.db.utils import _initialize_tables

        new = workspace.mlflow_db.with_suffix(".new")
        new.unlink(missing_ok=True)
        engine = sqlalchemy.create_engine(f"sqlite:///{new}")
        sqlalchemy.event.listen(
            engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF")
        )
        _initialize_tables(engine)
        # A property of the file: MLflow's commits wait once, not thrice. The studies' log goes, this stays:
        # the UI's server and MLflow's own pool of connections would keep it from being taken back.
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        engine.dispose()
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(workspace.mlflow_db)


def _public(uri: str) -> str:
    """The URI without a password."""
    head, at, tail = uri.rpartition("@")
    return f"{head.split('://', 1)[0]}://...@{tail}" if at and "://" in head else uri
