"""Samplers whose points follow from the space, and from what has been tried: no result is looked at."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution, Fixed, FloatRange, IntRange, Value, same, value_at
from painvrl.run.hyperparameters import Point
from painvrl.study.file.space import Space
from painvrl.study.search.samplers import MAX_GRID
from painvrl.study.store.storage import StoredStudy, Training

MAX_DRAWS = 1000
"""From a space too large to be tried whole, most of the first draws are new."""


class _Planned(BaseSampler):
    """What the two share: they plan every hyperparameter, whether a trial searches it or not."""

    def __init__(self, space: Space, base: TrainConfig, *, seed: int) -> None:
        self._hyperparameters = {
            path: space.root[path] for path in space.searched(base) if not isinstance(space.root[path], Fixed)
        }
        self._seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every hyperparameter, whether the trial searches it or not."""
        return {path: _optunas(hyperparameter) for path, hyperparameter in self._hyperparameters.items()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Never asked for: every hyperparameter is planned."""
        raise NotImplementedError(param_name)


class Sobol(_Planned):
    """The points of a scrambled Sobol sequence.

    Args:
        space, base: what is searched.
        seed: of the scrambling, the study's.
        place: of the trial's point in the sequence, from 0.
    """

    def __init__(self, space: Space, base: TrainConfig, *, seed: int, place: int) -> None:
        super().__init__(space, base, seed=seed)
        self._place = place

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The point at this place."""
        import torch

        if not self._hyperparameters:
            return {}
        engine = torch.quasirandom.SobolEngine(len(self._hyperparameters), scramble=True, seed=self._seed)
        if self._place:
            engine.fast_forward(self._place)
        shares = engine.draw(1, dtype=torch.float64)[0].tolist()
        ranges = zip(self._hyperparameters.items(), shares, strict=True)
        return {path: value_at(hyperparameter, share) for (path, hyperparameter), share in ranges}


class Untried(_Planned):
    """Points that no trial trains or has trained, in an order that the seed shuffles.

    Args:
        stored: what is searched.
        trained: what there was before the trial that the point is for, see :meth:`StoredStudy.trained`.
        seed: of the order.
    """

    def __init__(self, stored: StoredStudy, trained: Container[Training], *, seed: int) -> None:
        super().__init__(stored.sampled, stored.config, seed=seed)
        self._stored = stored
        self._trained = trained
        self._size = stored.sampled.size(stored.config)

    def any_left(self) -> bool:
        """Whether there is such a point."""
        space, base = self._stored.sampled, self._stored.config
        return math.isinf(self._size) or any(self._is_new(point) for point in space.points(base))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point that goes with what the trial has fixed; a trained one if none does."""
        fixed = trial.system_attrs.get("fixed_params", {})
        again: Point = {}
        for point in self._shuffled():
            if all(_equal(point[path], value) for path, value in fixed.items() if path in point):
                if self._is_new(point):
                    return dict(point)
                again = again or point
        return dict(again)

    def _is_new(self, point: Point) -> bool:
        return self._stored.training(point) not in self._trained

    def _shuffled(self) -> Iterator[Point]:
        """All points of a small space in the seed's order; draws from one that is too large to be listed."""
        space, base = self._stored.sampled, self._stored.config
        draws = np.random.default_rng(self._seed)
        if self._size <= MAX_GRID:
            points = list(space.points(base))
            yield from (points[place] for place in draws.permutation(len(points)))
        else:
            for _ in range(MAX_DRAWS):
                yield space.chosen(base, lambda path: value_at(space.root[path], draws.random()))


def _equal(one: Value, other: Value) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return same(one, other)


def _optunas(hyperparameter: Distribution) -> BaseDistribution:
    """The distribution that Optuna makes of :meth:`suggest`."""
    if isinstance(hyperparameter, IntRange):
        return IntDistribution(
            hyperparameter.low, hyperparameter.high, log=hyperparameter.log, step=hyperparameter.step
        )
    if isinstance(hyperparameter, FloatRange):
        return FloatDistribution(
            hyperparameter.low, hyperparameter.high, log=hyperparameter.log, step=hyperparameter.step
        )
    return CategoricalDistribution(tuple(hyperparameter.values()))
