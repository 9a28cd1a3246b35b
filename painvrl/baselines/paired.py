"""Each baseline's best points against the file's own: paired by user, with intervals.

A baseline's point *beats* one of the own points if both its IID and its OOD NDCG are higher: the 95%
intervals of the paired, crossed bootstrap over seeds and users (:mod:`painvrl.stats.bootstrap`) lie
above zero. All points were chosen on these valid parts, so luck is in the best of them on both sides; and as
each point of a baseline meets the own one that suits best, "ahead" is called somewhat too readily.

Shape letters: ``D`` draws, ``P`` points, ``U`` users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.baselines.results import IID, OOD, BaselinePoint, BaselineReport, PairedComparison
from painvrl.core.rng import derive_seed
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.bootstrap import PartValues, resampled_means
from painvrl.stats.intervals import Interval, percentiles

DRAWS = 2000

Judged = Mapping[tuple[str, int, int], Sequence[UserValues]]
"""Seed by seed what every user has got, by a baseline's name and its point's trial and place."""


@dataclass(frozen=True)
class _Fighter:
    """A point of a baseline's front."""

    baseline: str
    point: BaselinePoint


def comparisons(
    own: BaselineReport, others: Sequence[BaselineReport], judged: Judged
) -> tuple[PairedComparison, ...]:
    """Every point of the others' fronts against the own front's; none where either has no complete point.

    Args:
        own: the reference model.
        others: the baselines.
        judged: both metrics by user of every complete point; all points of a seed have the same users.
            Others are not looked at.
    """
    ours = [_Fighter(own.name, point) for point in own.front()]
    theirs = [_Fighter(one.name, point) for one in others for point in one.front()]
    if not ours or not theirs:
        return ()
    iid, ood = (_gaps(metric, ours, theirs, judged) for metric in (IID, OOD))
    nearest = np.minimum(iid.share, ood.share).argmax(axis=0)
    beaten = (iid.high < 0) & (ood.high < 0)
    return tuple(
        PairedComparison(
            baseline=rival.baseline,
            rival=rival.point,
            own=ours[mine].point,
            iid=iid.of(mine, place),
            ood=ood.of(mine, place),
            beats=tuple(ours[lost].point for lost in np.flatnonzero(beaten[:, place])),
        )
        for place, (rival, mine) in enumerate(zip(theirs, nearest.tolist(), strict=True))
    )


@dataclass(frozen=True, kw_only=True)
class _Gaps:
    """One metric of own points less that of rivals, all ``[own points, rivals]``.

    ``share``: the mean in shares of the best own one, or the part with the larger numbers would decide alone.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    share: NDArray[np.float64]

    def of(self, mine: int, rival: int) -> Interval:
        """Of one own point and one rival."""
        mean, low, high = (float(each[mine, rival]) for each in (self.mean, self.low, self.high))
        return Interval(mean=mean, low=low, high=high)


def _gaps(metric: str, ours: Sequence[_Fighter], theirs: Sequence[_Fighter], judged: Judged) -> _Gaps:
    own, rival = (np.array([one.point.mean(metric) for one in side]) for side in (ours, theirs))
    drawn = _drawn(metric, [*ours, *theirs], judged)
    low, high = percentiles(drawn[:, : len(ours), None] - drawn[:, None, len(ours) :])
    mean = own[:, None] - rival
    return _Gaps(mean=mean, low=low, high=high, share=mean / max(float(own.max()), 1e-9))


def _drawn(metric: str, fighters: Sequence[_Fighter], judged: Judged) -> NDArray[np.float64]:
    """``[D, P]``: the metric of each point in every draw."""
    of_users = [judged[one.baseline, one.point.trial, one.point.place] for one in fighters]
    seeds = []
    for seed, first in enumerate(of_users[0]):
        parts = []
        for full in first.parts_of(metric):
            values = [each[seed].values[full] for each in of_users]
            users = first.users[full.partition("/")[0]]
            parts.append(PartValues(users=users, values=np.stack(values, axis=1).astype(np.float64)))
        seeds.append(parts)
    rng = np.random.default_rng(derive_seed(0, "bootstrap", metric))
    by_part = [part.mean(axis=1) for part in resampled_means(seeds, DRAWS, rng)]
    mean: NDArray[np.float64] = np.mean(by_part, axis=0)
    return mean
