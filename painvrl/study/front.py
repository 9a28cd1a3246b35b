"""The Pareto front of points whose coordinates are all maximised; NumPy only."""

from __future__ import annotations

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
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    candidates = points[finite]
    front = np.zeros(len(points), dtype=bool)
    # One [T, M] comparison a point: T is the number of trials, at most thousands.
    front[finite] = [
        not ((candidates >= point).all(axis=1) & (candidates > point).any(axis=1)).any()
        for point in candidates
    ]
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
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    candidates = points[finite]
    # beaten[t, s]: does s dominate t? T^2 bytes: 25 MB for 5,000 trials.
    beaten = np.zeros((len(finite), len(finite)), dtype=bool)
    for row, point in enumerate(candidates):
        beaten[row] = (candidates >= point).all(axis=1) & (candidates > point).any(axis=1)
    waiting_for = beaten.sum(axis=1)
    found = np.full(len(finite), -1)
    rank = 0
    while (front := (waiting_for == 0) & (found < 0)).any():
        found[front] = rank
        waiting_for -= beaten[:, front].sum(axis=1)
        rank += 1
    everybody = np.full(len(points), max(rank, 1))
    everybody[finite] = found
    return everybody


def hypervolume(values: ArrayLike) -> float:
    """The volume between zero, the worst value of every metric, and the points, exactly (by slicing).

    Args:
        values: ``[T, M]``, larger is better. Points that are not finite or not positive everywhere
            add nothing.
    """
    points = _points(values)
    inside = np.isfinite(points).all(axis=1) & (points > 0).all(axis=1)
    return _volume(points[inside])


def _points(values: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=float)
    if points.size == 0:
        return points.reshape(0, points.shape[1] if points.ndim == 2 else 1)
    if points.ndim != 2:
        raise ValueError(f"values must be [T, M]; found {points.ndim} dimensions")
    return points


def _volume(points: NDArray[np.float64]) -> float:
    """Volume of the union of the boxes from 0 to each point."""
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    if points.shape[1] == 2:
        by_first = points[np.argsort(-points[:, 0], kind="stable")]
        heights = np.maximum.accumulate(by_first[:, 1])
        gains = np.diff(heights, prepend=0.0)
        return float((by_first[:, 0] * gains).sum())
    points = np.unique(points[non_dominated(points)], axis=0)
    by_last = points[np.argsort(-points[:, -1], kind="stable")]
    # Slabs along the last axis: each is as thick as the step down to the next point.
    thickness = -np.diff(by_last[:, -1], append=0.0)
    return sum(
        float(thick) * _volume(by_last[: row + 1, :-1]) for row, thick in enumerate(thickness) if thick > 0
    )
