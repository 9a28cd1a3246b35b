"""Ridge regression from an item's features to who takes it, in closed form.

Shape letters: ``U`` users, ``I`` items, ``I_w`` warm items, ``F`` features, ``r`` at most ``min(I_w, F)``.
"""

from __future__ import annotations

import torch
from pydantic import Field

from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.core.settings import Settings
from painvrl.evaluation.ranking import Scorer
from painvrl.run.distributions import FloatRange


class RidgeConfig(Settings):
    """Settings of the ridge regression."""

    ridge: float = Field(default=10.0, gt=0)
    """Weight of the squared preferences."""


def ridge(inputs: Inputs) -> Fit[RidgeConfig]:
    """``s(u, i) = R_w F_w (F_w' F_w + l I)^-1 f_i``: a preference vector a user, by least squares.

    ``R_w`` ``[U, I_w]`` and ``F_w`` ``[I_w, F]`` are those of the warm items: a cold item is scored by its
    features alone, and is no negative. With the thin decomposition ``F_w = P S Q'`` the preferences are
    ``R_w P (S / (S^2 + l)) Q'``, whether there are more items or more features (the dual and the primal
    solve in one), and every ``l`` costs one scaling.
    """
    # On the CPU: not every device has float64.
    features = inputs.prepared.features.cpu().double()
    warm = inputs.prepared.training.warm_items.cpu()
    left, size, right = torch.linalg.svd(features[warm], full_matrices=False)
    of_items = torch.zeros(features.shape[0], len(size), dtype=torch.float64)
    of_items[warm] = left
    train = inputs.prepared.train
    taken = torch.zeros(train.n_users, len(size), dtype=torch.float64)
    taken.index_add_(0, train.user, of_items[train.item])  # R_w P, [U, r]
    items = features @ right.T

    def fit(config: RidgeConfig) -> Scorer:
        return vectors(inputs, taken * (size / (size.square() + config.ridge)), items)

    return fit


RIDGE = Baseline(
    name="ridge",
    summary="each user's interactions, regressed on the items' features",
    settings=RidgeConfig,
    space={"ridge": FloatRange(type="float", low=1e-2, high=1e4, log=True)},
    start=ridge,
)
