"""How sure a difference between recommenders is: a paired, crossed bootstrap over seeds and over users.

A run's metric varies with its seed (split and initialisation) and with the users who happen to be in its
parts. A draw takes seeds with replacement and, apart from that, users with replacement: a user counts as
often under every seed of the draw. Every recommender and every part is scored on the same draw, so what
they share cancels in their differences.

Seeds and users are crossed because seeds share their users: each splits the same population again, or not
even that where files or times say the parts. Users drawn for each seed by itself would take what a user
adds under all of them for noise that averages out over the seeds. What is a user's under one seed
alone is counted more than once, which makes intervals wider and not narrower; so it is with planted data
that every seed draws again, with users who only share their numbers.

With few seeds the intervals are somewhat too narrow, as those of every bootstrap over few units are.
Drawing both factors apart is the pigeonhole bootstrap (Owen, Annals of Applied Statistics 2007).

Shape letters: ``S`` seeds, ``R`` recommenders, ``U_p`` users of part ``p``, ``D`` draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CELLS = 2**22
"""Drawn users held at once."""


@dataclass(frozen=True, kw_only=True)
class PartValues:
    """One metric of one part under one seed: ``users`` ``[U_p]`` by number, ``values`` ``[U_p, R]``."""

    users: NDArray[np.int64]
    values: NDArray[np.float64]


def resampled_means(
    seeds: Sequence[Sequence[PartValues]], draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], ...]:
    """For each part the mean over users of what each recommender has got, ``[D, S, R]``: draws of seeds.

    A user is drawn into all parts and seeds that have this user together. A draw that holds no one of a
    part, which only happens where it has hardly a user, has the part's own mean.

    Args:
        seeds: for each seed its parts, the same parts in the same order; a number is the same user in all.
        draws: ``D``.
        rng: draws seeds and users.
    """
    n_seeds, n_parts = len(seeds), len(seeds[0])
    width = seeds[0][0].values.shape[1]
    chosen = rng.integers(n_seeds, size=(draws, n_seeds))
    everybody = np.unique(np.concatenate([part.users for parts in seeds for part in parts]))
    places = [[np.searchsorted(everybody, part.users) for part in parts] for parts in seeds]
    means = [np.empty((draws, n_seeds, width)) for _ in range(n_parts)]
    size = max(1, _CELLS // len(everybody))
    for start in range(0, draws, size):
        block = slice(start, min(start + size, draws))
        times = _times_drawn(block.stop - block.start, len(everybody), rng)
        for seed, parts in enumerate(seeds):
            for mean, part, place in zip(means, parts, places[seed], strict=True):
                weight = times[:, place]
                count = weight.sum(axis=1, keepdims=True)
                drawn = weight @ part.values / np.maximum(count, 1)
                mean[block, seed] = np.where(count > 0, drawn, part.values.mean(axis=0))
    return tuple(np.take_along_axis(mean, chosen[:, :, None], axis=1) for mean in means)


def _times_drawn(rows: int, users: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """``[rows, users]``: how often each user is among as many draws as there are users."""
    drawn = rng.integers(users, size=(rows, users)) + np.arange(rows)[:, None] * users
    return np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)
