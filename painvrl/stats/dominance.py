"""The Pareto front of points whose coordinates are all maximised, by moocore's algorithms."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    A point dominates another if it is at least as good everywhere and better somewhere; so of
    equal points all stay. A point with a coordinate that is not finite is never on the front, and
    dominates nothing.

    Args:
        values: ``[T, M]``, larger is better.

    Returns:
        ``[T]`` bool.
    """
    points = _points(values)
    finite = np.isfinite(points).all(axis=1)
    front = np.zeros(len(points), dtype=bool)
    if finite.any():
        front[finite] = moocore.is_nondominated(points[finite], maximise=True, keep_weakly=True)
    return front


def ranks(values: ArrayLike) -> NDArray[np.int64]:
    """How many fronts must be taken away before a point is on the front of what is left.

    Args:
        values: ``[T, M]``, larger is better.

    Returns:
        ``[T]``: 0 for the points of :func:`non_dominated`, 1 for the front without those, and so on.
        Points with a coordinate that is not finite come last of all, behind the worst finite point; where
        no point is finite, they have rank 1, since they are never on the front.
    """
    points = _points(values)
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        return np.ones(len(points), dtype=np.int64)
    found = moocore.pareto_rank(points[finite], maximise=True)
    everybody = np.full(len(points), int(found.max()) + 1, dtype=np.int64)
    everybody[finite] = found
    return everybody


def hypervolume(values: ArrayLike) -> float:
    """The volume between zero, the worst value of every metric, and the points, exactly.

    Args:
        values: ``[T, M]``, larger is better. Points that are not finite or not positive everywhere
            add nothing.
    """
    points = _points(values)
    inside = points[np.isfinite(points).all(axis=1) & (points > 0).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:
        return float(inside.max())
    return float(moocore.hypervolume(inside, ref=0, maximise=True))


def _points(values: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=float)
    if points.size == 0:
        return points.reshape(0, points.shape[1] if points.ndim == 2 else 1)
    if points.ndim != 2:
        raise ValueError(f"values must be [T, M]; found {points.ndim} dimensions")
    return points
