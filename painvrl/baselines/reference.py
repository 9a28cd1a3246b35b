"""The reference model beside the baselines, tried at as many points of the file's own space.

What adds an offset to its scores, in the file or in its space, is left out: the offsets that all methods get
take its place. The other weights that act after training are drawn like any hyperparameter.
"""

from __future__ import annotations

import random
from typing import ClassVar

from pydantic import ConfigDict, ValidationError

from painvrl.baselines.port import Baseline, Fit, Inputs
from painvrl.baselines.search import RandomSuggester
from painvrl.core.errors import TrialFailure, UserError
from painvrl.core.rng import derive_seed
from painvrl.core.settings import Settings
from painvrl.evaluation.ranking import DotProducts, Scorer
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import Point, apply
from painvrl.run.pipeline import run
from painvrl.run.prepare import with_features
from painvrl.study.file.space import Space

_DRAWS_A_POINT = 50
"""In the mean over the points; a space that gives no more new ones counts as exhausted."""


_OFFSETS = {"fusion.popularity_weight": 0.0, "fusion.cold_weight": 0.0}


class ReferenceSettings(Settings):
    """A point of the file's space: a value for each hyperparameter that is turned, by its path."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


def reference_model(inputs: Inputs) -> Fit[ReferenceSettings]:
    """Trains the run's own configuration with the hyperparameters of a point turned, without an offset."""

    def fit(point: ReferenceSettings) -> Scorer:
        try:
            config = apply(inputs.config, point.model_dump() | _OFFSETS)
            prepared = inputs.prepared
            if config.features != inputs.config.features:
                prepared = with_features(prepared, config)
            trained = run(config, prepared)
        except ValidationError as error:
            raise TrialFailure(_reported(error)) from error
        except UserError as error:
            raise TrialFailure(str(error)) from error
        return DotProducts(trained.user_vectors, trained.item_vectors)

    return fit


def reference_points(space: Space | None, config: TrainConfig, trials: int) -> tuple[ReferenceSettings, ...]:
    """At most ``trials`` different points: the configuration's own, then random ones from its space.

    The own point has the hyperparameters that the space fixes, as a study's has.

    Args:
        space: of the study's file; without one there is only the configuration itself.
        config: the base configuration, whose seed draws the points.
        trials: at least 1. A space with fewer points is gone through.
    """
    if space is None:
        return (ReferenceSettings(),)
    draws = RandomSuggester(random.Random(derive_seed(config.seed, "baseline", OWN.name, "search")))
    points = {_without_offsets({**space.point_of(config), **space.fixed(config)}): None}
    for _ in range(_DRAWS_A_POINT * trials):
        if len(points) == trials:
            break
        points.setdefault(_without_offsets(space.suggest(draws, config)))
    return tuple(points)


def _without_offsets(point: Point) -> ReferenceSettings:
    return ReferenceSettings.model_validate(
        {path: value for path, value in point.items() if path not in _OFFSETS}
    )


def _reported(error: ValidationError) -> str:
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    return f"the point breaks a rule of the configuration: {path + ': ' if path else ''}{first['msg']}"


OWN = Baseline(
    name="own",
    summary="the reference model, over the file's own space",
    settings=ReferenceSettings,
    space={},
    start=reference_model,
)
