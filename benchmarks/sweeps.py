"""What a sweep is worth: the hypervolume after each trial and second, against one value sampled a training.

Runs a study's file under several seeds of the sampler, with `sweep: auto` and with `sweep: false` in turn, so
that both meet the same load. How many seconds of trials does the sweep take to reach 90, 100 and 110% of the
hypervolume that the other way ends with? Process start and data are not in the seconds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.machine import describe, write_results
from painvrl.core.workspace import Workspace
from painvrl.study.file.spec import StudySpec, load_spec
from painvrl.study.report.history import Moment, history
from painvrl.study.runner import run_study
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.port import NullTracker

ROOT = Path(__file__).parent.parent
WAYS: Mapping[str, Any] = {"swept": "auto", "one value": False}
SHARES = (0.9, 1.0, 1.1)


def run(spec: StudySpec, folder: Path, cache: Path) -> tuple[Moment, ...]:
    """A study from its beginning to its end, and its history."""
    workspace = Workspace(folder).create()
    if not workspace.cache.exists():
        cache.mkdir(parents=True, exist_ok=True)
        workspace.cache.symlink_to(cache.absolute())
    run_study(spec, workspace, torch.device("cpu"), tracker=NullTracker())
    return history(open_study(spec, workspace).trials())


def with_seed(spec: StudySpec, seed: int, sweep: Any, trials: int | None) -> StudySpec:
    """The study under another sampler seed, with or without a sweep."""
    settings = spec.study.model_copy(update={"seed": seed, "trials": trials or spec.study.trials})
    return spec.model_copy(update={"study": settings, "sweep": sweep})


def seconds_to(moments: Sequence[Moment], volume: float) -> float | None:
    """Seconds of trials until the hypervolume is there."""
    return next((moment.seconds for moment in moments if moment.hypervolume >= volume), None)


def trials_to(moments: Sequence[Moment], volume: float) -> int | None:
    """Finished trials until it is there."""
    return next((moment.finished for moment in moments if moment.hypervolume >= volume), None)


def workspace_of(folder: Path, seed: int, way: str) -> Path:
    """Where a study is kept."""
    return folder / str(seed) / way.replace(" ", "-")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """``keep``, or one that is thrown away."""
    if keep is not None:
        yield keep
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def measure(
    spec: StudySpec, seeds: Sequence[int], trials: int | None, cache: Path, keep: Path | None
) -> Iterator[dict[str, Any]]:
    """A row a seed; a study that is complete in ``keep`` is read and not run."""
    for seed in seeds:
        with _folder(keep) as folder:
            found = {
                way: run(with_seed(spec, seed, sweep, trials), workspace_of(folder, seed, way), cache)
                for way, sweep in WAYS.items()
            }
        end = found["one value"][-1]
        row: dict[str, Any] = {"seed": seed, "ends": {}, "to": {}}
        for way, moments in found.items():
            row["ends"][way] = {"hypervolume": moments[-1].hypervolume, "seconds": moments[-1].seconds}
            row["to"][way] = {
                f"{share:.0%}": [
                    trials_to(moments, share * end.hypervolume),
                    seconds_to(moments, share * end.hypervolume),
                ]
                for share in SHARES
            }
            row[f"curve {way}"] = [[one.finished, round(one.seconds, 2), one.hypervolume] for one in moments]
        print(seed, row["ends"], row["to"], flush=True)
        yield row


def shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Median over seeds: the seconds of the sweep as a share of all seconds of the other way."""
    found: dict[str, float | None] = {}
    for share in SHARES:
        key = f"{share:.0%}"
        each = [
            None
            if row["to"]["swept"][key][1] is None
            else row["to"]["swept"][key][1] / row["ends"]["one value"]["seconds"]
            for row in rows
        ]
        reached = [one for one in each if one is not None]
        found[key] = statistics.median(reached) if len(reached) == len(each) else None
    return found


def main() -> None:
    """Measure, print, and write ``results/sweeps.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=ROOT / "studies" / "movielens.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--trials", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as in study run")
    parser.add_argument("--cache", type=Path, default=ROOT / "workspace" / "cache", help="of prepared data")
    parser.add_argument("--keep", type=Path, help="folder of the studies; without it they are thrown away")
    parser.add_argument("--results", default="sweeps", help="name of the file in results/")
    asked = parser.parse_args()
    spec = load_spec(asked.study, asked.set)
    machine = describe()
    rows: list[dict[str, Any]] = []
    for row in measure(spec, asked.seeds, asked.trials, asked.cache, asked.keep):
        rows.append(row)
        content = {"study": asked.study.name, "set": asked.set, "rows": rows}
        path = write_results(asked.results, content, machine=machine)
    print({"share of all seconds": shares(rows)})
    print(path)


if __name__ == "__main__":
    main()
