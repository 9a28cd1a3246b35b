"""What points of studies come to under other users: draws of these with replacement, and halves of them.

Shape letters: ``D`` draws, ``N`` points of a study, ``M`` objectives, ``U`` users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from painvrl.core.rng import derive_seed
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.bootstrap import PartValues, resampled_means
from painvrl.stats.dominance import hypervolumes

Array = NDArray[np.float64]

MIN_USERS = 20
"""Of each part that is halved: a mean over fewer than ten says nothing."""


def drawn_volumes(
    a: Sequence[UserValues],
    b: Sequence[UserValues],
    objectives: Sequence[str],
    *,
    paired: bool,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
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


def halved(points: Iterable[UserValues | None], objectives: Sequence[str], draws: int) -> Array | str:
    """Every point's objectives by one half of the users, and by the other; a user is in one half everywhere.

    The points are read one after another: their users' values need not fit into memory together.

    Args:
        points: what the users of each got; ``None`` where that is not known.
        objectives: full names.
        draws: ``D``.

    Returns:
        ``[2, D, N, M]``, or why there is none, as a sentence.
    """
    first: UserValues | None = None
    weights: dict[str, Array] = {}
    found: list[Array] = []
    for point in points:
        if point is None:
            return "what each user got is not kept of all of them, so half of the users cannot be asked"
        if first is None:
            first, weights = point, _weights(point, draws)
            if small := [part for part, users in point.users.items() if len(users) < MIN_USERS]:
                part = small[0].partition("@")[0]  # that of one of several seeds
                return f"the part {part} has fewer than {MIN_USERS} users, who cannot be halved"
        if not same_users([first, point]):
            return "not all of them were judged by the same users"
        columns = []
        for objective in objectives:
            members = point.parts_of(objective)
            of_parts = [weights[full.partition("/")[0]] @ point.values[full] for full in members]
            columns.append(np.mean(of_parts, axis=0))
        found.append(np.stack(columns, axis=2))
    return np.stack(found, axis=2)


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
) -> Array:
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
    means: Mapping[str, Array] = {
        full: drawn[:, 0, place * count : (place + 1) * count]
        for drawn, names in zip(resampled_means([parts], draws, rng), by_part.values(), strict=True)
        for place, full in enumerate(names)
    }
    columns = [
        np.mean([means[full] for full in points[0].parts_of(objective)], axis=0) for objective in objectives
    ]
    return np.stack(columns, axis=2)


def _weights(point: UserValues, draws: int) -> dict[str, Array]:
    """For each part ``[2, D, U]``: what a user weighs in the mean of one half, and of the other."""
    everybody = np.unique(np.concatenate(list(point.users.values())))
    rng = np.random.default_rng(derive_seed(0, "luck"))
    order = rng.permuted(np.tile(np.arange(len(everybody)), (draws, 1)), axis=1)
    chosen = order < len(everybody) // 2
    found = {}
    for part, users in point.users.items():
        inside = chosen[:, np.searchsorted(everybody, users)]
        both = np.stack([inside, ~inside]).astype(float)
        found[part] = both / np.maximum(both.sum(axis=2, keepdims=True), 1)
    return found
