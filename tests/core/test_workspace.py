from __future__ import annotations

from pathlib import Path

import pytest

from painvrl.core.errors import UserError
from painvrl.core.workspace import Workspace
from painvrl.study.store.database import sqlite_file


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


@pytest.mark.parametrize("name", ["plain", "100% sure?#é日本 'q' \"x\" {y}@a:b+c", "a%20b"])
def test_the_databases_urls_name_their_files_whatever_the_path_holds(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path / name)
    assert sqlite_file(workspace.storage_url) == workspace.optuna_db
    assert sqlite_file(workspace.tracking_uri) == workspace.mlflow_db


def test_a_path_that_no_url_can_hold_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be UTF-8"):
        Workspace(tmp_path / "\udcff")


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
