"""VBPR by the library Cornac: BPR whose items have a visual part, here all features.

Shape letters: ``U`` users, ``I`` items, ``I_w`` warm items, ``F`` features, ``k`` factors.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from painvrl.baselines.negatives import NegativeSampler
from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.data.interactions import Interactions
from painvrl.evaluation.ranking import Scorer
from painvrl.run.distributions import FloatRange, IntRange

if TYPE_CHECKING:
    from cornac.data import Dataset


class VbprConfig(Settings):
    """Settings of Cornac's VBPR."""

    factors: int = Field(default=32, ge=1)
    """Width of the ID part, and of the content part."""
    learning_rate: float = Field(default=0.005, gt=0)
    """Step size of the optimiser."""
    regularization: float = Field(default=0.01, ge=0)
    """Weight of the squared factors and biases."""
    projection_l2: float = Field(default=0.01, ge=0)
    """Weight of the squared projection of the features."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the train interactions."""
    batch_size: int = Field(default=1024, ge=1)
    """Train interactions in a step."""


def vbpr(inputs: Inputs) -> Fit[VbprConfig]:
    """``s(u, i) = beta_i + <gamma_u, gamma_i> + <theta_u, f_i E> + f_i b``, trained on the CPU.

    VBPR is by He and McAuley (AAAI 2016). The library knows the warm items only, so that cold ones are no
    negatives. A cold item has neither ``beta_i`` nor ``gamma_i``: its features alone score it.
    """
    warm = inputs.prepared.training.warm_items.cpu()
    features = inputs.prepared.features.cpu()

    def fit(config: VbprConfig) -> Scorer:
        model = trained(inputs, config, warm, features[warm])
        own = torch.zeros(len(features), config.factors + 1)  # gamma_i and beta_i
        own[warm] = torch.from_numpy(np.column_stack([model.gamma_item, model.beta_item]))
        bias = own[:, -1:] + features @ torch.from_numpy(model.beta_prime)
        items = torch.cat([own[:, :-1], features @ torch.from_numpy(model.emb_matrix), bias], dim=1)
        users = np.column_stack([model.gamma_user, model.theta_user, np.ones(len(model.gamma_user))])
        return vectors(inputs, users, items)

    return fit


def trained(inputs: Inputs, config: VbprConfig, warm: Tensor, features: Tensor) -> Any:
    """The library's model of the warm items, numbered as in ``warm`` ``[I_w]``; ``features`` ``[I_w, F]``."""
    from cornac.data import FeatureModality
    from cornac.models import VBPR

    train = inputs.prepared.train
    among = Interactions(
        user=train.user,
        item=torch.searchsorted(warm, train.item.contiguous()),
        n_users=train.n_users,
        n_items=len(warm),
    )
    data = _dataset(among, generator(inputs.config.seed, "baseline", "vbpr"))
    data.add_modalities(item_image=FeatureModality(features=features.numpy()))
    model = VBPR(
        k=config.factors,
        k2=config.factors,
        n_epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lambda_w=config.regularization,
        lambda_b=config.regularization,
        lambda_e=config.projection_l2,
        verbose=False,
        seed=inputs.seed("vbpr"),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it says when it is done
        model.fit(data)
    return model


def _dataset(train: Interactions, draws: torch.Generator) -> Dataset:
    """The library's data set, with batches that are drawn as a whole.

    The library's own draws negatives one by one in Python, from the same distribution, which took half of
    the training's time on MovieLens.
    """
    from cornac.data import Dataset

    sampler = NegativeSampler(train)
    Batch = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

    class Drawn(Dataset):  # type: ignore[misc]  # the library has no types
        def uij_iter(self, batch_size: int, shuffle: bool = True) -> Iterator[Batch]:
            for rows in torch.randperm(len(train), generator=draws).split(batch_size):
                users = train.user[rows]
                yield users.numpy(), train.item[rows].numpy(), sampler.draw(users, draws).numpy()

    return Drawn(
        num_users=train.n_users,
        num_items=train.n_items,
        uid_map={user: user for user in range(train.n_users)},
        iid_map={item: item for item in range(train.n_items)},
        uir_tuple=(train.user.numpy(), train.item.numpy(), np.ones(len(train), dtype=np.float32)),
    )


VBPR = Baseline(
    name="vbpr",
    summary="Cornac's visual Bayesian personalised ranking",
    settings=VbprConfig,
    space={
        "factors": IntRange(type="int", low=16, high=64, log=True),
        "learning_rate": FloatRange(type="float", low=0.001, high=0.03, log=True),
        "regularization": FloatRange(type="float", low=1e-4, high=0.3, log=True),
        "projection_l2": FloatRange(type="float", low=1e-4, high=1.0, log=True),
        "epochs": IntRange(type="int", low=5, high=50, log=True),
    },
    start=vbpr,
    modules=("cornac",),
)
