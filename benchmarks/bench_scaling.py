"""How time and memory grow with interactions, items, features and environments.

Every point is a process of its own, so that its peak memory is its own, too.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.scaling import CURVES, Point


@pytest.mark.parametrize(
    ("curve", "point"),
    [(name, point) for name, points in CURVES.items() for point in points],
    ids=lambda value: value.label() if isinstance(value, Point) else value,
)
def bench_scaling(benchmark: BenchmarkFixture, curve: str, point: Point) -> None:
    """The whole process is timed; its stages and its peak memory are extra information."""
    command = [sys.executable, "-m", "benchmarks.scaling", *point.arguments()]

    def run() -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    benchmark.group = f"scaling in {curve}"
    benchmark.extra_info.update(json.loads(benchmark.pedantic(run, rounds=1)))
