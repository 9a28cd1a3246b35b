from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from painvrl.study.file.spec import StudySpec
from painvrl.study.store.database import connect, engine_url, sole_creator
from painvrl.study.store.storage import list_studies
from painvrl.workspace import Workspace
from painvrl.yamlfile import dump_yaml

CREATE = """
import sys
from pathlib import Path
from painvrl.study.file.spec import load_spec
from painvrl.study.store.creation import create_study
from painvrl.workspace import Workspace
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


def test_commits_to_a_file_wait_for_no_disk_and_a_killed_process_loses_none(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    storage = connect(f"sqlite:///{path}")
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    program = (
        "import os, sys, optuna\n"
        "from painvrl.study.store.database import connect\n"
        "optuna.create_study(storage=connect(sys.argv[1]), study_name='kept').set_user_attr('a', 1)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, f"sqlite:///{path}"], check=False)
    assert done.returncode == -9
    kept = optuna.load_study(study_name="kept", storage=connect(f"sqlite:///{path}"))
    assert kept.user_attrs == {"a": 1}
