"""Databases that are cut off, flipped, or on a full disk: one line each, and no traceback."""

from __future__ import annotations

import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import StudyError, UserError
from painvrl.core.workspace import Workspace
from painvrl.study.choice.picks import stored_picks
from painvrl.study.file.spec import StudySpec
from painvrl.study.front import front_table, status
from painvrl.study.report.header import header_of
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import open_study

Go = Callable[..., Any]
FLIPS = 120


def look(folder: Path) -> str:
    """Read all that commands read of a study; what is said of it, if it cannot be read."""
    try:
        study = open_study("toy", Workspace(folder))
        records = study.trials()
        front_table(study, stored_picks(study), records)
        status(study, records)
        header_of(study)
    except UserError as error:
        return str(error)
    finally:
        for name in ("optuna.db-wal", "optuna.db-shm", "optuna.db-journal"):
            (folder / name).unlink(missing_ok=True)
    return ""


@pytest.fixture
def content(spec: StudySpec, formula: Any, go: Go, workspace: Workspace) -> bytes:
    """The database of a study of four trials."""
    go(spec, formula)
    return workspace.optuna_db.read_bytes()


@pytest.mark.slow
def test_a_database_with_flipped_bits_is_read_or_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    rng = random.Random(7)
    said = []
    for number in range(FLIPS):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 8, 64])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "optuna.db").write_bytes(damaged)
        said.append(look(folder))
        shutil.rmtree(folder)
    assert not [one for one in said if "\n" in one]
    assert 0 < said.count("") < FLIPS


@pytest.mark.parametrize("kept", [1, 99, 4096, 0.3, 0.6, 0.95])
def test_a_database_that_is_cut_off_is_refused_in_one_line(
    content: bytes, spec: StudySpec, formula: Any, go: Go, workspace: Workspace, kept: float
) -> None:
    size = kept if isinstance(kept, int) else int(kept * len(content))
    workspace.optuna_db.write_bytes(content[:size])
    with pytest.raises(StudyError) as caught:
        go(spec, type(formula)())
    assert "\n" not in str(caught.value)
    assert str(workspace.optuna_db) in str(caught.value)


def test_an_empty_file_is_no_new_database(
    spec: StudySpec, formula: Any, go: Go, workspace: Workspace
) -> None:
    workspace.optuna_db.write_bytes(b"")
    with pytest.raises(StudyError, match="is empty or cut off"):
        go(spec, formula)
    assert workspace.optuna_db.read_bytes() == b""


def test_a_full_disk_is_one_line_and_the_study_continues_with_nothing_left_running(
    spec: StudySpec, formula: Any, go: Go, workspace: Workspace
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))

    formula.script = {2: fill}
    try:
        with pytest.raises(UserError) as caught:
            go(spec, formula)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert go(spec, type(formula)()).status.counts["complete"] == 4
    states = {record.state for record in open_study("toy", workspace).trials()}
    assert states <= {TrialState.COMPLETE, TrialState.INTERRUPTED}
