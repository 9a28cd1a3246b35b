"""``implicit``'s ALS beside the gramian loss, at the highest NDCG that both reach."""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import numpy as np
import torch

from benchmarks import ours
from benchmarks.backbone import ALS_SETTINGS
from benchmarks.curves import WATCHED, Point, best, reached, rounded, train_ours
from painvrl.model.ultragcn import BackboneConfig
from painvrl.run.prepare import Prepared

ITERATIONS = (1, 2, 3, 5, 8, 12, 18)
REPEATS = 5  # an iteration takes 20 ms: a single timing is noise


def train_als(data: Prepared, settings: dict[str, Any]) -> list[Point]:
    """ALS for more and more iterations, each from the start; only its fit counts."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    train = data.train
    matrix = csr_matrix(
        (np.ones(len(train), dtype=np.float32), (train.user.numpy(), train.item.numpy())),
        shape=(train.n_users, train.n_items),
    )
    curve = []
    for iterations in ITERATIONS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spent = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                model = AlternatingLeastSquares(iterations=iterations, random_state=0, **settings)
                model.fit(matrix, show_progress=False)
                spent.append(time.perf_counter() - start)
            seconds = statistics.median(spent)
        vectors = torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors)
        curve.append(Point(seconds, ours.rank(data, *vectors)[WATCHED]))
    return curve


def beside_als(data: Prepared, backbone: BackboneConfig, gramian: list[Point]) -> dict[str, object]:
    """The gramian loss and ALS at the highest NDCG that both reach.

    ``gramian`` is a whole curve, for what it reaches. The seconds come from curves of their own, ranked after
    every epoch as ALS is after every iteration: no one's rankings count.
    """
    curves = {name: train_als(data, settings) for name, settings in ALS_SETTINGS.items()}
    target = min(best(gramian), max(best(curve) for curve in curves.values()))
    times = {name: reached(curve, target) for name, curve in curves.items()}
    als = min(seconds for seconds in times.values() if seconds is not None)
    every_epoch = ours.GRAMIAN_TRAINING.model_copy(update={"evaluate_every": 1, "patience": 50})
    mine = [
        reached(train_ours(data, backbone, every_epoch, target, rankings_count=False), target)
        for _ in range(REPEATS)
    ]
    found = [seconds for seconds in mine if seconds is not None]
    assert found, f"the gramian loss never reached {target:.4f} again"
    return {
        "ndcg": target,
        "gramian_seconds": statistics.median(found),
        "gramian_range": [min(found), max(found)],
        "als_seconds": als,
        "times_als": statistics.median(found) / als,
        "best_als_ndcg": max(best(curve) for curve in curves.values()),
        "best_gramian_ndcg": best(gramian),
        "als": {name: rounded(curve) for name, curve in curves.items()},
    }
