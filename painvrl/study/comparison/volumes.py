"""Hypervolumes of many sets of points at once, exactly: what a bootstrap of fronts needs.

One set a call, :func:`painvrl.study.front.hypervolume` takes seconds for a thousand fronts of four
objectives; here every step of the slicing is one array operation over all sets.

Shape letters: ``D`` sets, ``T`` points a set, ``M`` objectives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELLS = 2**22
"""Numbers held at once by the comparison of all points with each other."""


def hypervolumes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The volume between zero and the points of each set, as of :func:`painvrl.study.front.hypervolume`.

    Costs about ``D * T**M`` operations, of which ``T`` counts the points on a front only.

    Args:
        values: ``[D, T, M]``, larger is better. Points that are not finite or not positive everywhere add
            nothing, so a point is taken out of a set by a zero.

    Returns:
        ``[D]``.
    """
    sets, points, width = values.shape
    if sets == 0 or points == 0:
        return np.zeros(sets)
    usable = np.logical_and(np.isfinite(values), values > 0).all(axis=2, keepdims=True)
    positive = np.where(usable, values, 0.0)
    if width == 1:
        longest: NDArray[np.float64] = positive[:, :, 0].max(axis=1)
        return longest
    # A set at a time holds [T, T, M] comparisons.
    size = max(1, _CELLS // (points * points * width))
    blocks = range(0, sets, size)
    return np.concatenate([_volumes(_fronts(positive[start : start + size])) for start in blocks])


def _fronts(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[D, F, M]``: the points that no other of their set covers, then zeros; of equal ones the first."""
    place = np.arange(points.shape[1])
    better_or_equal = np.ones((len(points), len(place), len(place)), dtype=bool)
    for column in np.moveaxis(points, 2, 0):
        better_or_equal &= column[:, None, :] >= column[:, :, None]  # [d, t, s]: is s at least as good as t?
    equal = better_or_equal & better_or_equal.swapaxes(1, 2)
    covered = (better_or_equal & (~equal | (place[None, :] < place[:, None]))).any(axis=2)
    kept = ~covered & (points > 0).all(axis=2)
    first = np.argsort(~kept, axis=1, kind="stable")[:, : max(1, int(kept.sum(axis=1).max()))]
    sorted_points = np.take_along_axis(points, first[:, :, None], axis=1)
    return np.where(np.take_along_axis(kept, first, axis=1)[:, :, None], sorted_points, 0.0)


def _volumes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Volume of the union of the boxes from 0 to each point, ``[D]``; ``points`` is ``[D, T, M]``, M > 1."""
    if points.shape[2] == 2:
        by_first = _falling(points, 0)
        return _areas(by_first[:, :, 0], by_first[:, :, 1])
    if points.shape[2] == 3:
        return _by_sweeping(points)
    by_last = _falling(points, -1)
    thickness = -np.diff(by_last[:, :, -1], axis=1, append=0.0)
    total = np.zeros(len(points))
    for row in range(points.shape[1]):
        if thickness[:, row].any():
            total += thickness[:, row] * _volumes(by_last[:, : row + 1, :-1])
    return total


def _by_sweeping(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three objectives: add the points by their last one, at places that their first one has fixed."""
    by_first = _falling(points, 0)
    order = np.argsort(-by_first[:, :, 2], axis=1, kind="stable")
    last = np.take_along_axis(by_first[:, :, 2], order, axis=1)
    thickness = -np.diff(last, axis=1, append=0.0)
    every = np.arange(len(points))
    heights = np.zeros(by_first.shape[:2])
    total = np.zeros(len(points))
    for row in range(points.shape[1]):
        heights[every, order[:, row]] = by_first[every, order[:, row], 1]
        total += thickness[:, row] * _areas(by_first[:, :, 0], heights)
    return total


def _areas(widths: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[D]``: area under the boxes ``widths`` by ``heights``, both ``[D, T]``, widths falling."""
    # Under a staircase: each step down in width is as high as the highest box so far.
    steps = -np.diff(widths, axis=1, append=0.0)
    area: NDArray[np.float64] = np.einsum("dt,dt->d", steps, np.maximum.accumulate(heights, axis=1))
    return area


def _falling(points: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    order = np.argsort(-points[:, :, column], axis=1, kind="stable")
    return np.take_along_axis(points, order[:, :, None], axis=1)
