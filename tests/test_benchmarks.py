"""The benchmarks behind the figures of the docs run, and their statistics are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py") if path.stem != "common")


def test_every_benchmark_named_in_the_docs_exists() -> None:
    named = {
        name
        for document in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"python -m benchmarks\.(\w+)", document.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_starts(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--seeds" in done.stdout


def test_paired_interval_is_students_for_five_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.common import paired_interval

    # Gaps 1, 2, 3, 4, 5: mean 3, deviation sqrt(2.5), error sqrt(0.5), t(4) = 2.776.
    mean, low, high = paired_interval([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == pytest.approx(3.0)
    assert low == pytest.approx(3.0 - 2.776 * 0.5**0.5)
    assert high == pytest.approx(3.0 + 2.776 * 0.5**0.5)
