"""The gramian loss beside implicit's ALS: ``python -m benchmarks.als [--size movielens|small|large]``.

Seconds to the highest validation NDCG@20 that both reach. Nobody's rankings and nobody's first imports
count; seconds are medians of repeated trainings. Needs the extra ``baselines``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from benchmarks import ours
from benchmarks.backbone import ALS, BASE
from benchmarks.common import config, prepared
from benchmarks.curves import WATCHED, Point, best, median_curve, reached, rounded, train_ours
from benchmarks.machine import write_results
from benchmarks.sizes import SIZES, build
from painvrl.model.ultragcn import BackboneConfig
from painvrl.prepare import Prepared
from painvrl.training import TrainingConfig

ITERATIONS = (1, 2, 3, 5, 8, 12, 18)


def train_als(data: Prepared, settings: dict[str, Any], repeats: int) -> list[Point]:
    """ALS for more and more iterations, each from the start; only its fit counts."""
    from implicit.cpu.als import AlternatingLeastSquares

    train = data.train
    matrix = csr_matrix(
        (np.ones(len(train), dtype=np.float32), (train.user.numpy(), train.item.numpy())),
        shape=(train.n_users, train.n_items),
    )

    def fitted(iterations: int) -> tuple[float, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.perf_counter()
            model = AlternatingLeastSquares(iterations=iterations, random_state=0, **settings)
            model.fit(matrix, show_progress=False)
            return time.perf_counter() - start, model

    fitted(1)  # nobody's first call counts
    ndcgs: list[float] = []
    for iterations in ITERATIONS:
        model = fitted(iterations)[1]
        vectors = torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors)
        ndcgs.append(ours.rank(data, *vectors)[WATCHED])
    timed = [[fitted(iterations)[0] for iterations in ITERATIONS] for _ in range(repeats)]
    return median_curve([[Point(*point) for point in zip(seconds, ndcgs, strict=True)] for seconds in timed])


def train_gramian(
    data: Prepared, backbone: BackboneConfig, training: TrainingConfig, repeats: int
) -> list[Point]:
    """Painvrl's curve; only its training counts, and only the first repetition ranks."""
    curves: list[list[Point]] = []
    for _ in range(repeats):
        known = [point.ndcg for point in curves[0]] if curves else []
        curves.append(train_ours(data, backbone, training, rankings_count=False, known=known))
    return median_curve(curves)


def compare(gramian: list[Point], als: dict[str, list[Point]]) -> dict[str, object]:
    """The gramian loss and the fastest ALS at the highest NDCG that both reach."""
    best_als = max(best(curve) for curve in als.values())
    target = min(best(gramian), best_als)
    seconds = [reached(curve, target) for curve in als.values()]
    fastest = min(taken for taken in seconds if taken is not None)
    mine = reached(gramian, target)
    assert mine is not None
    return {
        "ndcg": target,
        "gramian_seconds": mine,
        "als_seconds": fastest,
        "times_als": mine / fastest,
        "best_als_ndcg": best_als,
        "best_gramian_ndcg": best(gramian),
    }


def main() -> None:
    """Measure, print, and write ``results/als_SIZE.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["movielens", *SIZES], default="movielens")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if asked.size == "movielens":
        # `popularity` split, painvrl's default backbone.
        data, backbone = prepared(config(BASE, {"seed": 0})), BackboneConfig()
    else:
        data, backbone = build(asked.size), ours.GRAMIAN
    als = {name: train_als(data, settings, asked.repeats) for name, settings in ALS.items()}
    gramian = train_gramian(data, backbone, ours.GRAMIAN_TRAINING, asked.repeats)
    found = compare(gramian, als)
    print(found)
    measured = {
        "size": asked.size,
        "repeats": asked.repeats,
        **found,
        "gramian": rounded(gramian),
        "als": {name: rounded(curve) for name, curve in als.items()},
    }
    print(write_results(f"als_{asked.size}", measured))


if __name__ == "__main__":
    main()
