"""Every benchmark that the docs name is there, starts, and is run by make."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "benchmarks").glob("[!_]*.py"))
SCRIPTS = [path.stem for path in FILES if "\ndef main()" in path.read_text(encoding="utf-8")]
SEEDED = [path.stem for path in FILES if '"--seeds"' in path.read_text(encoding="utf-8")]


def test_every_benchmark_named_in_the_docs_exists() -> None:
    named = {
        name
        for document in (ROOT / "docs").glob("*.md")
        if document.stem != "lab-book"  # which names what there was at its dates
        for name in re.findall(r"python -m benchmarks\.(\w+)", document.read_text(encoding="utf-8"))
    }
    assert named
    assert named <= set(SCRIPTS)


def planned_by_make(target: str) -> str:
    # The tests may run under make themselves, which hands its options down.
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-n", target], cwd=ROOT, env=plain, capture_output=True, text=True, check=True
    ).stdout


def test_make_experiments_runs_every_script_that_compares_over_seeds() -> None:
    planned = planned_by_make("experiments")
    assert {"backbone", "fronts", "one_at_a_time", "planted"} <= set(SEEDED) <= set(SCRIPTS)
    assert [name for name in SEEDED if not re.search(rf"\b{name}\b", planned)] == []


def test_make_bench_writes_json_and_measures_the_time_to_an_ndcg_at_every_size() -> None:
    from benchmarks.sizes import SIZES

    planned = planned_by_make("bench")
    assert "--benchmark-json=benchmarks/results/" in planned
    assert re.search(rf"for size in movielens {' '.join(SIZES)}; do .*benchmarks.time_to_ndcg", planned)


HELP_OF_ALL = """
import contextlib, io, json, runpy, sys
helps = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_module(f"benchmarks.{script}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            helps[script] = (end.code, said.getvalue())
print(json.dumps(helps))
"""
"""In one process: each of its own would import PyTorch again."""


@pytest.mark.slow
def test_every_benchmark_starts() -> None:
    command = [sys.executable, "-c", HELP_OF_ALL, *SCRIPTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    helps = json.loads(done.stdout)
    assert set(helps) == set(SCRIPTS)
    for script, (code, said) in helps.items():
        assert code == 0, script
        assert ("--seeds" in said) is (script in SEEDED), script


@pytest.mark.slow
def test_the_timed_benchmarks_are_found_by_their_own_settings_and_not_by_the_tests() -> None:
    # The inner run is none of this suite's workers: pytest-benchmark would warn, in the one called gw0.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "benchmarks/pytest.ini", "benchmarks", "--collect-only", "-q"],
        cwd=ROOT,
        env=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    collected = {line.split("::")[0] for line in found.stdout.splitlines() if "::" in line}
    assert collected == {path.name for path in FILES if path.name.startswith("bench_")}
    assert not list((ROOT / "benchmarks").glob("test_*.py"))
