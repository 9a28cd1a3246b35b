"""Whose front is better when every method is searched as long?

``python -m benchmarks.fronts [--seeds 5] [--first-seed 0]``.

As long means as many trials; those of a method with a mask take longer. Each preset stands in the place of
the method in ``studies/movielens.yaml``, with the hyperparameters of its space that the preset reads, swept
as the file says. Sampler and pruning are the same, under several seeds (a seed is that of the sampler, and
of split and initialisation together). So `ultragcn` is the plain backbone with its own hyperparameters and
offsets, and what `painvrl` has beyond it is what environments and mask are worth.

On the plane of valid IID and OOD NDCG@20: the area under the front; what a choice by IID alone takes; the
best OOD that keeps 90% of the best IID of any method under that seed; and the share of `painvrl`'s front
that the other one dominates. Differences are paired by seed, with 95% t intervals. ``--output`` keeps every
trial; a study that stands there is not run again. Reads valid parts only.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import CACHE, mean_and_spread, paired_interval, print_table
from benchmarks.kept import completed, digest
from benchmarks.sweeps import ROOT
from benchmarks.sweeps import run as run_swept
from painvrl.core.workspace import Workspace
from painvrl.run.hyperparameters import apply
from painvrl.run.presets import PRESETS
from painvrl.stats.dominance import hypervolume, non_dominated
from painvrl.study.file.space import Space
from painvrl.study.file.spec import StudySpec, load_spec
from painvrl.study.store.records import complete
from painvrl.study.store.storage import open_study

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"
VOLUME = "hypervolume x 10,000"
KEPT = 0.9
REFERENCE = "painvrl"
UNREAD = {
    "ultragcn": ("environments.", "mask.", "fusion.variant_weight"),
    "erm": ("environments.", "mask.irm_weight"),
    "irm": (),
    "invrl": ("fusion.variant_weight",),
    "painvrl": (),
}

Plane = list[tuple[float, float]]
"""(IID, OOD) of all points of a study."""


def spec_of(trials: int, preset: str, seed: int) -> StudySpec:
    """The shipped study with a preset in the place of the method."""
    spec = load_spec(ROOT / "studies" / "movielens.yaml")
    config = apply(spec.config, PRESETS[preset]).model_copy(update={"seed": seed})  # type: ignore[index]
    read = {path: one for path, one in spec.space.root.items() if not path.startswith(UNREAD[preset])}
    return spec.model_copy(
        update={
            "study": spec.study.model_copy(update={"seed": seed, "trials": trials}),
            "config": config,
            "space": Space(read),
            "presets": (),
        }
    )


def run(trials: int, cache: Path, preset: str, seed: int) -> dict[str, Any]:
    """One study, in a workspace that is thrown away."""
    torch.set_num_threads(1)
    spec = spec_of(trials, preset, seed)
    with tempfile.TemporaryDirectory() as folder:
        moments = run_swept(spec, Path(folder), cache)
        points = complete(open_study(spec, Workspace(Path(folder))).trials())
    plane = [(one.metrics[IID], one.metrics[OOD]) for one in points]
    last = moments[-1]
    return {
        "preset": preset,
        "seed": seed,
        "spec": digest(spec),
        "plane": plane,
        "hypervolume": last.hypervolume,
        "seconds": last.seconds,
    }


def front_of(plane: Plane) -> Plane:
    """The points that no other dominates."""
    return [point for point, kept in zip(plane, non_dominated(plane), strict=True) if kept]


def by_iid_alone(plane: Plane) -> tuple[float, float]:
    """The point of the best IID."""
    return max(plane)


def ood_that_keeps(plane: Plane, least: float) -> float:
    """The best OOD of a point with an IID of at least ``least``."""
    return max((ood for iid, ood in plane if iid >= least), default=0.0)


def dominated_share(plane: Plane, other: Plane) -> float:
    """The share of the front of ``plane`` that a point of ``other`` beats on both."""
    front = front_of(plane)
    return statistics.fmean(any(a > iid and b > ood for a, b in other) for iid, ood in front)


def report(kept: dict[str, Any], seeds: Sequence[int]) -> None:
    """Print the table of these seeds, out of what was kept."""
    planes = {(one["preset"], one["seed"]): [tuple(p) for p in one["plane"]] for one in kept["studies"]}
    least = {seed: KEPT * max(by_iid_alone(planes[preset, seed])[0] for preset in PRESETS) for seed in seeds}
    measures: dict[str, Callable[[Plane, int], float]] = {
        "area x 1,000": lambda plane, _: 1000 * hypervolume(plane),
        "by IID alone: IID": lambda plane, _: by_iid_alone(plane)[0],
        "OOD": lambda plane, _: by_iid_alone(plane)[1],
        f"OOD at {KEPT:.0%} of the best IID": lambda plane, seed: ood_that_keeps(plane, least[seed]),
    }
    values: dict[tuple[str, str], list[float]] = {
        (preset, name): [measure(planes[preset, seed], seed) for seed in seeds]
        for preset in PRESETS
        for name, measure in measures.items()
    }
    volumes = {(one["preset"], one["seed"]): 1e4 * one["hypervolume"] for one in kept["studies"]}
    values |= {(preset, VOLUME): [volumes[preset, seed] for seed in seeds] for preset in PRESETS}
    names = [*measures, VOLUME]
    rows, gaps = [], []
    for preset in PRESETS:
        rows.append([preset, *(mean_and_spread(values[preset, name]) for name in names)])
        if preset == REFERENCE:
            continue
        gap = [paired_interval(values[REFERENCE, name], values[preset, name]) for name in names]
        lost = [dominated_share(planes[REFERENCE, seed], planes[preset, seed]) for seed in seeds]
        won = [dominated_share(planes[preset, seed], planes[REFERENCE, seed]) for seed in seeds]
        gaps.append(
            [
                preset,
                *("{:+.4f} [{:+.4f}, {:+.4f}]".format(*each) for each in gap),
                f"{statistics.fmean(won):.0%}",
                f"{statistics.fmean(lost):.0%}",
            ]
        )
    title = f"Fronts of equal budgets, seeds {seeds[0]} to {seeds[-1]}, valid NDCG@20"
    print_table(title, ["method", *names], rows)
    title = f"{REFERENCE} less each of them; shares of a front that the other one dominates"
    columns = ["method", *names, f"its front, by {REFERENCE}'s", f"{REFERENCE}'s front, by its"]
    print_table(title, columns, gaps)


def main() -> None:
    """Measure what is not there yet, keep it, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5, choices=range(2, 11), metavar="2..10")
    parser.add_argument("--first-seed", type=int, default=0, help="of the seeds, which follow each other")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=CACHE, help="of prepared data")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/fronts.json"))
    asked = parser.parse_args()
    if asked.first_seed < 0:
        parser.error("--first-seed: must be at least 0")
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    wanted = [(preset, seed) for seed in seeds for preset in PRESETS]
    of, one = partial(spec_of, asked.trials), partial(run, asked.trials, asked.cache.absolute())
    report(completed(asked.output, "preset", wanted, spec_of=of, run=one, jobs=asked.jobs), seeds)


if __name__ == "__main__":
    main()
