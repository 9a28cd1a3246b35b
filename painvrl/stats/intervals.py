"""Estimates with intervals, percentiles of draws, and Student's quantile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate of a mean, or of the difference of two, with its interval, in its units.

    >>> f"{Interval(mean=0.012, low=-0.003, high=0.027):+.3f}"
    '+0.012 [-0.003, +0.027]'
    """

    mean: float
    low: float
    high: float

    def __format__(self, style: str) -> str:
        """``mean [low, high]``, each number in ``style``."""
        return f"{self.mean:{style}} [{self.low:{style}}, {self.high:{style}}]"


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """An estimate with the ends of its interval; an end is ``None`` where the data do not give one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __format__(self, style: str) -> str:
        """``value [low, high]``, each number in ``style``; without both ends the value alone."""
        if self.low is None or self.high is None:
            return f"{self.value:{style}}"
        return f"{self.value:{style}} [{self.low:{style}}, {self.high:{style}}]"


def percentiles(
    draws: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two ends of the middle ``level`` of ``draws`` ``[D, ...]``, ``[...]`` each.

    Between two draws they are interpolated linearly.
    """
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def t_quantile(share: float, freedom: float) -> float:
    """The quantile of Student's t; ``0 < share < 1``, and ``freedom`` above zero need not be whole.

    >>> round(t_quantile(0.975, 4), 3)  # five seeds
    2.776
    """
    from scipy.special import stdtrit  # a slow import that most commands do without

    return float(stdtrit(freedom, share))
