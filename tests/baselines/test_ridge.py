from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from painvrl.baselines.ridge import RidgeConfig, ridge


@pytest.mark.parametrize("weight", [0.01, 3.0])
@pytest.mark.parametrize("width", [3, 30])  # fewer features than the 8 warm items, and more
def test_it_is_the_solution_of_each_users_normal_equations(
    random_inputs: Any, table: Any, width: int, weight: float
) -> None:
    inputs = random_inputs(width)
    features = inputs.prepared.features.double().numpy()
    taken = inputs.matrix.toarray()
    warm = features[:8]
    found = table(ridge(inputs)(RidgeConfig(ridge=weight)), inputs).numpy()
    for user in range(12):
        preference = np.linalg.solve(warm.T @ warm + weight * np.eye(width), warm.T @ taken[user, :8])
        np.testing.assert_allclose(found[user], features @ preference, rtol=1e-4, atol=1e-5)


def test_it_is_the_dual_solution_too(random_inputs: Any, table: Any) -> None:
    inputs = random_inputs(30)
    features = inputs.prepared.features.double().numpy()
    warm, taken = features[:8], inputs.matrix.toarray()[:, :8]
    found = table(ridge(inputs)(RidgeConfig(ridge=2.0)), inputs).numpy()
    expected = taken @ np.linalg.solve(warm @ warm.T + 2 * np.eye(8), warm @ features.T)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_cold_items_are_scored_by_their_features(random_inputs: Any, table: Any) -> None:
    inputs = random_inputs()
    assert (table(ridge(inputs)(RidgeConfig()), inputs)[:, 8:].std(dim=0) > 0).all()
