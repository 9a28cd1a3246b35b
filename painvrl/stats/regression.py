"""Effects of a linear regression with intervals, where the rows may not tell all effects apart.

Rows are resampled with replacement. Where the rows of a resample do not determine an effect, the drawn one is
marked as not reported: the least-norm solution would make something up.

Shape letters: ``T`` rows, ``P`` columns, ``K`` effects, ``A`` responses, ``B`` resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.stats.intervals import Bounded, percentiles

Array = NDArray[np.float64]

_SAME = 1e-6  # how far an effect may lie outside the rows' span, by rounding
_ZERO = 1e-9  # of a response's extent: an effect below it is rounding


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What turning something does to the responses.

    Attributes:
        reported: ``[K]`` bool, whether the rows determine an effect.
        values: ``[K, A]``.
        reported_in: ``[B, K]`` bool, whether the rows of a resample do. drawn: ``[B, K, A]``, the effects
            there.
        explained: ``[A]``, share of a response's variance; 0 where it has none.
    """

    reported: NDArray[np.bool_]
    values: Array
    reported_in: NDArray[np.bool_]
    drawn: Array
    explained: Array


def effects_of(
    matrix: Array, responses: Array, along: Array, *, resamples: int, rng: np.random.Generator
) -> Effects:
    """Regress all responses on the columns.

    Args:
        matrix: ``[T, P]``, with a column of ones; T at least P.
        responses: ``[T, A]``.
        along: ``[K, P]``; its product with the coefficients is the effects.
        resamples: ``B``.
        rng: draws them.
    """
    rows, width = matrix.shape
    inverse = np.linalg.pinv(matrix)
    coefficients = inverse @ responses
    times = rng.multinomial(rows, [1 / rows] * rows, size=resamples).astype(float)
    squares = (matrix[:, :, None] * matrix[:, None, :]).reshape(rows, width**2)
    products = (matrix[:, :, None] * responses[:, None, :]).reshape(rows, -1)
    gram = (times @ squares).reshape(resamples, width, width)
    of_draws = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
    drawn = of_draws @ (times @ products).reshape(resamples, width, -1)
    rest = ((responses - matrix @ coefficients) ** 2).sum(axis=0)
    total = ((responses - responses.mean(axis=0)) ** 2).sum(axis=0)
    return Effects(
        reported=_is_determined(along, inverse @ matrix),
        values=_rounded(along @ coefficients, responses),
        reported_in=_is_determined(along, of_draws @ gram),
        drawn=_rounded(along @ drawn, responses),
        explained=1 - np.divide(rest, total, out=np.ones_like(total), where=total > 0),
    )


def exchange(effect: Array, drawn: Array) -> Bounded:
    """What is given up of the first response for each unit gained of the second, in whichever direction.

    Its interval goes by angles: a ratio jumps to the other end of the line where the gain changes its sign,
    and the angle of the pair does not. An end that lies beyond the right angle has no finite ratio.

    Args:
        effect: ``[2]``, the second not zero.
        drawn: ``[b, 2]``, the same in resamples.
    """
    direction = np.sign(effect[1])
    low, high = percentiles(np.arctan2(-direction * drawn[:, 0], direction * drawn[:, 1]))
    right = np.pi / 2
    return Bounded(
        value=float(-effect[0] / effect[1]) + 0.0,  # no minus zero
        low=float(np.tan(low)) if -right < low < right else None,
        high=float(np.tan(high)) if -right < high < right else None,
    )


def _is_determined(along: Array, projection: Array) -> NDArray[np.bool_]:
    """``[..., K]``: whether rows determine an effect; ``projection`` ``[..., P, P]`` is onto them."""
    outside = np.abs(along @ projection - along).max(axis=-1)
    reported: NDArray[np.bool_] = outside <= _SAME * np.abs(along).max(axis=-1)
    return reported


def _rounded(effects: Array, responses: Array) -> Array:
    """``effects`` ``[..., A]`` with zero for what is rounding beside the responses' extents."""
    return np.where(np.abs(effects) > _ZERO * np.ptp(responses, axis=0), effects, 0.0)
