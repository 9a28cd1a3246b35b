from __future__ import annotations

import numpy as np
import pytest

from painvrl.stats.regression import effects_of, exchange


def test_effects_are_those_of_least_squares_and_draws_scatter_about_them() -> None:
    rng = np.random.default_rng(0)
    matrix = np.column_stack([np.ones(400), rng.normal(size=(400, 2))])
    responses = matrix @ np.array([[1.0, 0.0], [0.5, -0.25], [0.0, 2.0]]) + 0.1 * rng.normal(size=(400, 2))
    along = np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    found = effects_of(matrix, responses, along, resamples=400, rng=rng)
    coefficients, left, _, _ = np.linalg.lstsq(matrix, responses, rcond=None)
    assert found.reported.all()
    assert found.reported_in.all()
    np.testing.assert_allclose(found.values, along @ coefficients)
    np.testing.assert_allclose(found.explained, 1 - left / (400 * responses.var(axis=0)))
    spread = found.drawn.std(axis=0)
    np.testing.assert_allclose(found.drawn.mean(axis=0), found.values, atol=0.2 * spread.max())
    errors = 0.1 * np.sqrt(np.diag(along @ np.linalg.inv(matrix.T @ matrix) @ along.T))
    np.testing.assert_allclose(spread, np.repeat(errors[:, None], 2, axis=1), rtol=0.2)


def test_columns_that_move_together_tell_neither_and_leave_the_third_alone() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 30))
    matrix = np.column_stack([np.ones(30), one, 2 * one, other])
    found = effects_of(matrix, other[:, None], np.eye(4)[1:], resamples=20, rng=rng)
    assert found.reported.tolist() == [False, False, True]
    assert not found.reported_in[:, :2].any()
    assert found.values[2] == pytest.approx(1.0)


def test_a_response_that_never_varies_is_not_explained() -> None:
    rng = np.random.default_rng(0)
    matrix = np.column_stack([np.ones(9), rng.normal(size=9)])
    found = effects_of(matrix, np.full((9, 1), 0.25), np.array([[0.0, 1.0]]), resamples=5, rng=rng)
    assert found.explained.tolist() == [0.0]


def test_the_ratio_goes_by_angles_so_that_a_sign_does_not_throw_it_to_the_other_end() -> None:
    # 98% of the resamples say 2, the rest that OOD falls a little while IID falls: dearer than any price.
    sure = np.tile([-2.0, 1.0], (980, 1))
    wrong = np.tile([-2.0, -0.001], (20, 1))
    found = exchange(np.array([-2.0, 1.0]), np.concatenate([sure, wrong]))
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))
    beyond = exchange(np.array([-2.0, 1.0]), np.concatenate([sure, np.repeat(wrong, 2, axis=0)]))
    assert beyond.low == pytest.approx(2.0)
    assert beyond.high is None
    # Turned the other way round, the price is the same.
    other = exchange(np.array([2.0, -1.0]), -np.concatenate([sure, wrong]))
    assert (other.value, other.low, other.high) == pytest.approx((2.0, 2.0, 2.0))
