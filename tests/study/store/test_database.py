from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.study.file.spec import StudySpec
from painvrl.study.store import database
from painvrl.study.store.creation import create_study
from painvrl.study.store.database import connect, engine_url, quick_commits, sole_creator, sqlite_file
from painvrl.study.store.storage import list_studies, open_study

CREATE = """
import sys
from pathlib import Path
from painvrl.study.file.spec import load_spec
from painvrl.study.store.creation import create_study
from painvrl.core.workspace import Workspace
spec = load_spec(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
create_study(spec, Workspace(Path(sys.argv[2])), data="d")
"""


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("postgresql://host/db", "postgresql+psycopg://host/db"),
        ("postgresql+asyncpg://host/db", "postgresql+asyncpg://host/db"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_postgresql_is_reached_by_the_driver_of_the_extra(url: str, meant: str) -> None:
    assert str(engine_url(url)) == meant


def test_the_file_of_a_database_is_known_where_it_has_one(tmp_path: Path) -> None:
    assert sqlite_file(f"sqlite:///{tmp_path}/a.db") == tmp_path / "a.db"
    assert sqlite_file("sqlite:///a.db") == Path("a.db").absolute()
    for url in (
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:/a.db?mode=ro&uri=true",
        "postgresql://host/db",
    ):
        assert sqlite_file(url) is None


@pytest.mark.slow
def test_two_studies_can_be_created_in_a_new_file_at_once(spec: StudySpec, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "new").create()
    crowd = []
    for name in ("one", "two"):
        file = tmp_path / f"{name}.yaml"
        named = spec.model_copy(update={"study": spec.study.model_copy(update={"name": name})})
        file.write_text(dump_yaml(named), encoding="utf-8")
        crowd.append(
            subprocess.Popen(
                [sys.executable, "-c", CREATE, file, place.root],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=120)[1] for process in crowd]
    assert [process.returncode for process in crowd] == [0, 0], errors
    assert set(list_studies(place)) == {"one", "two"}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db"])
def test_what_no_other_process_sees_or_nobody_locks_is_not_waited_for(url: str, tmp_path: Path) -> None:
    with sole_creator(url):
        assert list(tmp_path.iterdir()) == []


def journal(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_meanwhile_commits_to_a_file_wait_for_no_disk_and_a_killed_process_loses_none(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with (
        quick_commits(connect(f"sqlite:///{path}")) as storage,
        storage.engine.connect() as connection,
    ):
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    program = (
        "import os, sys, optuna\n"
        "from painvrl.study.store.database import connect, quick_commits\n"
        "with quick_commits(connect(sys.argv[1])) as storage:\n"
        "    optuna.create_study(storage=storage, study_name='kept').set_user_attr('a', 1)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, f"sqlite:///{path}"], check=False)
    assert done.returncode == -9
    assert journal(path) == "wal", "else this would show nothing"
    kept = optuna.load_study(study_name="kept", storage=connect(f"sqlite:///{path}"))
    assert kept.user_attrs == {"a": 1}


@pytest.mark.parametrize("end", [None, KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_run_keeps_a_log_beside_the_studies_only_until_it_ends(
    spec: StudySpec, workspace: Workspace, go: Any, formula: Any, end: BaseException | None
) -> None:
    seen = []

    def look() -> None:
        seen.append(journal(workspace.optuna_db))
        if end is not None:
            raise end

    with nullcontext() if end is None else pytest.raises(type(end)):
        go(spec, replace(formula, script={1: look}), trials=2)
    assert seen == ["wal"]
    assert journal(workspace.optuna_db) == "delete"
    assert [path.name for path in workspace.root.glob("optuna.db*")] == ["optuna.db"]


def test_who_only_reads_leaves_the_file_as_it_is(spec: StudySpec, workspace: Workspace) -> None:
    create_study(spec, workspace, data="d")
    before = workspace.optuna_db.read_bytes()
    assert len(open_study("toy", workspace).trials()) == 1
    assert journal(workspace.optuna_db) == "delete"
    assert workspace.optuna_db.read_bytes() == before


def test_the_log_goes_however_many_connections_there_were_and_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with quick_commits(connect(f"sqlite:///{path}")) as storage:
        optuna.create_study(storage=storage, study_name="one")
        with storage.engine.connect() as one, storage.engine.connect() as two:
            for each in (one, two):
                assert each.exec_driver_sql("SELECT COUNT(*) FROM studies").scalar() == 1
    assert journal(path) == "delete"
    storage.engine.dispose()
    optuna.create_study(storage=storage, study_name="two")
    assert journal(path) == "delete"


def test_the_log_stays_for_the_last_of_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with quick_commits(connect(f"sqlite:///{path}")) as one:
        optuna.create_study(storage=one, study_name="one")
        with quick_commits(connect(f"sqlite:///{path}")) as two:
            optuna.create_study(storage=two, study_name="two")
        assert journal(path) == "wal"
        assert optuna.get_all_study_names(one) == ["one", "two"]
    assert journal(path) == "delete"


@contextmanager
def nobody_in(folder: Path) -> Iterator[None]:
    """As somebody who may read the folder and what is in it, and write nothing there."""
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o555)
    root = os.geteuid() == 0  # who may do everything, whatever the modes say
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such modes")
def test_whoever_may_not_write_the_folder_can_read_its_studies(
    spec: StudySpec, go: Any, formula: Any, workspace: Workspace
) -> None:
    go(spec, formula, trials=2)
    with tempfile.TemporaryDirectory() as made:  # those of pytest are closed to others
        folder = Path(made)
        shutil.copy(workspace.optuna_db, folder)
        with nobody_in(folder):
            assert not os.access(folder, os.W_OK, effective_ids=True)
            # Optuna's own files may lie where that somebody sees nothing, so SQLite is asked.
            with closing(sqlite3.connect(folder / workspace.optuna_db.name)) as reader:
                assert reader.execute("SELECT study_name FROM studies").fetchall() == [("toy",)]
                assert reader.execute("SELECT count(*) FROM trials").fetchone() == (2,)


def test_an_interrupt_in_a_query_stays_one() -> None:
    class Context:
        original_exception = KeyboardInterrupt()
        is_disconnect, connection, is_pre_ping = True, None, False

    context: Any = Context()
    database._refused("sqlite:///x.db", context)
    context.original_exception = OSError("gone")
    with pytest.raises(StudyError, match="the studies' database refuses: gone"):
        database._refused("sqlite:///x.db", context)
