from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from painvrl.evaluation.user_draws import drawn_volumes, same_users
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.dominance import hypervolume

OBJECTIVES = ("iid/ndcg_at_20", "ood/ndcg_at_20")


def points(rng: np.random.Generator, users: int) -> list[UserValues]:
    """What the users, the same in both parts, got of five points."""
    numbers = {"iid": np.arange(users), "ood": np.arange(users)}
    return [
        UserValues(users=numbers, values={name: rng.random(users).astype(np.float32) for name in OBJECTIVES})
        for _ in range(5)
    ]


def means(of: list[UserValues]) -> NDArray[np.float64]:
    return np.array([[point.values[name].mean(dtype=float) for name in OBJECTIVES] for point in of])


def test_a_draw_with_everybody_once_has_the_volumes_of_the_studies() -> None:
    rng = np.random.default_rng(0)
    a, b = (points(rng, 1) for _ in range(2))  # one user, who is drawn every time
    for paired in (True, False):
        of_a, of_b = drawn_volumes(a, b, OBJECTIVES, paired=paired, draws=3, rng=rng)
        assert of_a.tolist() == pytest.approx([hypervolume(means(a))] * 3, rel=1e-6)
        assert of_b.tolist() == pytest.approx([hypervolume(means(b))] * 3, rel=1e-6)


def test_paired_draws_give_equal_studies_equal_volumes_and_independent_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    a = points(rng, 30)
    of_a, of_b = drawn_volumes(a, a, OBJECTIVES, paired=True, draws=20, rng=rng)
    np.testing.assert_array_equal(of_a, of_b)
    assert of_a.std() > 0
    of_a, of_b = drawn_volumes(a, a, OBJECTIVES, paired=False, draws=20, rng=rng)
    assert (of_a != of_b).all()


def test_a_study_without_points_has_no_volume_under_any_draw() -> None:
    rng = np.random.default_rng(0)
    a = points(rng, 30)
    for paired in (True, False):
        of_a, of_b = drawn_volumes(a, [], OBJECTIVES, paired=paired, draws=9, rng=rng)
        assert (of_a > 0).all()
        assert of_b.tolist() == [0.0] * 9


def test_an_objective_that_is_a_mean_over_parts_is_the_mean_of_their_means() -> None:
    values = {
        "iid/ndcg_at_20": np.array([0.5], dtype=np.float32),
        "ood_a/ndcg_at_20": np.array([0.25, 0.25], dtype=np.float32),
        "ood_b/ndcg_at_20": np.array([0.75], dtype=np.float32),
    }
    users = {"iid": np.array([0]), "ood_a": np.array([0, 1]), "ood_b": np.array([0])}
    trial = UserValues(users=users, values=values, means={"ood": ("ood_a", "ood_b")})
    of_a, _ = drawn_volumes([trial], [trial], OBJECTIVES, paired=True, draws=5, rng=np.random.default_rng(0))
    assert of_a.tolist() == [0.25] * 5


def test_users_are_the_same_only_if_all_parts_have_the_same_ones() -> None:
    values = {"iid/ndcg_at_20": np.zeros(2, dtype=np.float32)}
    one = UserValues(users={"iid": np.array([0, 1])}, values=values)
    assert same_users([one, replace(one)])
    assert same_users([])
    assert not same_users([one, replace(one, users={"iid": np.array([0, 2])})])
    assert not same_users([one, replace(one, users={"ood": np.array([0, 1])})])
    assert not same_users([one, replace(one, means={"ood": ("iid",)})])
