"""Which few offsets do the baselines need? ``python -m benchmarks.offsets [--size 12]``.

Every baseline with its defaults on the data of ``studies/movielens.yaml``, under the file's own split and
``popularity``, is ranked with sixty offsets. From these, one after the other, that offset is taken which in
the mean over baselines and splits adds the most area under their fronts; the plain point is the first. The
table says what share of the area of all sixty the chosen ones cover, and so do the offsets that
``painvrl baselines`` has, on the seed that chose and on fresh ones. Reads valid parts only.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import prepared, print_table
from painvrl.baselines.offsets import GRID, Offset, measured_under_offsets
from painvrl.baselines.port import Inputs
from painvrl.baselines.registry import BASELINES
from painvrl.baselines.results import IID, OOD
from painvrl.run.config import TrainConfig
from painvrl.stats.dominance import hypervolume
from painvrl.study.file.spec import load_spec

POPULARITY = (0.0, -1.0, -0.5, -0.2, -0.1, 0.1, 0.2, 0.5, 1.0, 2.0)
COLD = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
ALL = tuple(Offset(popularity=p, cold=c) for p, c in itertools.product(POPULARITY, COLD))

Plane = dict[Offset, tuple[float, float]]
"""(IID, OOD) of one fitted baseline under each offset."""


def planes(config: TrainConfig) -> dict[str, Plane]:
    """Every baseline's, by its name; without those that have no area."""
    data = prepared(config)
    inputs = Inputs(config, data)
    found = {}
    for one in BASELINES.entries().values():
        scorer = one.start(inputs)(one.settings())
        measured = measured_under_offsets(data.valid_plan, scorer, inputs.item_degree, (), ALL)
        plane = {
            offset: (values[IID], values[OOD]) for offset, (values, _) in zip(ALL, measured, strict=True)
        }
        if hypervolume(list(plane.values())) > 0:
            found[one.name] = plane
    return found


def covered(plane: Plane, offsets: Sequence[Offset]) -> float:
    """The share of the area of all offsets that these have."""
    return hypervolume([plane[one] for one in offsets]) / hypervolume(list(plane.values()))


def chosen(found: Sequence[Plane], size: int) -> list[Offset]:
    """``size`` offsets, each the one that adds most to those before it; the plain one first."""
    taken = [Offset()]
    while len(taken) < size:
        left = [one for one in ALL if one not in taken]
        taken.append(
            max(left, key=lambda one: statistics.mean(covered(plane, [*taken, one]) for plane in found))
        )
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=len(GRID))
    parser.add_argument("--seeds", type=int, default=2, help="the first one chooses")
    arguments = parser.parse_args()
    base = load_spec(Path("studies/movielens.yaml")).config
    splits = {"one list": {}, "popularity": {"split": {"protocol": "popularity"}}}
    measured = {
        (split, seed, name): plane
        for split, changes in splits.items()
        for seed in range(arguments.seeds)
        for name, plane in planes(
            TrainConfig.model_validate({**base.model_dump(mode="json"), **changes, "seed": seed})
        ).items()
    }
    best = chosen([plane for (_, seed, _), plane in measured.items() if seed == 0], arguments.size)
    print("chosen:", ", ".join(f"({one.popularity:g}, {one.cold:g})" for one in best))
    rows = [
        [*map(str, key), *(f"{covered(plane, each):.3f}" for each in (ALL[:1], best, GRID))]
        for key, plane in measured.items()
    ]
    print_table(
        "share of the area of all offsets", ["split", "seed", "baseline", "plain", "chosen", "in use"], rows
    )


if __name__ == "__main__":
    main()
