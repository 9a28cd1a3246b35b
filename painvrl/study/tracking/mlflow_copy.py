"""A study's runs in another workspace's MLflow database, under the ids that they have."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.store.database import LOCKED_SECONDS
from painvrl.study.tracking.mlflow_calls import EXPERIMENT
from painvrl.study.tracking.mlflow_database import ready_database
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker
from painvrl.study.tracking.mlflow_view import VIEW_TAG
from painvrl.study.tracking.port import PARENT

_RUNS = "(SELECT run FROM moved)"
_MODELS = f"(SELECT model_id FROM old.logged_models WHERE source_run_id IN {_RUNS})"
_INPUTS = f"destination_id IN {_RUNS} OR source_id IN {_RUNS}"
_VERSIONS = f"(SELECT name FROM old.model_versions WHERE run_id IN {_RUNS})"
_NEW_NAMES = f"name IN {_VERSIONS} AND name NOT IN (SELECT name FROM registered_before)"

_TABLES = {
    "runs": f"run_uuid IN {_RUNS}",
    "params": f"run_uuid IN {_RUNS}",
    "metrics": f"run_uuid IN {_RUNS}",
    "latest_metrics": f"run_uuid IN {_RUNS}",
    "tags": f"run_uuid IN {_RUNS}",
    "inputs": _INPUTS,
    "input_tags": f"input_uuid IN (SELECT input_uuid FROM old.inputs WHERE {_INPUTS})",
    "logged_models": f"source_run_id IN {_RUNS}",
    "logged_model_params": f"model_id IN {_MODELS}",
    "logged_model_tags": f"model_id IN {_MODELS}",
    "logged_model_metrics": f"model_id IN {_MODELS}",
    "registered_models": _NEW_NAMES,
    "registered_model_tags": _NEW_NAMES,
    "registered_model_aliases": _NEW_NAMES,
    "model_versions": f"{_NEW_NAMES} AND run_id IN {_RUNS}",
    "model_version_tags": f"{_NEW_NAMES} AND (name, version) IN"
    f" (SELECT name, version FROM old.model_versions WHERE run_id IN {_RUNS})",
}
"""Which rows of each table belong to the runs, in words of the database that they come from."""

_PATHS = {"artifact_uri", "artifact_location", "storage_location", "source"}


def copy_runs(parent: str, source: Workspace, target: Workspace) -> int:
    """Copy the runs of a study with all that hangs on them; how many.

    ``parent``: the study's own run.

    Both workspaces track in databases of their own. Everything is written in one transaction, after the
    artifacts; a second call changes nothing. A model is registered there unless its name is taken.

    Raises:
        StudyError: one of the databases refuses, or another version of MLflow has made it.
        OSError: artifacts cannot be copied.
    """
    mlflow_tracker(target)
    ready_database(source)
    try:
        with closing(sqlite3.connect(target.mlflow_db, timeout=LOCKED_SECONDS)) as database:
            database.execute("ATTACH ? AS old", (str(source.mlflow_db),))
            (same,) = database.execute(
                "SELECT (SELECT version_num FROM main.alembic_version)"
                " = (SELECT version_num FROM old.alembic_version)"
            ).fetchone()
            if not same:
                rule = "another version of MLflow has made it; upgrade both with `mlflow db upgrade URL`"
                raise StudyError(rule, file=target.mlflow_db)
            return _copy(database, parent, source, target)
    except sqlite3.Error as error:
        raise StudyError(f"MLflow's database refuses: {error}", file=target.mlflow_db) from None


def _copy(database: sqlite3.Connection, parent: str, source: Workspace, target: Workspace) -> int:
    experiments = [
        database.execute(f"SELECT experiment_id FROM {where}.experiments WHERE name = ?", (EXPERIMENT,))
        for where in ("old", "main")
    ]
    before, now = (int(found.fetchone()[0]) for found in experiments)
    database.execute("CREATE TEMP TABLE moved AS SELECT ? AS run", (parent,))
    database.execute(
        "INSERT INTO moved SELECT run_uuid FROM old.tags WHERE key = ? AND value = ?", (PARENT, parent)
    )
    database.execute("CREATE TEMP TABLE registered_before AS SELECT name FROM main.registered_models")
    for (uri,) in database.execute(
        f"SELECT artifact_uri FROM old.runs WHERE run_uuid IN {_RUNS}"
        f" UNION SELECT artifact_location FROM old.logged_models WHERE source_run_id IN {_RUNS}"
    ).fetchall():
        _copy_artifacts(uri, source.artifacts, target.artifacts)
    with database:
        values = {"experiment_id": str(now)}
        paths = (f"{source.artifacts.as_uri()}/", f"{target.artifacts.as_uri()}/")
        _copy_datasets(database, before, now)
        for table, rows in _TABLES.items():
            _copy_rows(database, table, rows, values, paths)
        # A data set that both have goes by the id that it has there.
        database.execute(
            "UPDATE main.inputs SET source_id = (SELECT n.dataset_uuid FROM main.datasets n"
            " JOIN old.datasets o ON n.name = o.name AND n.digest = o.digest"
            " AND n.experiment_id = ? AND o.experiment_id = ?"
            " WHERE o.dataset_uuid = source_id) WHERE source_type = 'DATASET' AND destination_id IN " + _RUNS,
            (now, before),
        )
        database.execute(
            "INSERT OR REPLACE INTO main.experiment_tags (key, value, experiment_id)"
            " SELECT key, value, ? FROM old.experiment_tags WHERE key = ? AND experiment_id = ?",
            (now, VIEW_TAG + parent, before),
        )
    return int(database.execute("SELECT count(*) FROM moved").fetchone()[0])


def _copy_datasets(database: sqlite3.Connection, before: int, now: int) -> None:
    columns = [name for name in _columns(database, "datasets") if name != "experiment_id"]
    listed = ", ".join(columns)
    database.execute(
        f"INSERT OR IGNORE INTO main.datasets ({listed}, experiment_id) SELECT {listed}, ? FROM old.datasets"
        f" WHERE experiment_id = ? AND dataset_uuid IN (SELECT source_id FROM old.inputs WHERE {_INPUTS})",
        (now, before),
    )


def _copy_rows(
    database: sqlite3.Connection, table: str, rows: str, values: Mapping[str, str], paths: tuple[str, str]
) -> None:
    columns = _columns(database, table)
    selected = [values.get(name, f'"{name}"') for name in columns]
    there, here = paths
    given: list[object] = []
    for place, name in enumerate(columns):
        if name in _PATHS:
            selected[place] = (
                f'CASE WHEN substr("{name}", 1, ?) = ? THEN ? || substr("{name}", ?) ELSE "{name}" END'
            )
            given += [len(there), there, here, len(there) + 1]
    names = ", ".join(f'"{name}"' for name in columns)
    database.execute(
        f"INSERT OR REPLACE INTO main.{table} ({names}) SELECT {', '.join(selected)} FROM old.{table}"
        f" WHERE {rows}",
        given,
    )


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in database.execute(f"PRAGMA main.table_info({table})")]


def _copy_artifacts(uri: str | None, there: Path, here: Path) -> None:
    if uri is None or not uri.startswith("file:"):
        return  # somebody's bucket: both reach it
    folder = Path(url2pathname(urlsplit(uri).path))
    if folder.is_relative_to(there) and folder.is_dir():
        shutil.copytree(folder, here / folder.relative_to(there), dirs_exist_ok=True)
