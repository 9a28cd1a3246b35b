"""What pruning costs and gives: ``python -m benchmarks.pruning [--seeds 10]``.

Runs ``studies/movielens.yaml``, swept as it says, with pruning and without it under several seeds of the
sampler, without MLflow. Both arms of a seed run one after the other, with one thread. Prints of each arm the
hypervolume, the seconds of all trainings and how many were pruned, and the ratios of pruned to unpruned with
95% t intervals. The third arm is unpruned again under another sampler seed: what chance alone does.

``--output`` keeps every number; a study that stands there is not run again while its file is the same. Reads
valid parts only.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.common import CACHE, mean_and_spread, paired_interval, print_table
from benchmarks.kept import completed, digest
from benchmarks.sweeps import ROOT
from benchmarks.sweeps import run as run_swept
from painvrl.study.file.spec import StudySpec, load_spec

PRUNED, UNPRUNED, CHANCE = "pruned", "unpruned", "unpruned, other seed"
ARMS = {PRUNED: (True, 0), UNPRUNED: (False, 0), CHANCE: (False, 1000)}
"""Whether an arm prunes, and by how much the sampler's seed is moved."""


def spec_of(trials: int, arm: str, seed: int) -> StudySpec:
    """The shipped study as an arm runs it."""
    pruned, moved = ARMS[arm]
    spec = load_spec(ROOT / "studies" / "movielens.yaml")
    study = spec.study.model_copy(update={"seed": seed + moved, "trials": trials})
    return spec.model_copy(update={"study": study, "pruning": pruned})


def run(trials: int, cache: Path, arm: str, seed: int) -> dict[str, Any]:
    """One study, in a workspace that is thrown away: after each trial seconds and hypervolume so far."""
    torch.set_num_threads(1)
    spec = spec_of(trials, arm, seed)
    with TemporaryDirectory() as folder:
        moments = run_swept(spec, Path(folder), cache)
    curve = [[one.seconds, one.hypervolume] for one in moments]
    return {"arm": arm, "seed": seed, "spec": digest(spec), "curve": curve}


def report(kept: dict[str, Any]) -> None:
    """Print the tables of what was kept."""
    curves = {(one["arm"], one["seed"]): one["curve"] for one in kept["studies"]}
    seeds = sorted(seed for arm, seed in curves if arm == UNPRUNED)
    rows = []
    for arm in ARMS:
        ends = [curves[arm, seed][-1] for seed in seeds]
        row = [arm]
        for place, scale in ((1, 1e4), (0, 1.0)):
            values = [scale * end[place] for end in ends]
            row.append(mean_and_spread(values))
            if len(seeds) > 1:
                less = paired_interval(values, [scale * curves[UNPRUNED, seed][-1][place] for seed in seeds])
                row.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(*less))
        rows.append(row)
    gap = [f"less {UNPRUNED}"] if len(seeds) > 1 else []
    columns = ["arm", "hypervolume x 10,000", *gap, "seconds", *gap]
    print_table(f"Pruning, {len(seeds)} sampler seeds, 95% t intervals of the differences", columns, rows)


def main() -> None:
    """Measure what is not there yet, keep it, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=CACHE, help="of prepared data")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/pruning.json"))
    asked = parser.parse_args()
    wanted = [(arm, seed) for seed in range(asked.seeds) for arm in ARMS]
    of, one = partial(spec_of, asked.trials), partial(run, asked.trials, asked.cache.absolute())
    report(completed(asked.output, "arm", wanted, spec_of=of, run=one, jobs=asked.jobs))


if __name__ == "__main__":
    main()
