"""What points of studies come to under other users: draws of these, with replacement.

Shape letters: ``D`` draws, ``N`` points of a study, ``M`` objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from painvrl.evaluation.user_values import UserValues
from painvrl.stats.bootstrap import PartValues, resampled_means
from painvrl.stats.dominance import hypervolumes


def drawn_volumes(
    a: Sequence[UserValues],
    b: Sequence[UserValues],
    objectives: Sequence[str],
    *,
    paired: bool,
    draws: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The hypervolumes of both studies under ``draws`` samples of users, ``[D]`` each.

    Args:
        a: what the users of each feasible point got.
        b: as well.
        objectives: full names.
        paired: draw the same users for both; else each study's for itself.
        draws: how often.
        rng: draws the users.
    """
    if not paired:
        first, second = (_drawn(side, objectives, draws, rng) for side in (a, b))
        return hypervolumes(first), hypervolumes(second)
    both = _drawn([*a, *b], objectives, draws, rng)
    return hypervolumes(both[:, : len(a)]), hypervolumes(both[:, len(a) :])


def same_users(points: Sequence[UserValues]) -> bool:
    """Whether all points were judged by the same users."""
    return all(
        one.users.keys() == points[0].users.keys()
        and one.means == points[0].means
        and all(np.array_equal(users, points[0].users[part]) for part, users in one.users.items())
        for one in points[1:]
    )


def _drawn(
    points: Sequence[UserValues], objectives: Sequence[str], draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """``[D, N, M]``: every point's objectives under draws of users."""
    if not points:
        return np.zeros((draws, 0, len(objectives)))
    count, users = len(points), points[0].users
    members = {full: None for objective in objectives for full in points[0].parts_of(objective)}
    by_part: dict[str, list[str]] = {}
    for full in members:
        by_part.setdefault(full.partition("/")[0], []).append(full)
    parts = [
        PartValues(
            users=users[part],
            values=np.stack([point.values[full] for full in names for point in points], axis=1).astype(float),
        )
        for part, names in by_part.items()
    ]
    means: Mapping[str, NDArray[np.float64]] = {
        full: drawn[:, 0, place * count : (place + 1) * count]
        for drawn, names in zip(resampled_means([parts], draws, rng), by_part.values(), strict=True)
        for place, full in enumerate(names)
    }
    columns = [
        np.mean([means[full] for full in points[0].parts_of(objective)], axis=0) for objective in objectives
    ]
    return np.stack(columns, axis=2)
