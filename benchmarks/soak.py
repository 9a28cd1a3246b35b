"""A long study: do memory and handles of its process stay flat? ``python -m benchmarks.soak --trials 1000``.

One process trains a cheap study on planted data, with its storage and MLflow, as `painvrl study run` does.
After every so many trials its own memory (`RssAnon`), its threads and its open files are looked at. Printed
are they, the seconds, and what each has grown by a thousand trials over the second half of the study.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from benchmarks.common import print_table
from benchmarks.outages import CHEAP_STUDY
from painvrl.core.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Look:
    """At the process, after so many trials."""

    trials: int
    seconds: float
    memory_mib: float
    threads: int
    files: int


def soak(trials: int, every: int, folder: Path, workers: int = 1) -> Iterator[Look]:
    """Run the study, and look at its process every so many trials.

    Raises:
        RuntimeError: it did not end well.
    """
    workspace = Workspace(folder / "workspace").create()
    spec = folder / "soak.yaml"
    spec.write_text(yaml.safe_dump(_spec(trials)), encoding="utf-8")
    command = [sys.executable, "-m", "painvrl.cli", "study", "run", str(spec), "--device", "cpu"]
    command += ["--workspace", str(workspace.root), "--workers", str(workers)]
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = re.match(r"\[(\d+)/", line)
                if found and int(found[1]) % every == 0:
                    yield _look(process.pid, int(found[1]), time.monotonic() - begun)
        finally:
            if process.poll() is None:
                process.terminate()
    if process.returncode:
        raise RuntimeError(f"the study ended with exit code {process.returncode}")


def growth(looks: Sequence[Look]) -> dict[str, float]:
    """By a thousand trials, from a line through the second half of the looks."""
    half = looks[len(looks) // 2 :]
    trials = np.array([look.trials for look in half]) / 1000
    return {
        name: float(np.polyfit(trials, [float(getattr(look, name)) for look in half], 1)[0])
        for name in ("memory_mib", "threads", "files")
    }


def _spec(trials: int) -> dict[str, object]:
    return {
        "study": {"name": "soak", "trials": trials, "sampler": "random"},
        **CHEAP_STUDY,
        "space": {
            "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8},
            "fusion.popularity_weight": {"type": "float", "low": -0.1, "high": 0.02},
        },
        "sweep": {"points": 6, "keep": 4},
    }


def _look(process: int, trials: int, seconds: float) -> Look:
    folder = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return Look(
        trials=trials,
        seconds=round(seconds, 1),
        memory_mib=int(status["RssAnon"].split()[0]) / 1024,
        threads=int(status["Threads"]),
        files=sum(1 for _ in (folder / "fd").iterdir()),
    )


def main() -> None:
    """Print a row a look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--every", type=int, default=50)
    asked = parser.parse_args()
    looks = []
    with tempfile.TemporaryDirectory() as folder:
        for look in soak(asked.trials, asked.every, Path(folder)):
            print(json.dumps(asdict(look)), flush=True)
            looks.append(look)
    rows = [[f"{value:.0f}" for value in asdict(each).values()] for each in looks]
    print_table("a long study", ["trials", "seconds", "MiB", "threads", "files"], rows)
    print({name: round(value, 1) for name, value in growth(looks).items()})


if __name__ == "__main__":
    main()
