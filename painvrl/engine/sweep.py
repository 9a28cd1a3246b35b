"""The sweep: what is left to choose once a model is trained, tried on it in a few passes of ranking.

Some hyperparameters act on a trained model (:class:`painvrl.core.settings.AfterTraining`). To sample one
value of them before each training is a waste: scoring costs next to nothing beside training. So each training
is scored under many values, and is worth a curve of points instead of one.

Which values: first a grid, along each hyperparameter with the others at the configuration's own values. Then,
in rounds, between neighbours on this training's own front: half-way, and where both moves are made at once.
The widest gaps come first. Nothing is drawn, so a training always has the same points. Where ranking all
users is dear, the search looks at some of them, and only the points that are kept are scored on all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from painvrl.core.settings import Settings
from painvrl.engine.constraints import Constraint, violated
from painvrl.engine.outcomes import SweptPoint
from painvrl.evaluation.ranking import RankingPlan, judged_users, mean_over_users, some_users
from painvrl.evaluation.user_values import UserValues, values_of
from painvrl.model.fusion import ScoreParts, WeighedScores
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution, Value, share_of, value_at
from painvrl.run.hyperparameters import Point, apply, leaves
from painvrl.run.leave_out import LeftOut
from painvrl.stats.dominance import hypervolume, non_dominated

EXPLORED_CELLS = 2**25
"""Scores of one ranking up to which the search looks at every user: 0.1 s on two cores."""

MIN_USERS = 100
"""Of a part whose users are thinned: a mean over fewer says little."""

_ROUNDS = 2
"""Refinements of the front; each takes an equal share of the second half of the points."""

_SWEPT = "swept/"

Shares: TypeAlias = tuple[float, ...]
"""Where the hyperparameters stand in their ranges, each in [0, 1]."""


class SweepConfig(Settings):
    """How many points of each training are looked at, and how many are kept."""

    points: int = Field(default=32, ge=2, le=1000)
    """Points scored of each training, the configuration's own among them."""
    keep: int = Field(default=16, ge=1, le=200)
    """Most points of a training's front that stay with the trial; half as many where ranking is slow. A
    longer front is thinned.
    """


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A point of a training, and what each user has got of the objectives under it."""

    point: SweptPoint
    users: UserValues


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a trial sweeps.

    Attributes:
        hyperparameters: what is swept, by path, with its range; all of them act after training.
        objectives: of the study; the search looks at one of each part, ``axes``.
        constraints: of the study; points that break one on a metric are kept only where all do.
    """

    hyperparameters: Mapping[str, Distribution]
    objectives: tuple[str, ...]
    axes: tuple[str, ...]
    constraints: tuple[Constraint, ...] = ()
    config: SweepConfig = field(default_factory=SweepConfig)


def sweep(
    config: TrainConfig,
    parts: ScoreParts,
    ranking: RankingPlan,
    plan: Sweep,
    left_out: LeftOut | None = None,
) -> tuple[Scored, ...]:
    """The points of a training: the configuration's own first, then those of its front, the best IID first.

    Args:
        config: what was trained.
        parts: of the model; with the branch where ``fusion.variant_weight`` is swept.
        ranking: of the valid parts.
        plan: what is swept.
        left_out: models that lack an environment, if the points are asked for that, too.
    """
    search = _Search(config, parts, ranking, plan, left_out)
    search.explore()
    return search.kept()


def scored_at(
    config: TrainConfig,
    parts: ScoreParts,
    ranking: RankingPlan,
    points: Sequence[Point],
    objectives: Sequence[str],
    left_out: LeftOut | None = None,
) -> tuple[Scored, ...]:
    """A training at given points of what acts after it, ranked in one pass."""
    fusions = [apply(config, point).fusion for point in points]
    judged = judged_users(ranking, WeighedScores(parts, fusions))
    more = [{} for _ in fusions] if left_out is None else left_out.metrics(fusions)
    return tuple(
        Scored(
            point=SweptPoint(values=dict(point), metrics=mean_over_users(ranking, each) | of_left_out),
            users=values_of(ranking, each, objectives),
        )
        for point, each, of_left_out in zip(points, judged, more, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class RungSweep:
    """Sweeps a model that is still trained, with fewer points than :func:`sweep` when it is done.

    Its points are reported as further metrics, ``swept/3/ood/ndcg_at_20``, so that whoever takes over the
    training or its curves has them, too; :func:`curve_at` reads them.
    """

    config: TrainConfig
    ranking: RankingPlan
    rungs: frozenset[str]
    plan: Sweep

    @property
    def key(self) -> str:
        """See :class:`painvrl.run.stages.Look`."""
        plan, own = self.plan, leaves(self.config)
        hyperparameters = {
            path: (own[path], hyperparameter.model_dump(mode="json"))
            for path, hyperparameter in plan.hyperparameters.items()
        }
        return repr([sorted(self.rungs), hyperparameters, plan.objectives, plan.axes, plan.config])

    def __call__(self, rung: str, parts: ScoreParts) -> Mapping[str, float]:
        """See :class:`painvrl.run.stages.Look`."""
        if rung not in self.rungs:
            return {}
        points = max(2, self.plan.config.points // 2)
        # Rivals are compared as they are: what a constraint asks for is asked of the trained model.
        config = self.plan.config.model_copy(update={"points": points})
        fewer = replace(self.plan, config=config, constraints=())
        return {
            f"{_SWEPT}{place}/{axis}": one.point.metrics[axis]
            for place, one in enumerate(sweep(self.config, parts, self.ranking, fewer))
            for axis in self.plan.axes
        }


def curve_at(values: Mapping[str, float], axes: Sequence[str]) -> list[list[float]]:
    """The points of a model at a rung, each by its axes: those that were swept, or its metrics alone."""
    count = sum(name.startswith(_SWEPT) and name.endswith(f"/{axes[0]}") for name in values)
    places = [f"{_SWEPT}{place}/" for place in range(count)] or [""]
    return [[float(values[f"{place}{axis}"]) for axis in axes] for place in places]


def without_curve(values: Mapping[str, float]) -> dict[str, float]:
    """The metrics alone."""
    return {name: value for name, value in values.items() if not name.startswith(_SWEPT)}


def reported(points: Sequence[SweptPoint], plan: Sweep) -> int:
    """The place of the point whose values stand for the training: it alone dominates the largest volume.

    That is the product of its objectives; of equal ones the first. A point that breaks a constraint
    stands for it only where all do.
    """

    def rank(place: int) -> tuple[bool, float, int]:
        metrics = points[place].metrics
        kept = not violated(plan.constraints, metrics)
        return kept, math.prod(metrics[name] for name in plan.objectives), -place

    return max(range(len(points)), key=rank)


def distinct(points: Sequence[SweptPoint], places: Iterable[int], objectives: Sequence[str]) -> list[int]:
    """Of ``places`` with equal values of all objectives the first, in their order."""
    found: dict[tuple[float, ...], int] = {}
    for place in places:
        found.setdefault(tuple(points[place].metrics[name] for name in objectives), place)
    return list(found.values())


def _that_move(
    parts: ScoreParts, ranking: RankingPlan, hyperparameters: Mapping[str, Distribution]
) -> dict[str, Distribution]:
    """The hyperparameters that can change a ranking of this training."""
    degree = parts.degree[ranking.candidates]
    lists = [degree[columns] if len(columns) else degree for columns in ranking.columns]
    moves = {
        "fusion.variant_weight": parts.base_width < parts.items.shape[1],
        "fusion.id_weight": parts.id_width > 0,
        # An offset that all items of a list share moves nothing in it.
        "fusion.cold_weight": any(bool((each == 0).any() & (each > 0).any()) for each in lists),
        "fusion.popularity_weight": any(bool((each != each[0]).any()) for each in lists),
    }
    return {path: hyperparameter for path, hyperparameter in hyperparameters.items() if moves.get(path, True)}


class _Search:
    """The points that were looked at, in shares and in values; the first is the configuration's own."""

    def __init__(
        self,
        config: TrainConfig,
        parts: ScoreParts,
        ranking: RankingPlan,
        plan: Sweep,
        left_out: LeftOut | None = None,
    ) -> None:
        self._config, self._parts, self._plan = config, parts, plan
        self._left_out = left_out
        self._hyperparameters = _that_move(parts, ranking, plan.hyperparameters)
        own = leaves(config)
        self._own: dict[str, Value] = {path: own[path] for path in self._hyperparameters}
        self._base: Shares = tuple(
            share_of(hyperparameter, own[path]) for path, hyperparameter in self._hyperparameters.items()
        )
        self._of_all = ranking
        self._ranking = _affordable(ranking, plan.config.points)
        self._shares: list[Shares] = [self._base]
        self.points: list[Scored] = list(self._scored(self._ranking, [self._own]))

    def explore(self) -> None:
        """Look at the grid, then between neighbours on the front."""
        budget = self._plan.config.points
        self._look(along_axes(self._base, budget // 2), budget // 2)
        for left in range(_ROUNDS, 0, -1):
            self._look(self._between(), (budget - len(self.points)) // left)

    def kept(self) -> tuple[Scored, ...]:
        """The own point, and what of the front is kept, scored on all users."""
        chosen = [self.points[place] for place in dict.fromkeys([0, *self._front()])]
        if self._ranking is self._of_all:
            return tuple(chosen)
        exact = self._scored(self._of_all, [one.point.values for one in chosen])
        left = distinct([one.point for one in exact], range(len(exact)), self._plan.objectives)
        return tuple(exact[place] for place in left)

    def _look(self, wanted: Iterable[Shares], count: int) -> None:
        """Score the first ``count`` of ``wanted`` whose values were not scored before."""
        seen = [one.point.values for one in self.points]
        new: list[Point] = []
        for shares in wanted:
            if len(new) >= count:
                break
            ranges = zip(self._hyperparameters.items(), shares, strict=True)
            values = {path: value_at(hyperparameter, share) for (path, hyperparameter), share in ranges}
            if values not in seen and values not in new:
                new.append(values)
                self._shares.append(shares)
        if new:
            self.points += self._scored(self._ranking, new)

    def _scored(self, ranking: RankingPlan, points: Sequence[Point]) -> tuple[Scored, ...]:
        objectives, left_out = self._plan.objectives, self._left_out
        return scored_at(self._config, self._parts, ranking, points, objectives, left_out)

    def _candidates(self) -> list[int]:
        """Places of points that differ and keep to the constraints; of all that differ where none does."""
        points, constraints = [one.point for one in self.points], self._plan.constraints
        broken = [bool(violated(constraints, one.metrics)) for one in points]
        places = [place for place, breaks in enumerate(broken) if not breaks or all(broken)]
        return distinct(points, places, self._plan.objectives)

    def _front(self) -> list[int]:
        """Places of the front on the axes, thinned, and of the best of each objective; the best IID first.

        A point with a 0 on an axis adds no volume: it stays only as the best of an objective.
        """
        plan, rows = self._plan, self._candidates()
        on_axes, everything = self._values(plan.axes), self._values(plan.objectives)
        inside = [row for row in rows if (on_axes[row] > 0).all()]
        member = non_dominated(on_axes[inside])
        front = [row for row, on_front in zip(inside, member, strict=True) if on_front]
        # Where users are thinned, each point that is kept costs a ranking of all of them.
        most = plan.config.keep if self._ranking is self._of_all else max(1, plan.config.keep // 2)
        keep = _spread(on_axes, front, most)
        best = [
            max(rows, key=lambda row: (everything[row, column], everything[row].sum(), -row))
            for column in range(everything.shape[1])
        ]
        return sorted({*keep, *best}, key=lambda row: (-everything[row, 0], row))

    def _between(self) -> Iterator[Shares]:
        """Where to look beside the front, in the widest gaps first."""
        shares, values, rows = self._shares, self._values(self._plan.axes), self._candidates()
        front = [row for row, member in zip(rows, non_dominated(values[rows]), strict=True) if member]
        front.sort(key=lambda row: (-values[row, 0], row))
        extent = np.ptp(values[front], axis=0)
        scale = np.where(extent > 0, extent, 1.0)

        def gap(pair: tuple[int, int]) -> float:
            return float(np.abs((values[pair[0]] - values[pair[1]]) / scale).sum())

        for one, other in sorted(pairwise(front), key=gap, reverse=True):
            yield _middle(shares[one], shares[other])
            yield _together(shares[one], shares[other], self._base)
        for row in front:  # a front of one point has no neighbours
            yield from _nearby(shares[row])

    def _values(self, names: Sequence[str]) -> NDArray[np.float64]:
        """``[P, M]``."""
        return np.array([[one.point.metrics[name] for name in names] for one in self.points], dtype=float)


def _affordable(plan: RankingPlan, points: int) -> RankingPlan:
    """The plan, or that of so many users that all points together cost about one ranking of all.

    Each part keeps at least :data:`MIN_USERS` of its users, if it has them.
    """
    cells = sum(len(block.users) for block in plan.blocks) * len(plan.candidates)
    thinnest = min(len(part.users) // MIN_USERS for part in plan.parts)
    every = min(math.ceil(cells / EXPLORED_CELLS), points, thinnest)
    return some_users(plan, every)


def along_axes(base: Shares, count: int) -> Iterator[Shares]:
    """About ``count`` points that differ from ``base`` in one share each, at equal distances from 0 to 1."""
    steps = max(2, count // max(1, len(base)))
    for share in np.linspace(0.0, 1.0, steps).tolist():
        for place in range(len(base)):
            yield (*base[:place], share, *base[place + 1 :])


def _middle(one: Shares, other: Shares) -> Shares:
    return tuple((a + b) / 2 for a, b in zip(one, other, strict=True))


def _together(one: Shares, other: Shares, base: Shares) -> Shares:
    """Both moves away from ``base`` at once."""
    return tuple(min(1.0, max(0.0, a + b - c)) for a, b, c in zip(one, other, base, strict=True))


def _nearby(at: Shares, step: float = 0.125) -> Iterator[Shares]:
    for place, share in enumerate(at):
        for moved in (share - step, share + step):
            if 0 <= moved <= 1:
                yield (*at[:place], moved, *at[place + 1 :])


def _spread(values: NDArray[np.float64], rows: Sequence[int], keep: int) -> list[int]:
    """At most ``keep`` of the rows, each the one that adds most hypervolume to those before it."""
    left, chosen = list(rows), list[int]()
    if len(left) <= keep:
        return left
    while len(chosen) < keep:
        best = max(left, key=lambda row: (hypervolume(values[[*chosen, row]]), -row))
        chosen.append(best)
        left.remove(best)
    return chosen
