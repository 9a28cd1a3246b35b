from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from painvrl.baselines.implicit_factors import AlsConfig, BprConfig, als, bpr
from painvrl.core.errors import Diverged

pytest.importorskip("implicit")

ALS_SETTINGS = AlsConfig(factors=3, regularization=0.5, alpha=2.0, iterations=4)
BPR_SETTINGS = BprConfig(factors=3, learning_rate=0.05, regularization=0.02, iterations=20)


def library_scores(model: Any, inputs: Any) -> np.ndarray:
    """``[U, I]`` as the library recommends them."""
    model.fit(inputs.matrix, show_progress=False)
    scores = np.full(inputs.matrix.shape, np.nan, dtype=np.float32)
    for user in range(scores.shape[0]):
        items, values = model.recommend(
            user, inputs.matrix[user], N=scores.shape[1], filter_already_liked_items=False
        )
        scores[user, items] = values
    return scores


def test_als_scores_warm_items_as_the_library_does(random_inputs: Any, table: Any) -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    inputs = random_inputs()
    model = AlternatingLeastSquares(
        factors=3, regularization=0.5, alpha=2.0, iterations=4, num_threads=1, random_state=inputs.seed("als")
    )
    found = table(als(inputs)(ALS_SETTINGS), inputs).numpy()
    np.testing.assert_allclose(found[:, :8], library_scores(model, inputs)[:, :8], rtol=1e-4, atol=1e-5)
    assert found[:, :8].std() > 0.1


def test_bpr_scores_warm_items_as_the_library_does(random_inputs: Any, table: Any) -> None:
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    inputs = random_inputs()
    model = BayesianPersonalizedRanking(
        factors=3,
        learning_rate=0.05,
        regularization=0.02,
        iterations=20,
        num_threads=1,
        random_state=inputs.seed("bpr"),
    )
    found = table(bpr(inputs)(BPR_SETTINGS), inputs).numpy()
    np.testing.assert_allclose(found[:, :8], library_scores(model, inputs)[:, :8], rtol=1e-4, atol=1e-5)
    assert found[:, :8].std() > 0.01


@pytest.mark.parametrize(("start", "settings"), [(als, ALS_SETTINGS), (bpr, BPR_SETTINGS)])
def test_cold_items_tie_at_zero(random_inputs: Any, table: Any, start: Any, settings: Any) -> None:
    inputs = random_inputs()
    assert (table(start(inputs)(settings), inputs)[:, 8:] == 0).all()


@pytest.mark.parametrize(("start", "settings"), [(als, ALS_SETTINGS), (bpr, BPR_SETTINGS)])
def test_the_runs_seed_decides_the_result(random_inputs: Any, table: Any, start: Any, settings: Any) -> None:
    first, again, other = (
        table(start(inputs)(settings), inputs)
        for inputs in (random_inputs(seed=1), random_inputs(seed=1), random_inputs(seed=2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_als_keeps_the_library_from_warning_of_a_blas_with_threads(
    random_inputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from implicit import utils
    from threadpoolctl import threadpool_limits

    monkeypatch.setattr(utils, "_checked_blas_config", False)  # it warns once a process
    with threadpool_limits(2, "blas"):
        als(random_inputs())(ALS_SETTINGS)
    assert utils._checked_blas_config


def test_a_factorisation_that_blows_up_is_a_failed_trial(random_inputs: Any) -> None:
    with pytest.raises(Diverged):
        bpr(random_inputs())(BprConfig(factors=3, learning_rate=1e20, iterations=30))
