"""Which sampler finds most in few trainings, and what its asks cost: ``python -m benchmarks.samplers``.

Runs a study's file, swept as it says, under each sampler and several of its seeds, without MLflow. All else
is equal. There are no presets, which every sampler would begin with alike, and no pruning: a training is a
training. Prints the hypervolume after 5, 10, 20 and 40 trainings, and the seconds of asks and of trainings by
then. The file's own point is the first training of all. The rest of the start-up is random for ``tpe`` and
``gp``, and it is the population of ``nsga2`` and ``nsga3``: ``--set study.startup_trials=5`` shortens it.

Every study has one thread. ``--output`` keeps every number; a study that stands there is not run again while
its file is the same. Reads valid parts only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.common import CACHE, mean_and_spread, print_table
from benchmarks.kept import completed, digest
from benchmarks.sweeps import ROOT
from benchmarks.sweeps import run as run_swept
from painvrl.study.file.spec import StudySpec, check_spec, load_spec
from painvrl.study.search.asktell import Asked, AskTell
from painvrl.study.search.port import SAMPLERS as KNOWN

LOOKS = (5, 10, 20, 40)
SAMPLERS = ("tpe", "gp", "nsga2", "qmc", "random")


@contextmanager
def timed_asks() -> Iterator[list[float]]:
    """The seconds of each ask of a study that runs in this process meanwhile."""
    seconds: list[float] = []
    ask = AskTell.ask

    def timed(adapter: AskTell) -> Asked | None:
        start = time.perf_counter()
        asked = ask(adapter)
        seconds.append(time.perf_counter() - start)
        return asked

    AskTell.ask = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        AskTell.ask = ask  # type: ignore[method-assign]


def spec_of(base: StudySpec, trials: int, sampler: str, seed: int) -> StudySpec:
    """The study as a sampler runs it, from one of its seeds."""
    study = base.study.model_copy(update={"sampler": sampler, "seed": seed, "trials": trials})
    spec = base.model_copy(update={"study": study, "presets": (), "pruning": False})
    check_spec(spec)
    return spec


def run(of: Callable[[str, int], StudySpec], cache: Path, sampler: str, seed: int) -> dict[str, Any]:
    """One study: after each training the hypervolume, and the seconds of trainings and of asks so far."""
    torch.set_num_threads(1)
    spec = of(sampler, seed)
    with TemporaryDirectory() as folder, timed_asks() as asks:
        moments = run_swept(spec, Path(folder) / "workspace", cache)
    rows = [[one.hypervolume, one.seconds, sum(asks[: one.finished])] for one in moments]
    return {"sampler": sampler, "seed": seed, "spec": digest(spec), "trainings": rows}


def report(studies: Sequence[Mapping[str, Any]], looks: Sequence[int]) -> None:
    """Print a row a sampler: mean and deviation over seeds after each number of trainings."""
    for place, (title, scale) in enumerate(
        (("Hypervolume x 10,000", 1e4), ("Seconds of trainings", 1.0), ("Seconds of asks", 1.0))
    ):
        rows = []
        for sampler in dict.fromkeys(one["sampler"] for one in studies):
            own = [one["trainings"] for one in studies if one["sampler"] == sampler]
            cells = [[each[look - 1][place] * scale for each in own if len(each) >= look] for look in looks]
            shown = [mean_and_spread(cell) if cell else "" for cell in cells]
            rows.append([sampler, str(len(own)), *shown])
        print_table(f"{title} after so many trainings", ["sampler", "seeds", *map(str, looks)], rows)
    for sampler in dict.fromkeys(one["sampler"] for one in studies):
        last = [one["trainings"][-1] for one in studies if one["sampler"] == sampler]
        share = statistics.mean(asks / (asks + trainings) for _, trainings, asks in last)
        print(f"{sampler}: {share:.1%} of the seconds are asks")


def main() -> None:
    """Run what is not there yet, keep it, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=ROOT / "studies" / "movielens.yaml")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=KNOWN.names())
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=max(LOOKS))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as in study run")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=CACHE, help="of prepared data")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/samplers.json"))
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    of = partial(spec_of, load_spec(asked.study, asked.set), asked.trials)
    one = partial(run, of, asked.cache.absolute())
    wanted = [(sampler, seed) for seed in range(asked.seeds) for sampler in asked.samplers]
    kept = completed(asked.output, "sampler", wanted, spec_of=of, run=one, jobs=asked.jobs)
    there = set(wanted)
    studies = [each for each in kept["studies"] if (each["sampler"], each["seed"]) in there]
    report(studies, [look for look in LOOKS if look <= asked.trials] or [asked.trials])


if __name__ == "__main__":
    main()
