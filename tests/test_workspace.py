from __future__ import annotations

from pathlib import Path

import pytest

from painvrl.errors import UserError
from painvrl.workspace import Workspace


def test_paths_are_absolute_wherever_it_is_asked_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(Path("here"))
    monkeypatch.chdir("/")
    assert workspace.root == tmp_path / "here"
    assert workspace.optuna_db == tmp_path / "here" / "optuna.db"
    assert workspace.storage_url == f"sqlite:///{tmp_path}/here/optuna.db"
    assert workspace.tracking_uri == f"sqlite:///{tmp_path}/here/mlflow.db"
    assert {path.parent for path in (workspace.cache, workspace.checkpoints, workspace.artifacts)} == {
        workspace.root
    }
    assert workspace.test_reads.name == "test_reads.jsonl"


def test_nothing_is_made_before_create(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    assert workspace.create() == workspace
    assert workspace.root.is_dir()


def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be made"):
        Workspace(tmp_path / "file").create()
    with pytest.raises(UserError, match="cannot be made"):
        Workspace(tmp_path / "file" / "below").create()


def test_studies_have_locks_of_their_own_whatever_their_names(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    names = ["a", "A", "a/b", "a_b", "../a", "a" * 300]
    paths = {workspace.lock_path(name) for name in names}
    assert len({str(path).lower() for path in paths}) == len(names)
    assert {path.parent for path in paths} == {tmp_path / "locks"}
