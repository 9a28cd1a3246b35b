"""Samplers whose points follow from the space alone: no trial's result is looked at."""

from __future__ import annotations

import math
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

from painvrl.config import TrainConfig
from painvrl.study.file.distributions import Distribution, Fixed, FloatRange, IntRange, Value, same
from painvrl.study.file.space import Space
from painvrl.study.store.storage import Attr


class _Planned(BaseSampler):
    """What the two share: they plan every knob, whether a trial searches it or not."""

    def __init__(self, space: Space, base: TrainConfig, *, seed: int) -> None:
        self._knobs = {
            path: space.root[path] for path in space.searched(base) if not isinstance(space.root[path], Fixed)
        }
        self._seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every knob, whether the trial searches it or not."""
        return {path: _optunas(knob) for path, knob in self._knobs.items()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Never asked for: every knob is planned."""
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

        if not self._knobs:
            return {}
        engine = torch.quasirandom.SobolEngine(len(self._knobs), scramble=True, seed=self._seed)
        if self._place:
            engine.fast_forward(self._place)
        shares = engine.draw(1, dtype=torch.float64)[0].tolist()
        return {
            path: at(knob, share) for (path, knob), share in zip(self._knobs.items(), shares, strict=True)
        }


def at(knob: Distribution, share: float) -> Value:
    """The value below which ``share`` of a distribution lies, ``share`` in [0, 1)."""
    if isinstance(knob, FloatRange) and knob.step is None:
        if knob.log:
            low, high = math.log(knob.low), math.log(knob.high)
            return min(max(math.exp(low + share * (high - low)), knob.low), knob.high)
        return knob.low + share * (knob.high - knob.low)
    if isinstance(knob, IntRange) and knob.log:
        low, high = math.log(knob.low - 0.5), math.log(knob.high + 0.5)
        return min(max(round(math.exp(low + share * (high - low))), knob.low), knob.high)
    place = int(share * knob.count())
    if isinstance(knob, IntRange):
        return knob.low + place * knob.step
    if isinstance(knob, FloatRange):
        return min(place * (knob.step or 0.0) + knob.low, knob.high)
    return list(knob.values())[place]


class Grid(_Planned):
    """The points of the grid that no trial has had, in an order that the seed shuffles.

    Args:
        space, base: what is searched; no knob is continuous or hangs on another.
        seed: the study's.
    """

    def __init__(self, space: Space, base: TrainConfig, *, seed: int = 0) -> None:
        super().__init__(space, base, seed=seed)
        self._values = {path: tuple(knob.values()) for path, knob in self._knobs.items()}

    def left(self, study: optuna.Study) -> int:
        """How many points no trial has had."""
        return math.prod(map(len, self._values.values())) - len(self._taken(study))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point that goes with what the trial's knobs are fixed at."""
        shape = tuple(map(len, self._values.values()))
        fixed = trial.system_attrs.get("fixed_params", {})
        taken = self._taken(study)
        again: dict[str, Value] = {}
        for place in np.random.default_rng(self._seed).permutation(math.prod(shape)):
            indices = tuple(int(index) for index in np.unravel_index(place, shape))
            point = {
                path: values[index]
                for (path, values), index in zip(self._values.items(), indices, strict=True)
            }
            if not all(_equal(point[path], value) for path, value in fixed.items() if path in point):
                continue
            if indices not in taken:
                return point
            again = again or point
        return again

    def _taken(self, study: optuna.Study) -> set[tuple[int, ...]]:
        taken = set()
        for trial in study.get_trials(deepcopy=False):
            point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            if Attr.DROPPED in trial.user_attrs or not self._values.keys() <= point.keys():
                continue
            indices = [
                next((place for place, one in enumerate(values) if _equal(one, point[path])), None)
                for path, values in self._values.items()
            ]
            if None not in indices:
                taken.add(tuple(index for index in indices if index is not None))
        return taken


def _equal(one: Value, other: Value) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return same(one, other)


def _optunas(knob: Distribution) -> BaseDistribution:
    """The distribution that Optuna makes of :meth:`suggest`."""
    if isinstance(knob, IntRange):
        return IntDistribution(knob.low, knob.high, log=knob.log, step=knob.step)
    if isinstance(knob, FloatRange):
        return FloatDistribution(knob.low, knob.high, log=knob.log, step=knob.step)
    return CategoricalDistribution(tuple(knob.values()))
