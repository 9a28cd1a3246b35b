"""Where the memory of one training goes: ``python -m benchmarks.beyond_memory --interactions 2000000``.

Writes random interactions as Parquet and normal features as ``.npy``, reads them as anyone's table is read,
and trains once. Every stage starts with a fresh peak. Printed are its seconds, the peak of the process, and
of it the process's own memory: pages of mapped files are not, since the system can take them back.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import config, print_table
from painvrl.core.device import peak_memory_mib, reset_peak_memory
from painvrl.data.sources import load
from painvrl.data.splits import make_split
from painvrl.run import prepare
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare_split

CPU = torch.device("cpu")
BLOCK_ROWS = 1 << 16


def write(folder: Path, users: int, items: int, interactions: int, features: int) -> None:
    """Draw the files once; every pair is drawn uniformly, and nothing can be learnt from them."""
    import pyarrow as pa
    from pyarrow import parquet

    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    cells = np.unique(draws.integers(0, users * items, size=interactions))  # a few repeat
    table = {"user": cells // items, "item": cells % items}
    parquet.write_table(pa.table(table), folder / "rows.parquet")
    shape = (items, features)
    matrix = np.lib.format.open_memmap(folder / "features.npy", "w+", dtype=np.float32, shape=shape)
    for start in range(0, items, BLOCK_ROWS):
        rows = matrix[start : start + BLOCK_ROWS]
        rows[:] = draws.standard_normal(rows.shape, dtype=np.float32)
    (folder / "ids.txt").write_text("".join(f"{item}\n" for item in range(items)), encoding="ascii")
    (folder / "done").touch()


def settings_of(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """A short run of every stage."""
    return {
        "data": {
            "kind": "table",
            "path": str(folder / "rows.parquet"),
            "core": 1,
            "files": {"content": {"path": str(folder / "features.npy"), "key": "ids.txt"}},
        },
        "split": {"protocol": "popularity", "ood_share": asked.scored, "iid_share": asked.scored},
        "training": {"max_epochs": asked.epochs, "evaluate_every": asked.epochs},
        "environments": {"steps": asked.epochs, "assignment": asked.assignment},
        "mask": {"steps": asked.epochs},
        "rounds": 1,
    }


@dataclass
class Meter:
    """Of each stage the seconds, the peak, and the peak of the process's own memory, in MiB."""

    found: dict[str, dict[str, float]] = field(default_factory=dict)
    _own: float = 0.0
    _running: tuple[str, float] | None = None
    _sampling: bool = True

    def stage(self, name: str) -> None:
        """A stage begins, and the one before has ended."""
        self._end()
        reset_peak_memory(CPU)
        self._own = 0.0
        self._running = (name, time.perf_counter())

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Nothing is done with it."""

    def _end(self) -> None:
        if self._running is not None:
            name, start = self._running
            seconds, peak = time.perf_counter() - start, peak_memory_mib(CPU)
            assert peak is not None
            row = {
                "seconds": round(seconds, 1),
                "peak": round(peak),
                "own": round(max(self._own, _own_mib())),
            }
            self.found[name] = row
            print(json.dumps({name: row}), flush=True)
        self._running = None

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Look at the process's own memory ten times a second."""

        def look() -> None:
            while self._sampling:
                self._own = max(self._own, _own_mib())
                time.sleep(0.1)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        yield
        self._end()
        self._sampling = False
        thread.join()


def _own_mib() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Read, split, index and train, stage by stage."""
    settings, meter = config(settings_of(folder, asked)), Meter()
    cache = folder / "cache"
    with meter.sampling():
        meter.stage("read the files")
        dataset = load(settings.data, cache_dir=cache, seed=0)
        if asked.stop == "read":
            return meter.found
        del dataset
        meter.stage("read the cache")
        dataset = load(settings.data, cache_dir=cache, seed=0)
        meter.stage("split")
        split = make_split(dataset, settings.split, seed=0)
        meter.stage("index")
        prepared = prepare_split(settings, dataset, split, split.train, CPU)
        if asked.stop == "index":
            return meter.found
        run(settings, prepared, observer=meter)
    return meter.found


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--interactions", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2, help="and steps, of every stage")
    parser.add_argument("--scored", type=float, default=0.01, help="share of IID and of OOD rows")
    parser.add_argument("--assignment", default="random", help="of environments")
    parser.add_argument("--stop", choices=["read", "index"], help="after this stage")
    parser.add_argument("--stream", action="store_true", help="stream the features, whatever the memory")
    parser.add_argument("--folder", type=Path, default=Path("workspace/beyond_memory"))
    asked = parser.parse_args()
    size = (asked.users, asked.items, asked.interactions, asked.features)
    folder = asked.folder / "-".join(map(str, size))
    write(folder, *size)
    if asked.stream:
        prepare.MOST_OF_MEMORY = 0.0
    found = measure(folder, asked)
    print_table(
        "{:,} users x {:,} items x {:,} interactions x {:,} features".format(*size),
        ["stage", "seconds", "peak, MiB", "own, MiB"],
        [[name, *(f"{row[key]:,}" for key in ("seconds", "peak", "own"))] for name, row in found.items()],
    )


if __name__ == "__main__":
    main()
