from __future__ import annotations

from pathlib import Path

from benchmarks.storage_rate import seconds_of
from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import list_studies


def test_every_trial_of_a_round_is_asked_for_and_told(database: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).create()
    assert seconds_of(database, workspace, trials=3, runners=1) > 0
    assert len(list_studies(workspace, storage=database)) == 1
