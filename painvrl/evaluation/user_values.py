"""What each user has got from one training, before the mean over users is taken: what intervals need."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from painvrl.evaluation.metrics import name
from painvrl.evaluation.ranking import JudgedUsers, RankingPlan


@dataclass(frozen=True, kw_only=True)
class UserValues:
    """Metrics of every user.

    Attributes:
        users: by part, ``[U]`` numbers of the users with positives, ascending.
        values: by full name (``ood/recall_at_20``), ``[U]`` float32, what each of them has got.
        means: names of metrics (``ood``) that are the mean over the parts listed, which have the users.
    """

    users: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, NDArray[np.float32]]
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def parts_of(self, metric: str) -> tuple[str, ...]:
        """The metrics that ``metric`` is the mean of: itself, or one for each part of a mean."""
        return _parts_of(metric, self.means)


def values_of(plan: RankingPlan, judged: Mapping[str, JudgedUsers], metrics: Collection[str]) -> UserValues:
    """Some metrics out of everything that a ranking has found.

    Args:
        plan: the ranking.
        judged: what :func:`painvrl.evaluation.ranking.evaluate_users` has found by it.
        metrics: full names; of a mean over parts those of its parts are taken. A name that the plan does not
            have is left out, and so is a list-wise metric, of which no user has a value.
    """
    wanted = {full for metric in metrics for full in _parts_of(metric, plan.means)}
    values = {
        full: of_users[:, column].float().numpy()
        for part, each_user in judged.items()
        for metric, of_users in each_user.values.items()
        for column, k in enumerate(plan.ks)
        if (full := name(part, metric, k)) in wanted
    }
    parts = {full.partition("/")[0] for full in values}
    users = {part: each_user.users.numpy() for part, each_user in judged.items() if part in parts}
    return UserValues(users=users, values=values, means=plan.means)


def _parts_of(metric: str, means: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    part, _, rest = metric.partition("/")
    return tuple(f"{one}/{rest}" for one in means.get(part, (part,)))
