"""How much of a front is luck: chosen by one half of the validation users, scored by the other.

A front is the best of many points, and each is measured with noise: it holds those that deserve it and those
that were lucky with these users. The more points a study scores, the more luck there is to choose from. Half
of the users are drawn, the front is chosen by them, and the same points are scored by the other half, who
had no say in the choice; then the other way round, for many halves. A user of several parts is in one half.

What falls is more than the front of all users will: half of the users make noise of 1.4 times the size. Luck
that all users share is not in it: that of early stopping, of the split and of the training's own seed. Fresh
seeds (``study confirm``) are the judge of those.

Shape letters: ``D`` draws of halves, ``N`` points, ``M`` objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.engine.user_value_store import UserStore
from painvrl.evaluation.metrics import list_wise
from painvrl.evaluation.user_draws import halved
from painvrl.stats.dominance import hypervolume, non_dominated
from painvrl.study.choice.selection import values_of
from painvrl.study.report.trials import Trials

HALVES = 100
"""Draws, each read in both directions."""


@dataclass(frozen=True, kw_only=True)
class BestPoint:
    """The best point of one objective, as the half that chose it sees it, and as the other half does."""

    objective: str
    chosen: float
    fresh: float


@dataclass(frozen=True, kw_only=True)
class Luck:
    """What the other half of the users leaves of a front; means over all draws, in both directions.

    Attributes:
        points: that the front was chosen from.
        front: points on the front that a half chose. survivors: those that the other half would have
            chosen, too.
        chosen, fresh: the hypervolume of these points by the half that chose, and by the other.
        best: by objective.
        note: why there are no figures.
    """

    points: int
    front: float = 0.0
    survivors: float = 0.0
    chosen: float = 0.0
    fresh: float = 0.0
    best: tuple[BestPoint, ...] = ()
    note: str | None = None

    @property
    def lost(self) -> float:
        """The share of the hypervolume that the other half does not see."""
        return 1 - self.fresh / self.chosen if self.chosen > 0 else 0.0


def luck(trials: Trials, users: UserStore) -> Luck:
    """How much of a study's front is luck.

    Args:
        trials: of the study.
        users: what each user got from each point.
    """
    asked = [(point.name, values_of(trials.objectives, point)) for point in trials.points]
    if of_lists := list_wise(trials.objectives):
        return Luck(
            points=len(asked), note=f"{of_lists[0]} has no value of a single user, so half of them have none"
        )
    known = halved(users.load_each(asked), trials.objectives, HALVES)
    if isinstance(known, str):
        return Luck(points=len(asked), note=known)
    shape = (-1, *known.shape[2:])  # a draw is read in both directions
    return _luck(known.reshape(shape), known[::-1].reshape(shape), trials.objectives)


def _luck(chosen: NDArray[np.float64], fresh: NDArray[np.float64], objectives: Sequence[str]) -> Luck:
    """From ``[D, N, M]`` as the choosing half sees every point, and as the other does."""
    on_front = [non_dominated(values) for values in chosen]
    again = [non_dominated(values) for values in fresh]
    draw = np.arange(len(chosen))
    best = []
    for column, objective in enumerate(objectives):
        winner = chosen[:, :, column].argmax(axis=1)
        ends = (float(half[draw, winner, column].mean()) for half in (chosen, fresh))
        best.append(BestPoint(objective=objective, chosen=next(ends), fresh=next(ends)))
    return Luck(
        points=chosen.shape[1],
        front=float(np.mean([members.sum() for members in on_front])),
        survivors=float(np.mean([(one & two).sum() for one, two in zip(on_front, again, strict=True)])),
        chosen=_volume(chosen, on_front),
        fresh=_volume(fresh, on_front),
        best=tuple(best),
    )


def _volume(values: NDArray[np.float64], members: Sequence[NDArray[np.bool_]]) -> float:
    return float(np.mean([hypervolume(one[on]) for one, on in zip(values, members, strict=True)]))
