from __future__ import annotations

from pathlib import Path

import pytest

from painvrl.errors import UserError
from painvrl.study.page.file import write_page


def test_a_page_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    assert write_page("one", path) == path
    write_page("zwölf", path)
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(UserError, match="the report cannot be written: ") as caught:
        write_page("one", tmp_path / "page.html")
    assert "page.html" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
