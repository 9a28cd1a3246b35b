from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from painvrl.core.workspace import Workspace
from painvrl.study.tracking.mlflow_database import ready_database

SCHEMA = """
CREATE TABLE experiments (name, artifact_location);
CREATE TABLE runs (artifact_uri);
CREATE TABLE logged_models (artifact_location);
CREATE TABLE model_versions (storage_location, source);
"""


def runs_after(workspace: Workspace, location: str, runs: list[str]) -> list[str]:
    """Where runs have their artifacts once the workspace is ready, whose experiment is at ``location``."""
    with closing(sqlite3.connect(workspace.mlflow_db)) as database, database:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO experiments VALUES ('painvrl', ?)", (location,))
        database.executemany("INSERT INTO runs VALUES (?)", [(run,) for run in runs])
    ready_database(workspace)
    with closing(sqlite3.connect(workspace.mlflow_db)) as database:
        return [uri for (uri,) in database.execute("SELECT artifact_uri FROM runs ORDER BY rowid")]


def test_only_rows_below_the_old_place_follow_a_workspace(tmp_path: Path) -> None:
    foreign = ["file:///gone/artifacts-2/painvrl/b", "s3://bucket/file:///gone/artifacts/painvrl/c"]
    workspace = Workspace(tmp_path)
    after = runs_after(
        workspace, "file:///gone/artifacts/painvrl", ["file:///gone/artifacts/painvrl/a", *foreign]
    )
    assert after == [f"{workspace.artifacts.as_uri()}/painvrl/a", *foreign]


@pytest.mark.parametrize("location", ["mlflow-artifacts:/1", "s3://bucket/painvrl", "file:///gone/mlruns/1"])
def test_artifacts_that_never_were_in_the_workspace_stay_where_they_are(
    tmp_path: Path, location: str
) -> None:
    runs = [f"{location}/a/artifacts", f"{location}0/b/artifacts"]
    assert runs_after(Workspace(tmp_path), location, runs) == runs
