from __future__ import annotations

import os
from pathlib import Path

import pytest

from painvrl.core.errors import UserError
from painvrl.core.wholefile import write_whole


def test_a_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    assert write_whole(path, b"one", what="the page") == path
    write_whole(path, "zwölf", what="the page")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_whole(tmp_path / "table.md", "old", what="the table")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(UserError, match="the table cannot be written: No space left"):
            write_whole(path, "new", what="the table")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("table.md", "old")]


def test_others_may_read_a_file_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_whole(tmp_path / "table.md", "x", what="the table")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["folder", "file/page.html", "x" * 256, "x" * 250 + "/" + "y" * 256])
def test_a_place_where_nothing_can_be_written_is_an_error_of_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the page cannot be written: \w") as caught:
        write_whole(tmp_path / place, "x", what="the page")
    assert place in str(caught.value)
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_that_is_given_for_a_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="name a file in it"):
        write_whole(Path(), "x", what="the page")


def test_a_long_name_that_is_allowed_is_written(tmp_path: Path) -> None:
    name = "n" * 255
    assert write_whole(tmp_path / name, "x", what="the page").read_text() == "x"


@pytest.mark.parametrize("name", ["ü" * 120, "a" * 255])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    assert write_whole(tmp_path / name, "x", what="the page").read_text(encoding="utf-8") == "x"
