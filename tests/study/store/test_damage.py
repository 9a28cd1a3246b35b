"""Databases that are cut off, flipped, or on a full disk: one line each, and no traceback."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from painvrl.core.errors import StudyError, UserError
from painvrl.core.workspace import Workspace
from painvrl.study.choice.picks import stored_picks
from painvrl.study.file.spec import StudySpec
from painvrl.study.front import front_table, status
from painvrl.study.report.header import gate_of, header_of
from painvrl.study.runner import run_study
from painvrl.study.search.asktell import AskTell
from painvrl.study.store.creation import create_study
from painvrl.study.store.database import connect
from painvrl.study.store.lock import SPARE
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import Attr, open_study
from painvrl.study.store.upgrade import upgrade
from painvrl.study.tracking.port import NullTracker

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


@pytest.mark.slow
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
    with pytest.raises(StudyError, match="is empty or cut off"):
        open_study("toy", workspace)  # a look would make it whole
    with pytest.raises(StudyError, match="is empty or cut off"):
        upgrade(workspace)
    assert workspace.optuna_db.read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (Attr.CONSTRAINTS, None),
        (Attr.CONSTRAINTS, {"a": 1}),
        (Attr.REQUESTED, "x"),
        (Attr.MADE_BY, None),
        (Attr.SAMPLER, None),
        (Attr.SWEEP, []),
        (Attr.RUNS, [1]),
        (Attr.SPLIT, []),
        (Attr.SPLIT, {"a": 1}),
        (Attr.GATE, {"table": 3}),
        (Attr.AUTO, "x"),
        (Attr.WARM_START, 5),
        (Attr.FILE, 5),
    ],
)
def test_a_note_of_other_hands_is_damage_in_one_line(
    spec: StudySpec, workspace: Workspace, name: str, value: object
) -> None:
    create_study(spec, workspace, data="d")
    connect(workspace.storage_url).set_study_user_attr(1, name, value)

    def read() -> None:
        found = open_study("toy", workspace)
        header_of(found), gate_of(found)

    with pytest.raises(StudyError, match="damaged") as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_study_continues_with_nothing_left_running(
    spec: StudySpec, formula: Any, go: Go, workspace: Workspace, caplog: pytest.LogCaptureFixture
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
    assert "trials that are left as running, since their end cannot be written: 1; the next" in caplog.text
    assert go(spec, type(formula)()).status.counts["complete"] == 4
    states = {record.state for record in open_study("toy", workspace).trials()}
    assert states <= {TrialState.COMPLETE, TrialState.INTERRUPTED}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # engines keep connections


def fill(disk: Path, but: int) -> None:
    """Fill a disk, all but so many bytes."""
    taken = disk / "taken"
    with taken.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    os.truncate(taken, taken.stat().st_size - but)


@pytest.mark.parametrize("when", ["trained", "tracked"])
@pytest.mark.parametrize("left", [0, 20, 80])
def test_wherever_a_trial_is_when_the_disk_is_full_it_is_one_line_and_leaves_none_running(
    disk: Path,
    spec: StudySpec,
    formula: Any,
    empty_storage: Path,
    caplog: pytest.LogCaptureFixture,
    when: str,
    left: int,
) -> None:
    workspace, tracker = Workspace(disk / "workspace").create(), NullTracker()
    shutil.copy(empty_storage, workspace.optuna_db)
    if when == "trained":
        formula.script = {1: lambda: fill(disk, left * 1024)}
    else:
        tracker.finish = lambda *_, **__: fill(disk, left * 1024)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"full|No space left") as caught:
        run_study(spec, workspace, torch.device("cpu"), tracker=tracker, objective=formula)
    assert "\n" not in str(caught.value)
    assert not caplog.records
    found = [record.state for record in open_study("toy", workspace).trials()]
    assert set(found) <= {TrialState.COMPLETE, TrialState.INTERRUPTED}
    (disk / "taken").unlink()
    run_study(spec, workspace, torch.device("cpu"), tracker=NullTracker(), objective=type(formula)())
    records = open_study("toy", workspace).trials()
    assert sum(record.state is TrialState.COMPLETE for record in records) == 4
    assert not list(disk.rglob("*.spare"))


def test_a_run_holds_its_room_from_its_start_and_no_longer_than_itself(
    spec: StudySpec, formula: Any, go: Go, workspace: Workspace
) -> None:
    held: list[int] = []

    def look() -> None:
        held.extend(file.stat().st_size for file in workspace.root.rglob("*.spare"))

    formula.script = {0: look, 1: RuntimeError("no")}
    with pytest.raises(RuntimeError, match="no"):
        go(spec, formula)
    assert held == [SPARE]
    assert not list(workspace.root.rglob("*.spare"))


def test_whatever_the_clean_up_meets_the_first_error_is_the_one_that_is_raised(
    spec: StudySpec, formula: Any, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise LookupError("the second error")

    monkeypatch.setattr(AskTell, "interrupt", fails)
    formula.script = {1: RuntimeError("the first error")}
    with pytest.raises(RuntimeError, match="the first error"):
        go(spec, formula)
