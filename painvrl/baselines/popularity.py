"""Popularity: everybody is shown what most took."""

from __future__ import annotations

import torch

from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.core.settings import Settings
from painvrl.evaluation.ranking import Scorer


class PopularityConfig(Settings):
    """There is nothing to set."""


def popularity(inputs: Inputs) -> Fit[PopularityConfig]:
    """``s(u, i) = d_i``, the item's interactions in training. Cold items tie at the end."""

    def fit(_: PopularityConfig) -> Scorer:
        return vectors(inputs, torch.ones(inputs.prepared.train.n_users, 1), inputs.item_degree[:, None])

    return fit


POPULARITY = Baseline(
    name="popularity",
    summary="the number of training interactions",
    settings=PopularityConfig,
    space={},
    start=popularity,
)
