"""Files that no one wrote, a few of each kind; `python -m benchmarks.mutations` tries thousands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_in_time_and_memory() -> None:
    counts = ["--specs", "150", "--data", "200", "--flips", "300"]
    command = [sys.executable, "-m", "benchmarks.mutations", *counts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert found["faults"] == {}
    assert (done.returncode, sum(found["counts"].values())) == (0, 650)
    assert found["peak_gib"] < 2
