"""Curves of validation NDCG@20 against seconds, and painvrl's."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass

from torch import Tensor

from benchmarks import ours
from painvrl.model.fit import TrainingConfig
from painvrl.model.ultragcn import BackboneConfig
from painvrl.run.prepare import Prepared

WATCHED = "iid/ndcg_at_20"


@dataclass(frozen=True)
class Point:
    """A point of a curve: seconds since the start, and the validation NDCG@20 reached there."""

    seconds: float
    ndcg: float


class Reached(Exception):
    """Ends a training whose target is reached."""


def reached(curve: list[Point], target: float) -> float | None:
    """The first seconds at which ``curve`` is at ``target``."""
    return next((point.seconds for point in curve if point.ndcg >= target), None)


def best(curve: list[Point]) -> float:
    """The highest NDCG of a curve."""
    return max(point.ndcg for point in curve)


def rounded(curve: list[Point]) -> list[dict[str, float]]:
    """A curve as JSON-ready values."""
    return [{name: round(value, 5) for name, value in asdict(point).items()} for point in curve]


def train_ours(
    data: Prepared,
    backbone: BackboneConfig,
    training: TrainingConfig,
    target: float = float("inf"),
    *,
    rankings_count: bool = True,
) -> list[Point]:
    """Painvrl's curve until ``target`` or its own early stopping."""
    curve: list[Point] = []
    ranked = 0.0
    # The first step of a process imports half of torch; no one's imports count.
    ours.epochs(ours.model(data.features, data.training, backbone), training, 1)
    start = time.perf_counter()
    model = ours.model(data.features, data.training, backbone)

    def rank(users: Tensor, items: Tensor) -> dict[str, float]:
        nonlocal ranked
        before = time.perf_counter()
        metrics = ours.rank(data, users, items)
        if not rankings_count:
            ranked += time.perf_counter() - before
        curve.append(Point(time.perf_counter() - start - ranked, metrics[WATCHED]))
        if curve[-1].ndcg >= target:
            raise Reached
        return metrics

    with contextlib.suppress(Reached):
        ours.train(model, training, rank)
    return curve
