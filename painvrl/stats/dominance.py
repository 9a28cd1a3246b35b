"""Dominance between points whose coordinates are all maximised: fronts, ranks, volumes, coverage."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

_CELLS = 2**24
"""Comparisons held at once."""


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    A point dominates another if it is at least as good everywhere and better somewhere; so of
    equal points all stay. A point with a coordinate that is not finite is never on the front, and
    dominates nothing.

    >>> non_dominated([[0.3, 0.1], [0.2, 0.2], [0.2, 0.1]]).tolist()
    [True, True, False]

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

    >>> ranks([[0.3, 0.1], [0.2, 0.2], [0.2, 0.1], [0.1, 0.1]]).tolist()
    [0, 0, 1, 2]

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

    The library's algorithm is that of Fonseca et al. (CEC 2006).

    >>> hypervolume([[3, 1], [2, 2]])
    5.0

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


def spread(values: ArrayLike, size: int, *, kept: Sequence[int] = ()) -> list[int]:
    """Places of points that stand for all of them: greedy hypervolume subset selection.

    The best point of each metric is in. Then the point is added, again and again, that adds most to the
    :func:`hypervolume` of those that are in (Guerreiro, Fonseca and Paquete, Evolutionary Computation 2016).
    An upper bound of what a point adds is what it added before, so that few are measured anew.

    >>> spread([[4, 1], [3.9, 1.1], [2, 3], [1, 4]], 3)
    [0, 2, 3]

    Args:
        values: ``[T, M]``, finite, larger is better.
        size: how many are wanted; more are returned if more are ``kept`` or best in a metric.
        kept: places that are in whatever they add.

    Returns:
        Ascending.
    """
    points = _points(values)
    chosen = list(dict.fromkeys([*kept, *points.argmax(axis=0).tolist()]))
    volume = hypervolume(points[chosen])
    bounds = [(-np.inf, place) for place in range(len(points)) if place not in chosen]
    while bounds and len(chosen) < size:
        _, place = heapq.heappop(bounds)
        gain = hypervolume(points[[*chosen, place]]) - volume
        if bounds and -gain > bounds[0][0]:
            heapq.heappush(bounds, (-gain, place))
        else:
            chosen.append(place)
            volume += gain
    return sorted(chosen)


def hypervolumes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The hypervolume of each of ``D`` sets of points, ``[D]``; ``values`` is ``[D, N, M]``."""
    return np.array([hypervolume(points) for points in values], dtype=float)


def dominated_by(draws: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Who dominates whom in each of many sets of points.

    Args:
        draws: ``[D, C, M]``, larger is better.

    Returns:
        ``[D, C, C]`` bool: whether in a draw the first point is dominated by the second.
    """
    count, points, _ = draws.shape
    found = np.empty((count, points, points), dtype=bool)
    size = max(1, _CELLS // points**2)
    for start in range(0, count, size):
        block = draws[start : start + size]
        no_worse = np.ones((len(block), points, points), dtype=bool)
        better = np.zeros_like(no_worse)
        for values in np.moveaxis(block, 2, 0):
            no_worse &= values[:, None, :] >= values[:, :, None]
            better |= values[:, None, :] > values[:, :, None]
        found[start : start + size] = no_worse & better
    return found


def coverage(by: ArrayLike, of: ArrayLike) -> float:
    """The share of the points ``of`` that a point of ``by`` equals or dominates (the C-metric).

    It is no distance: the coverage of B by A and that of A by B do not add up to one.

    >>> coverage(by=[[3, 1], [2, 2]], of=[[2, 1], [1, 3]])
    0.5

    Args:
        by: ``[T, M]``, finite, with a point at least.
        of: ``[S, M]``, as well.
    """
    front, points = np.asarray(by, dtype=float), np.asarray(of, dtype=float)
    covered = (front[:, None, :] >= points[None, :, :]).all(axis=2).any(axis=0)
    return float(np.mean(covered))


def additive_epsilon(by: ArrayLike, of: ArrayLike) -> float:
    """What must be added to every objective of ``by``, at least, for it to cover all points ``of``.

    Negative if ``by`` covers them with so much to spare.

    Args:
        by: ``[T, M]``, finite, with a point at least.
        of: ``[S, M]``, as well.
    """
    front, points = np.asarray(by, dtype=float), np.asarray(of, dtype=float)
    missing: NDArray[np.float64] = (points[None, :, :] - front[:, None, :]).max(axis=2)
    return float(missing.min(axis=0).max())


def _points(values: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=float)
    if points.size == 0:
        return points.reshape(0, points.shape[1] if points.ndim == 2 else 1)
    if points.ndim != 2:
        raise ValueError(f"values must be [T, M]; found {points.ndim} dimensions")
    return points
