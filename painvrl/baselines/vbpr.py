"""VBPR by the library Cornac: BPR whose items have a visual part, here all features.

Shape letters: ``U`` users, ``I`` items, ``I_w`` warm items, ``F`` features, ``k`` factors.
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import torch
from pydantic import Field

from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.evaluation.ranking import Scorer
from painvrl.settings import Settings
from painvrl.study.space import FloatRange, IntRange


class VbprConfig(Settings):
    """Of Cornac's VBPR: ``factors`` of the ID part and, as many, of the content part.

    ``regularization``: of factors and biases. ``projection_l2``: of the projection of the features.
    """

    factors: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=0.005, gt=0)
    regularization: float = Field(default=0.01, ge=0)
    projection_l2: float = Field(default=0.0, ge=0)
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=1024, ge=1)


def vbpr(inputs: Inputs) -> Fit[VbprConfig]:
    """``s(u, i) = beta_i + <gamma_u, gamma_i> + <theta_u, f_i E> + f_i b``, on the CPU.

    The library knows the warm items only, so that cold ones are no negatives. A cold item has no
    ``beta_i`` and no ``gamma_i``: its features alone score it.
    """
    training = inputs.prepared.training
    warm = training.warm_items.cpu()
    features = inputs.prepared.features.matrix.cpu().numpy()
    taken = inputs.matrix[:, warm.numpy()].tocoo()

    def fit(config: VbprConfig) -> Scorer:
        from cornac.data import Dataset, FeatureModality
        from cornac.models import VBPR

        seed = inputs.seed("vbpr")
        data = Dataset(
            num_users=taken.shape[0],
            num_items=taken.shape[1],
            uid_map={user: user for user in range(taken.shape[0])},
            iid_map={item: item for item in range(taken.shape[1])},
            uir_tuple=(taken.row, taken.col, taken.data),
            seed=seed,
        )
        data.add_modalities(item_image=FeatureModality(features=features[warm.numpy()]))
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
            seed=seed,
        )
        with contextlib.redirect_stdout(sys.stderr):  # it prints when it is done
            model.fit(data)
        users = np.concatenate([model.gamma_user, model.theta_user, np.ones((len(model.gamma_user), 1))], axis=1)
        own = np.zeros((len(features), config.factors + 1), dtype=np.float32)
        own[warm.numpy()] = np.column_stack([model.gamma_item, model.beta_item])
        bias = own[:, -1:] + features @ model.beta_prime
        items = np.concatenate([own[:, :-1], features @ model.emb_matrix, bias], axis=1)
        return vectors(inputs, users, items)

    return fit


VBPR = Baseline(
    name="vbpr",
    summary="Cornac's visual Bayesian personalised ranking",
    settings=VbprConfig,
    space={
        "factors": IntRange(type="int", low=16, high=64, log=True),
        "learning_rate": FloatRange(type="float", low=0.001, high=0.03, log=True),
        "regularization": FloatRange(type="float", low=1e-4, high=0.3, log=True),
        "projection_l2": FloatRange(type="float", low=0.0, high=1.0),
        "epochs": IntRange(type="int", low=5, high=50, log=True),
    },
    start=vbpr,
    modules=("cornac", "scipy"),
)
