from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from painvrl.evaluation.user_draws import drawn_volumes, halved, same_users
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.dominance import hypervolume

IID, OOD = OBJECTIVES = ("iid/ndcg_at_20", "ood/ndcg_at_20")


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


def test_every_user_is_in_one_half_whatever_the_parts() -> None:
    users = {"iid": np.arange(0, 90), "ood": np.arange(40, 100)}
    only = {
        name: (users[name.partition("/")[0]] == 50).astype(np.float32) for name in OBJECTIVES
    }  # one user, of both parts
    found = halved([UserValues(users=users, values=only)], OBJECTIVES, 40)
    assert not isinstance(found, str)
    one, other = found
    assert ((one != 0) == (other == 0)).all()  # in exactly one half
    assert ((one[:, :, 0] != 0) == (one[:, :, 1] != 0)).all()  # and in the same one of both parts
    assert 0 < (one != 0).mean() < 1


def test_the_halves_make_up_the_whole() -> None:
    users = {"iid": np.arange(40)}
    values = {IID: np.random.default_rng(1).random(40).astype(np.float32)}
    found = halved([UserValues(users=users, values=values)], (IID,), 30)
    assert not isinstance(found, str)
    np.testing.assert_allclose((found[0] + found[1]) / 2, values[IID].mean(), rtol=1e-5)


def test_a_mean_over_parts_is_halved_as_the_mean_of_its_parts() -> None:
    users = {"pop": np.arange(30), "era": np.arange(30)}
    rng = np.random.default_rng(2)
    values = {f"{part}/ndcg_at_20": rng.random(30).astype(np.float32) for part in users}
    whole = UserValues(users=users, values=values, means={"ood": ("pop", "era")})
    found, parts = halved([whole], (OOD,), 5), halved([whole], tuple(values), 5)
    assert not isinstance(found, str)
    assert not isinstance(parts, str)
    np.testing.assert_allclose(found[0][:, :, 0], parts[0].mean(axis=2))


def test_a_part_of_few_users_is_not_halved() -> None:
    few = UserValues(users={"iid": np.arange(12)}, values={IID: np.zeros(12, dtype=np.float32)})
    assert "the part iid has fewer than 20 users" in str(halved([few], (IID,), 3))


def test_points_of_different_users_are_not_compared() -> None:
    one, other = (
        UserValues(users={"iid": np.arange(start, start + 30)}, values={IID: np.ones(30, dtype=np.float32)})
        for start in (0, 5)
    )
    assert halved([one, other], (IID,), 3) == "not all of them were judged by the same users"
