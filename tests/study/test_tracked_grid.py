from __future__ import annotations

from pathlib import Path

from painvrl.study.tracked_grid import Tracked, load_tracked, save_tracked


def test_the_trackers_runs_are_those_of_the_same_ablation(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tracking.json"
    assert load_tracked(path, "a") == Tracked(of="a")
    tracked = Tracked(of="a", parent_run="p", runs={"key": "r"})
    save_tracked(path, tracked)
    assert load_tracked(path, "a") == tracked
    assert load_tracked(path, "b") == Tracked(of="b")
    path.write_text("{", encoding="utf-8")
    assert load_tracked(path, "a") == Tracked(of="a")
