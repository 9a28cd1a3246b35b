"""Curves of validation NDCG@20 over seconds, and painvrl's own."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from benchmarks import ours
from painvrl.model.ultragcn import BackboneConfig
from painvrl.prepare import Prepared
from painvrl.training import TrainingConfig

WATCHED = "iid/ndcg_at_20"


@dataclass(frozen=True)
class Point:
    """A point of a curve: seconds since the start, and the validation NDCG@20 reached there."""

    seconds: float
    ndcg: float


class Reached(Exception):
    """Ends a training whose target is reached."""


def reached(curve: Sequence[Point], target: float) -> float | None:
    """The first seconds at which ``curve`` is at ``target``."""
    return next((point.seconds for point in curve if point.ndcg >= target), None)


def best(curve: Sequence[Point]) -> float:
    """The highest NDCG of a curve."""
    return max(point.ndcg for point in curve)


def rounded(curve: Sequence[Point]) -> list[dict[str, float]]:
    """A curve as JSON-ready values."""
    return [{name: round(value, 5) for name, value in asdict(point).items()} for point in curve]


def median_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Repetitions of one training as one curve: the median seconds of every point."""
    return [
        Point(statistics.median(point.seconds for point in points), points[0].ndcg)
        for points in zip(*curves, strict=True)
    ]


def train_ours(
    data: Prepared,
    backbone: BackboneConfig,
    training: TrainingConfig,
    target: float = float("inf"),
    *,
    rankings_count: bool = True,
    known: Sequence[float] = (),
) -> list[Point]:
    """Painvrl's curve until ``target`` or its own early stopping.

    Args:
        data: prepared.
        backbone, training: settings.
        target: the NDCG at which it ends.
        rankings_count: the seconds of the rankings are part of the curve's.
        known: the NDCGs of an equal training before, which this one takes over instead of ranking again.
    """
    curve: list[Point] = []
    ranked = 0.0
    # The first step of a process imports half of torch; nobody's imports count.
    ours.epochs(ours.model(data.features.matrix, data.training, backbone), training, 1)
    start = time.perf_counter()
    model = ours.model(data.features.matrix, data.training, backbone)

    def rank(users: Tensor, items: Tensor) -> dict[str, float]:
        nonlocal ranked
        before = time.perf_counter()
        value = known[len(curve)] if known else ours.rank(data, users, items)[WATCHED]
        if not rankings_count:
            ranked += time.perf_counter() - before
        curve.append(Point(time.perf_counter() - start - ranked, value))
        if value >= target:
            raise Reached
        return {WATCHED: value}

    with contextlib.suppress(Reached):
        ours.train(model, training, rank)
    return curve
