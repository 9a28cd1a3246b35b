"""How much of one front another attains; all coordinates are maximised."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def coverage(by: ArrayLike, of: ArrayLike) -> float:
    """The share of the points ``of`` that a point of ``by`` equals or dominates (the C-metric).

    It is no distance: the coverage of B by A and that of A by B do not add up to one.

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
