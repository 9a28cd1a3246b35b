from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from painvrl.core.errors import PlaceError, StudyError
from painvrl.study.store.lock import study_lock

HOLD = """
import sys
from pathlib import Path
from painvrl.study.store.lock import study_lock
with study_lock(Path(sys.argv[1]), "toy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_study_has_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "toy.lock"
    with study_lock(path, "toy"), study_lock(tmp_path / "other.lock", "other"):
        with pytest.raises(StudyError) as caught, study_lock(path, "toy"):
            pass
        assert f"process {os.getpid()}" in str(caught.value)
        assert "toy" in str(caught.value)
    with study_lock(path, "toy"):
        pass


@pytest.mark.slow
def test_the_lock_goes_with_its_holder_however_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "toy.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StudyError, match=f"process {holder.pid}"), study_lock(path, "toy"):
            pass
        holder.kill()
        holder.wait()
    with study_lock(path, "toy"):
        assert path.with_suffix(".pid").read_text(encoding="utf-8") == f"{os.getpid()}\n"


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), study_lock(tmp_path / "toy.lock", "toy"):
        raise KeyboardInterrupt
    with study_lock(tmp_path / "toy.lock", "toy"):
        pass


def test_a_place_where_no_lock_can_lie_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PlaceError, match="file"), study_lock(tmp_path / "file" / "toy.lock", "toy"):
        pass
