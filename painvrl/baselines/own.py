"""The file's own model beside the baselines, tuned over the file's own space with as many trials."""

from __future__ import annotations

import random
from typing import NoReturn

from pydantic import ConfigDict, ValidationError

from painvrl.baselines.port import Baseline, Fit, Inputs
from painvrl.baselines.search import RandomSuggester
from painvrl.config import TrainConfig
from painvrl.errors import TrialFailure
from painvrl.evaluation.ranking import DotProducts, Scorer
from painvrl.pipeline import run
from painvrl.rng import derive_seed
from painvrl.settings import Settings
from painvrl.study.file.space import Space, apply


class OwnSettings(Settings):
    """A point of the file's space: a value for each knob that is turned, by its path."""

    model_config = ConfigDict(extra="allow")


def own_model(inputs: Inputs) -> Fit[OwnSettings]:
    """Trains the run's own configuration with the knobs of a point turned."""

    def fit(point: OwnSettings) -> Scorer:
        try:
            config = apply(inputs.config, point.model_dump())
        except ValidationError as error:
            _fail(error)
        trained = run(config, inputs.prepared)
        return DotProducts(trained.user_vectors, trained.item_vectors)

    return fit


def own_points(space: Space | None, config: TrainConfig, trials: int) -> tuple[OwnSettings, ...]:
    """At most ``trials`` different points: the configuration's own, then random ones from its space.

    Args:
        space: of the study's file; without one there is only the configuration itself.
        config: the base configuration, whose seed draws the points.
        trials: at least 1.
    """
    points = [OwnSettings()]
    if space is not None:
        draws = RandomSuggester(random.Random(derive_seed(config.seed, "baseline", OWN.name, "search")))
        points += [OwnSettings.model_validate(space.suggest(draws, config)) for _ in range(trials - 1)]
    return tuple(dict.fromkeys(points))


def _fail(error: ValidationError) -> NoReturn:
    raise TrialFailure(f"the point breaks a rule of the configuration: {error.errors()[0]['msg']}") from error


OWN = Baseline(
    name="own",
    summary="the file's own model, over the file's own space",
    settings=OwnSettings,
    space={},
    start=own_model,
)
