"""What waits on disk for a tracker."""

from __future__ import annotations

from pathlib import Path

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.store.packed import packed
from painvrl.study.tracking.spool import Spool, Spooled, spool_of, spooled_studies

FAILED = Failed(reason="diverged", message="no number")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = spool_of(Workspace(tmp_path), "toy")
    made.begin("study: {}")
    return made


def test_a_file_that_cannot_be_read_is_counted_once(spool: Spool) -> None:
    (spool.folder / "3.json").write_text("{", encoding="utf-8")
    assert (spool.end(), spool.end()) == (1, 0)
    assert [file.name for file in spool.folder.iterdir()] == [".3.json.unreadable"]


def test_one_that_another_process_took_meanwhile_is_not_counted(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.keep(5, FAILED)

    def load(self: Spool) -> dict[int, Spooled]:
        self.drop(5)
        return {}

    monkeypatch.setattr(Spool, "load", load)
    assert spool.end() == 0
    assert not spool.folder.exists()


def test_an_outcome_as_a_study_keeps_it_is_kept_too(spool: Spool) -> None:
    outcome = Completed(metrics={"iid/ndcg_at_20": 0.5}, rounds=({"mask/density": 0.25},))
    spool.keep(5, packed(outcome))
    assert spool.load()[5].outcome == outcome


def test_what_a_tracker_lacks_stays(spool: Spool) -> None:
    spool.keep(5, FAILED)
    (spool.folder / "3.json").write_text("{", encoding="utf-8")
    (spool.folder / "4.json").write_text("[" * 100_000, encoding="utf-8")
    assert spool.end() == 0
    assert spool.load().keys() == {5}
    assert spool.yaml == "study: {}"


def test_a_study_waits_while_its_file_or_a_result_is_there(spool: Spool, tmp_path: Path) -> None:
    (spool.folder / "notes.txt").touch()
    assert spooled_studies(Workspace(tmp_path)) == ("toy",)
    spool.end()
    assert spooled_studies(Workspace(tmp_path)) == ()
    spool.keep(1, FAILED)
    assert spooled_studies(Workspace(tmp_path)) == ("toy",)
