"""The laws of a study's storage on a real PostgreSQL, where several machines may share it."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.database import sole_runner
from painvrl.study.store.lock import held_study
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import list_studies, open_study

Tree = dict[str, Any]

CREATE = """
import sys
from pathlib import Path
from painvrl.study.file.spec import load_spec
from painvrl.study.store.creation import create_study
from painvrl.core.workspace import Workspace
spec = load_spec(Path(sys.argv[1]))
workspace = Workspace(Path(sys.argv[2])).create()
print("ready", flush=True)
sys.stdin.readline()
stored, existed = create_study(spec, workspace, data="d")
print("existed" if existed else "made", flush=True)
"""

ASK_AND_DIE = """
import os, sys
from pathlib import Path
from painvrl.study.search.asktell import AskTell
from painvrl.study.file.spec import load_spec
from painvrl.study.store.creation import create_study
from painvrl.core.workspace import Workspace
spec = load_spec(Path(sys.argv[1]))
stored, _ = create_study(spec, Workspace(Path(sys.argv[2])).create(), data=sys.argv[3])
AskTell(stored, spec.study).ask()
os._exit(9)
"""


@pytest.fixture
def spec(spec_tree: Tree, database: str) -> StudySpec:
    tree = copy.deepcopy(spec_tree)
    tree["study"]["storage"] = database
    return StudySpec.model_validate(tree)


@pytest.fixture
def file(spec: StudySpec, tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(dump_yaml(spec), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_study_there_tries_the_points_of_one_in_a_file_and_goes_on_where_it_stopped(
    spec: StudySpec, spec_tree: Tree, formula: Any, go: Callable[..., Any], workspace: Workspace
) -> None:
    alone = type(formula)()
    go(StudySpec.model_validate(spec_tree), alone, trials=4)
    go(spec, formula, trials=2)
    summary = go(spec, formula, trials=4)
    assert formula.points() == alone.points()
    records = open_study(spec, workspace).trials()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 4
    theirs = open_study("toy", workspace).trials()
    assert [record.values for record in records] == [record.values for record in theirs]
    assert {row.trial for row in summary.front.rows} <= {0, 1, 2, 3}


@pytest.mark.slow
def test_processes_that_create_a_study_at_once_make_one_with_one_first_point(
    spec: StudySpec, file: Path, tmp_path: Path, workspace: Workspace
) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, file, tmp_path / f"machine-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in crowd:  # on your marks: the tables are not there yet, either
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in crowd]
    assert sorted(out for out, _ in answers) == ["existed\n", "existed\n", "made\n"], answers
    assert list_studies(workspace, storage=spec.study.storage) == ("toy",)
    (first,) = open_study(spec, workspace).trials()
    assert first.state is TrialState.WAITING


@pytest.mark.parametrize(
    ("role", "words"), [("no one:geheim", 'role "no one" does not exist'), ("postgres:geheim", "missing")]
)
def test_a_password_is_not_in_the_message_of_a_server_that_refuses(
    spec_tree: Tree, database: str, role: str, words: str, workspace: Workspace
) -> None:
    refused = database.replace("postgres:geheim", role, 1)
    if role.startswith("postgres"):
        refused = refused.replace("/tests_", "/missing_", 1)
    with pytest.raises(StudyError) as caught:
        list_studies(workspace, storage=refused)
    said = str(caught.value)
    assert words in said
    assert "geheim" not in said
    assert "\n" not in said


@pytest.mark.slow
def test_a_password_is_written_nowhere_in_the_workspace(
    spec: StudySpec, formula: Any, go: Callable[..., Any], tracked: Workspace
) -> None:
    from painvrl.study.tracking.mlflow_tracker import mlflow_tracker

    assert "geheim" in str(spec.study.storage)
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    with_it = [path for path in tracked.root.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()]
    assert with_it == []


def test_who_wants_a_study_alone_is_refused_while_others_run_it_and_the_other_way_round(
    spec: StudySpec, formula: Any, go: Callable[..., Any], workspace: Workspace, tmp_path: Path
) -> None:
    url = str(spec.study.storage)
    rule = "toy: is being run by another process, on this machine or another"
    with held_study(spec, workspace), held_study(spec, Workspace(tmp_path / "another machine").create()):
        with pytest.raises(StudyError, match=rule), sole_runner(url, "toy"):
            pass
        with sole_runner(url, "other"):
            pass
    with sole_runner(url, "toy"), pytest.raises(StudyError, match=rule):
        go(spec, formula, trials=1)
    assert formula.jobs == []


@pytest.mark.slow
def test_the_trial_of_a_process_that_died_on_any_machine_is_tried_again(
    spec: StudySpec, file: Path, formula: Any, go: Callable[..., Any], workspace: Workspace, tmp_path: Path
) -> None:
    died = subprocess.run(
        [sys.executable, "-c", ASK_AND_DIE, file, tmp_path / "other", formula.data.fingerprint],
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == 9, died.stderr
    (orphan,) = open_study(spec, workspace).trials()
    assert orphan.state is TrialState.RUNNING
    go(spec, formula, trials=2)
    states = [record.state for record in open_study(spec, workspace).trials()]
    assert states == [TrialState.INTERRUPTED, TrialState.COMPLETE, TrialState.COMPLETE]
    assert formula.points()[0] == dict(orphan.point), "its point comes first"


def test_the_driver_need_not_be_named(database: str, workspace: Workspace) -> None:
    assert database.startswith("postgresql://")
    optuna.create_study(study_name="theirs", storage=database.replace("://", "+psycopg://", 1))
    assert list_studies(workspace, storage=database) == ("theirs",)
