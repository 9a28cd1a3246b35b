"""Matrix factorisation by the library ``implicit``: alternating least squares, and BPR.

Both know items by their interactions only: the library gives cold ones zero vectors, and they tie at 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field

from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.core.errors import Diverged
from painvrl.core.settings import Settings
from painvrl.evaluation.ranking import Scorer
from painvrl.run.distributions import FloatRange, IntRange

if TYPE_CHECKING:
    from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase


class AlsConfig(Settings):
    """Settings of ``implicit``'s ALS."""

    factors: int = Field(default=64, ge=1)
    """Width of the vectors."""
    regularization: float = Field(default=5.0, ge=0)
    """Weight of the vectors' squares."""
    alpha: float = Field(default=5.0, gt=0)
    """Confidence of an interaction; a pair without one has 1."""
    iterations: int = Field(default=15, ge=1)
    """Passes of alternating least squares."""


class BprConfig(Settings):
    """Settings of ``implicit``'s BPR; negatives are drawn by popularity."""

    factors: int = Field(default=64, ge=1)
    """Width of the vectors."""
    learning_rate: float = Field(default=0.03, gt=0)
    """Step size of stochastic gradient descent."""
    regularization: float = Field(default=0.01, ge=0)
    """Weight of the vectors' squares."""
    iterations: int = Field(default=100, ge=1)
    """Epochs: passes over the train interactions."""


def als(inputs: Inputs) -> Fit[AlsConfig]:
    """The implicit-feedback ALS of Hu, Koren and Volinsky (ICDM 2008), by conjugate gradients, on the CPU."""

    def fit(config: AlsConfig) -> Scorer:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        # The library runs its own threads and asks for a BLAS without any.
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                **config.model_dump(), num_threads=torch.get_num_threads(), random_state=inputs.seed("als")
            )
            return _trained(model, inputs)

    return fit


def bpr(inputs: Inputs) -> Fit[BprConfig]:
    """BPR (Rendle et al., UAI 2009) by stochastic gradients, on the CPU.

    On one thread: several update the same vectors without a lock, and no two runs would be alike.
    """

    def fit(config: BprConfig) -> Scorer:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        model = BayesianPersonalizedRanking(
            **config.model_dump(), num_threads=1, random_state=inputs.seed("bpr")
        )
        return _trained(model, inputs)

    return fit


def _trained(model: MatrixFactorizationBase, inputs: Inputs) -> Scorer:
    """Fit ``model`` and take its vectors."""
    from implicit.recommender_base import ModelFitError

    try:
        model.fit(inputs.matrix, show_progress=False)
    except ModelFitError as error:
        raise Diverged(f"implicit: {error}") from None
    return vectors(inputs, model.user_factors, model.item_factors)


ALS = Baseline(
    name="als",
    summary="implicit's alternating least squares",
    settings=AlsConfig,
    space={
        "factors": IntRange(type="int", low=16, high=128, log=True),
        "regularization": FloatRange(type="float", low=0.01, high=50.0, log=True),
        "alpha": FloatRange(type="float", low=1.0, high=40.0, log=True),
    },
    start=als,
    modules=("implicit",),
)
BPR = Baseline(
    name="bpr",
    summary="implicit's Bayesian personalised ranking",
    settings=BprConfig,
    space={
        "factors": IntRange(type="int", low=16, high=128, log=True),
        "learning_rate": FloatRange(type="float", low=0.003, high=0.3, log=True),
        "regularization": FloatRange(type="float", low=1e-4, high=0.1, log=True),
        "iterations": IntRange(type="int", low=30, high=300, log=True),
    },
    start=bpr,
    modules=("implicit",),
)
