"""What a study costs beside its trainings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_the_stopwatch_counts_each_moment_for_the_innermost_part() -> None:
    from benchmarks.study_overhead import Stopwatch, shares

    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0])
    watch = Stopwatch(clock=lambda: next(now))
    with watch.part("before"):  # 0
        with watch.part("sampler"):  # 1
            watch.timed(lambda: None, "storage")()  # 3 to 6
        # 10
        watch.rename("after")  # 15
    assert watch.seconds == {"before": 1 + 5, "sampler": 2 + 4, "storage": 3, "after": 6}
    assert watch.calls == {"before": 1, "sampler": 1, "storage": 1}

    found = shares(
        {"training": 80.0, "data": 5.0, "storage": 4.0, "sampler": 6.0, "imports of the trainer": 3.0}, 100.0
    )
    assert (found["machinery_seconds"], found["machinery_share"]) == (12.0, 0.12)
    assert found["parts"] == {"sampler": 6.0, "storage": 4.0, "rest": 2.0}


@pytest.mark.slow
def test_the_parts_of_a_study_add_up_to_its_wall_time(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    spec = {
        "study": {"name": "timed", "trials": 9},
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": tiny_settings,
        "space": {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}},
        "presets": [],
        "pruning": False,
    }
    (tmp_path / "timed.yaml").write_text(json.dumps(spec), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "benchmarks.study_overhead", "--only", "tpe", "--trials", "3"]
    places = ["--spec", tmp_path / "timed.yaml", "--cache", tmp_path / "cache"]
    done = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["trials"] == 3
    assert found["calls"]["training"] == found["calls"]["mlflow: finish"] == 3
    assert found["calls"]["storage"] > 3 * 4
    parts = found["parts"]
    assert {"imports", "sampler", "storage", "records", "mlflow: init", "between the trials"} <= set(parts)
    assert all(seconds >= 0 for seconds in parts.values())
    assert sum(parts.values()) == pytest.approx(found["machinery_seconds"], abs=0.05)
    others = ("training_seconds", "data_seconds", "trainer_import_seconds")
    whole = found["machinery_seconds"] + sum(found[name] for name in others)
    assert whole == pytest.approx(found["total_seconds"], abs=0.01)
    assert found["machinery_share"] == pytest.approx(
        found["machinery_seconds"] / found["total_seconds"], abs=1e-4
    )
