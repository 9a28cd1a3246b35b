"""How sure a difference of two hypervolumes is.

Two things would have come out otherwise. Other users could have been in the valid parts: a bootstrap draws
users with replacement and takes every point's objectives, and both hypervolumes, again; both studies are
scored on the same draw where they have the same users. And the search could have met other points: a trial's
share is what the result changes by when the trial is left out, with all points that its training was scored
at, and the sum of squares of these changes about their mean, a jackknife, is on average no smaller than the
variance (Efron and Stein, 1981). Trials of both studies at the same point are left out together.

On average: most trials change nothing, and the sum rests on the few that carry the front. A variance that is
so uncertain itself takes Student's t, with as many degrees of freedom as it has changes of weight
(Satterthwaite): ten equal ones make 10, and one that outweighs the others little more than 1. The users, of
whom there are many draws, add to the variance, and to the freedom by their part of it: the more of the chance
is theirs, the nearer is the quantile to the normal one.

Trials are not drawn with replacement: a draw keeps 63% of them, which is another, smaller front. In a
simulation of studies between which nothing changed, such draws called up to twice as many of them worse as
they promise, and draws of users alone, which take the luck of the search for certain, three to twelve times
as many (docs/lab-book.md).

Shape letters: ``D`` draws, ``T`` trials, ``P`` points of a trial, ``M`` objectives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from painvrl.stats.dominance import hypervolume
from painvrl.stats.intervals import Bounded, t_quantile


class Gap(NamedTuple):
    """The hypervolume of B less that of A, and that as a share of A's (``None`` where A has no volume)."""

    absolute: Bounded
    relative: Bounded | None


Pairs = Sequence[tuple[int, int]]
"""Rows of A and B that are at the same point; no row twice."""


def gap(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    pairs: Pairs,
    draws: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    level: float,
) -> Gap:
    """The difference of two hypervolumes, with intervals.

    Args:
        a: ``[T_A, P, M]``, the points of each trial; zeros where it has fewer, or none that is feasible.
        b: ``[T_B, P, M]``, as well.
        pairs: trials that are at the same point.
        draws: the hypervolumes of A and B under other users, ``[D]`` each; ``None`` if that is not known.
        level: of the intervals: of the difference, and of the logarithm of the ratio. Where that does not
            exist, the share's interval is the difference's.
    """
    full_a, full_b = _volume(a), _volume(b)
    without_a, without_b = _left_out(a), _left_out(b)
    strata = _strata(full_a, full_b, without_a, without_b, pairs)
    enough = min(len(a), len(b)) > 1

    def reach(of: Statistic) -> tuple[float, float] | None:
        with np.errstate(divide="ignore", invalid="ignore"):
            centre = float(of(np.array(full_a), np.array(full_b)))
            changes = np.concatenate([_changes(of(*stratum), centre) for stratum in strata])
            users = np.zeros(0) if draws is None else of(*draws)
        if not (enough and np.isfinite([centre, *changes, *users]).all()):
            return None
        half = _half_width(changes, users, level)
        return centre - half, centre + half

    difference, logarithm = reach(_difference), reach(_log_ratio)
    absolute = _bounded(full_b - full_a, difference)
    if full_a == 0:
        return Gap(absolute, None)
    if logarithm is not None:
        ends = math.expm1(logarithm[0]), math.expm1(logarithm[1])
    elif difference is not None:  # B, or a front without one of its trials, has no volume and no logarithm
        ends = difference[0] / full_a, difference[1] / full_a
    else:
        return Gap(absolute, Bounded(value=full_b / full_a - 1))
    return Gap(absolute, _bounded(full_b / full_a - 1, ends))


Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""A function of the hypervolumes of A and B, element by element."""


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return b - a


def _log_ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(b) - np.log(a)


def _bounded(value: float, ends: tuple[float, float] | None) -> Bounded:
    return Bounded(value=value) if ends is None else Bounded(value=value, low=ends[0], high=ends[1])


def _changes(left_out: NDArray[np.float64], whole: float) -> NDArray[np.float64]:
    """What each of the ``n`` units of a stratum changes; the squares sum to the stratum's variance.

    Changes are taken about their mean, times ``sqrt(n / (n - 1))`` for the degree of freedom that the mean
    costs: with two units that doubles the variance. A single unit has no mean, and is taken about the whole.
    """
    units = len(left_out)
    if units < 2:
        return left_out - whole
    changes: NDArray[np.float64] = (left_out - left_out.mean()) * math.sqrt(units / (units - 1))
    return changes


def _half_width(changes: NDArray[np.float64], users: NDArray[np.float64], level: float) -> float:
    """Half the interval of a statistic, from the trials' changes and its values under draws of users.

    A change ``d`` adds ``d**2`` to the variance, with one degree of freedom; ``D`` draws of users add theirs,
    with ``D - 1``. Satterthwaite's freedom of the sum is ``sum(parts)**2 / sum(parts**2 / freedoms)``.
    """
    parts, freedoms = np.square(changes), np.ones(len(changes))
    if len(users):
        parts = np.append(parts, np.var(users, ddof=1))
        freedoms = np.append(freedoms, len(users) - 1)
    variance = float(parts.sum())
    if variance == 0:
        return 0.0
    freedom = 1 / float((np.square(parts / variance) / freedoms).sum())
    return t_quantile((1 + level) / 2, freedom) * math.sqrt(variance)


def _volume(points: NDArray[np.float64]) -> float:
    """The hypervolume of ``[T, P, M]``."""
    return hypervolume(points.reshape(-1, points.shape[2]))


def _left_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[T]``: the hypervolume without each trial."""
    return np.array([_volume(np.delete(values, trial, axis=0)) for trial in range(len(values))])


Stratum = tuple[NDArray[np.float64], NDArray[np.float64]]


def _strata(
    full_a: float,
    full_b: float,
    without_a: NDArray[np.float64],
    without_b: NDArray[np.float64],
    pairs: Pairs,
) -> list[Stratum]:
    """Hypervolumes of A and B without each unit: pairs of trials, A's other trials, B's other trials."""
    of_a, of_b = [one for one, _ in pairs], [other for _, other in pairs]
    rest_a, rest_b = np.delete(without_a, of_a), np.delete(without_b, of_b)
    return [
        (without_a[of_a], without_b[of_b]),
        (rest_a, np.full(len(rest_a), full_b)),
        (np.full(len(rest_b), full_a), rest_b),
    ]
