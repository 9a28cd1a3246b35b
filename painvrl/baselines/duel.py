"""Each baseline's best trials against the file's own: paired by user, with intervals.

A baseline's trial *beats* one of the own trials if both its IID and its OOD NDCG are surely higher: the 95%
intervals of the paired, crossed bootstrap over seeds and users (:mod:`painvrl.evaluation.bootstrap`) lie
above zero. All trials were chosen on these valid parts, so luck is in the best of them on both sides; and as
each trial of a baseline meets the own one that suits best, "ahead" is called somewhat too readily.

Shape letters: ``D`` draws, ``T`` trials, ``U`` users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.baselines.report import IID, OOD, BaselineReport, Duel
from painvrl.evaluation.bootstrap import Difference, PartValues, resampled_means
from painvrl.evaluation.user_values import UserValues
from painvrl.rng import derive_seed

DRAWS = 2000


Trial = tuple[str, int]
"""A baseline's name and its trial's number."""


def duels(
    own: BaselineReport, others: Sequence[BaselineReport], judged: Mapping[Trial, Sequence[UserValues]]
) -> tuple[Duel, ...]:
    """Every trial of the others' fronts against the own front's; none where either has no complete trial.

    Args:
        own: the file's own model.
        others: the baselines.
        judged: both metrics by user of every complete trial, seed by seed; all trials of a seed have the
            same users. Others are not looked at.
    """
    ours = [(own.name, number) for number in own.front()]
    theirs = [(one.name, number) for one in others for number in one.front()]
    if not ours or not theirs:
        return ()
    reports = {one.name: one for one in (own, *others)}
    iid, ood = (_gaps(metric, ours, theirs, reports, judged) for metric in (IID, OOD))
    nearest = np.minimum(iid.share, ood.share).argmax(axis=0)
    beaten = (iid.high < 0) & (ood.high < 0)
    return tuple(
        Duel(
            baseline=name,
            trial=number,
            own=ours[mine][1],
            iid=iid.of(mine, place),
            ood=ood.of(mine, place),
            beats=tuple(ours[lost][1] for lost in np.flatnonzero(beaten[:, place])),
        )
        for place, ((name, number), mine) in enumerate(zip(theirs, nearest.tolist(), strict=True))
    )


@dataclass(frozen=True, kw_only=True)
class _Gaps:
    """One metric of own trials less that of rivals, all ``[own trials, rivals]``.

    ``share``: the mean in shares of the best own one, or the part with the larger numbers would decide alone.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    share: NDArray[np.float64]

    def of(self, mine: int, rival: int) -> Difference:
        """Of one own trial and one rival."""
        mean, low, high = (float(each[mine, rival]) for each in (self.mean, self.low, self.high))
        return Difference(mean=mean, low=low, high=high)


def _gaps(
    metric: str,
    ours: Sequence[Trial],
    theirs: Sequence[Trial],
    reports: Mapping[str, BaselineReport],
    judged: Mapping[Trial, Sequence[UserValues]],
) -> _Gaps:
    own, rival = (
        np.array([reports[name].trials[number].mean(metric) for name, number in trials])
        for trials in (ours, theirs)
    )
    drawn = _drawn(metric, [*ours, *theirs], judged)
    low, high = np.quantile(drawn[:, : len(ours), None] - drawn[:, None, len(ours) :], [0.025, 0.975], axis=0)
    mean = own[:, None] - rival
    return _Gaps(mean=mean, low=low, high=high, share=mean / max(float(own.max()), 1e-9))


def _drawn(
    metric: str, trials: Sequence[Trial], judged: Mapping[Trial, Sequence[UserValues]]
) -> NDArray[np.float64]:
    """``[D, T]``: the metric of each trial in every draw."""
    seeds = []
    for seed, first in enumerate(judged[trials[0]]):
        parts = []
        for full in first.parts_of(metric):
            values = [judged[trial][seed].values[full] for trial in trials]
            users = first.users[full.partition("/")[0]]
            parts.append(PartValues(users=users, values=np.stack(values, axis=1).astype(np.float64)))
        seeds.append(parts)
    rng = np.random.default_rng(derive_seed(0, "bootstrap", metric))
    by_part = [part.mean(axis=1) for part in resampled_means(seeds, DRAWS, rng)]
    mean: NDArray[np.float64] = np.mean(by_part, axis=0)
    return mean
