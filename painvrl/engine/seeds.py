"""A training that is repeated under several seeds: what it comes to is the mean.

A seed is a split and an initialisation. Values of one training under one seed are noisy, and a search that
picks the best of many picks lucky ones. ``study.seeds`` repeats each training, so that luck averages out; the
study takes so many times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from painvrl.engine.outcomes import SweptPoint
from painvrl.evaluation.user_values import UserValues


def mean_metrics(under: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the seeds; the metrics themselves where there is one."""
    return {name: fmean(each[name] for each in under) for name in under[0]}


def mean_points(under: Sequence[Sequence[SweptPoint]]) -> tuple[SweptPoint, ...]:
    """The points of a training, by the means over the seeds; each seed has the same ones in one order."""
    if len(under) == 1:
        return tuple(under[0])
    return tuple(
        SweptPoint(
            values=point[0].values,
            metrics=mean_metrics([each.metrics for each in point]),
            first=point[0].metrics,
        )
        for point in zip(*under, strict=True)
    )


def users_of_all(under: Sequence[UserValues]) -> UserValues:
    """What the users of all seeds got: a part is the mean of its seeds', which are parts of their own.

    The third seed's users of ``iid`` are the part ``iid@2``. A number is the same user under every seed,
    but for planted data, which each seed draws again: intervals over users are wider there, and not narrower.
    """
    if len(under) == 1:
        return under[0]
    parts = {part: (part,) for each in under for part in each.users} | dict(under[0].means)
    seeds = range(len(under))
    return UserValues(
        users={f"{part}@{seed}": users for seed in seeds for part, users in under[seed].users.items()},
        values={_under(full, seed): values for seed in seeds for full, values in under[seed].values.items()},
        means={mean: tuple(f"{part}@{seed}" for seed in seeds for part in of) for mean, of in parts.items()},
    )


def _under(full: str, seed: int) -> str:
    """``iid@2/ndcg_at_20`` of ``iid/ndcg_at_20``."""
    part, _, rest = full.partition("/")
    return f"{part}@{seed}/{rest}"
