from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from painvrl.stats import bootstrap
from painvrl.stats.bootstrap import PartValues, resampled_means
from painvrl.stats.intervals import percentiles


def part(values: NDArray[np.float64], users: NDArray[np.int64] | None = None) -> PartValues:
    return PartValues(users=np.arange(len(values)) if users is None else users, values=values)


def interval(seeds: list[list[PartValues]], draws: int = 500, seed: int = 0) -> tuple[float, float]:
    """Of the difference of the first two recommenders in the first part."""
    means = resampled_means(seeds, draws, np.random.default_rng(seed))[0].mean(axis=1)
    low, high = percentiles(means[:, 0] - means[:, 1])
    return float(low), float(high)


def test_equal_recommenders_differ_by_exactly_nothing() -> None:
    rng = np.random.default_rng(1)
    seeds = [[part(np.repeat(rng.random((30, 1)), 2, axis=1))] for _ in range(3)]
    assert interval(seeds) == (0.0, 0.0)


def test_a_constant_difference_is_certain() -> None:
    # Paired: what varies between users and seeds is shared, and cancels.
    rng = np.random.default_rng(2)
    seeds = []
    for shift in (0.0, 5.0, -3.0):
        base = rng.random((40, 1)) + shift
        seeds.append([part(np.concatenate([base + 0.25, base], axis=1))])
    assert interval(seeds) == pytest.approx((0.25, 0.25), abs=1e-12)


def test_with_one_seed_the_draws_vary_as_a_mean_over_users_does() -> None:
    # Closed form: the variance of a bootstrap mean of U values is their (population) variance / U.
    values = np.random.default_rng(3).random((50, 1))
    (means,) = resampled_means([[part(values)]], 20_000, np.random.default_rng(0))
    assert means.shape == (20_000, 1, 1)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(50 * 20_000))
    assert means.var() == pytest.approx(values.var() / 50, rel=0.05)


def test_with_one_user_a_seed_the_draws_are_those_of_the_seeds() -> None:
    # The mean of S draws from the S seeds' values has variance (population variance) / S.
    seeds = [[part(np.array([[value]]))] for value in (0.1, 0.5, 0.2, 0.9)]
    (means,) = resampled_means(seeds, 20_000, np.random.default_rng(0))
    assert set(np.unique(means)) == {0.1, 0.2, 0.5, 0.9}
    assert means.mean(axis=1).var() == pytest.approx(np.var([0.1, 0.5, 0.2, 0.9]) / 4, rel=0.05)


def test_seeds_and_users_add_up() -> None:
    # Given the users, seeds are drawn from y_s = mean over the drawn users of x_su: Var = E[Var_s(y_s)] / S
    # + Var(mean_s y_s), and the latter is the variance over users of what they have on average, over U.
    rng = np.random.default_rng(4)
    shared = rng.random((20, 1))
    seeds = [[part(shared + 0.5 * rng.random((20, 1)) + shift)] for shift in (0.0, 0.3, 0.1)]
    (means,) = resampled_means(seeds, 20_000, np.random.default_rng(0))
    x = np.stack([each[0].values[:, 0] for each in seeds])
    own = x - x.mean(axis=0)
    between = np.mean(own.mean(axis=1) ** 2 + own.var(axis=1) / 20)
    expected = between / 3 + x.mean(axis=0).var() / 20
    assert means.mean(axis=1).var() == pytest.approx(expected, rel=0.05)


def test_a_user_counts_as_often_under_every_seed_of_a_draw() -> None:
    # The same values under every seed: whichever seeds are drawn, they have the same mean. By number, and
    # not by place: the second seed lacks a user, who would add nothing.
    values = np.random.default_rng(11).random((30, 1))
    (means,) = resampled_means([[part(values)] for _ in range(4)], 300, np.random.default_rng(0))
    np.testing.assert_allclose(means, np.broadcast_to(means[:, :1], means.shape), atol=1e-12)
    assert means[:, 0].std() > 0.02
    only = np.zeros((2, 1))
    only[1] = 1.0
    seeds = [[part(only, np.array([4, 7]))], [part(np.ones((1, 1)), np.array([7]))]]
    (means,) = resampled_means(seeds, 300, np.random.default_rng(1))
    assert set(np.unique(means)) == {0.0, 0.5, 1.0}


def slow_means(
    seeds: list[list[PartValues]], draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], ...]:
    """The same draws, a user at a time; it asks ``rng`` in the same order."""
    chosen = rng.integers(len(seeds), size=(draws, len(seeds)))
    width = seeds[0][0].values.shape[1]
    means = [np.zeros((draws, len(seeds), width)) for _ in seeds[0]]
    everybody = sorted({int(user) for parts in seeds for each in parts for user in each.users})
    drawn = rng.integers(len(everybody), size=(draws, len(everybody)))
    for d, places in enumerate(drawn):
        for s, seed in enumerate(chosen[d]):
            for mean, each in zip(means, seeds[seed], strict=True):
                rows = dict(zip(each.users.tolist(), each.values, strict=True))
                taken = [rows[everybody[place]] for place in places if everybody[place] in rows]
                mean[d, s] = np.mean(taken or each.values, axis=0)
    return tuple(means)


def test_draws_equal_those_of_the_slow_loop_over_users() -> None:
    rng = np.random.default_rng(5)
    seeds = [
        [
            part(rng.random((7, 2)), np.array([1, 2, 4, 5, 8, 9, 11])),
            part(rng.random((3, 2)), np.array([2, 3, 9])),
        ],
        [part(rng.random((4, 2)), np.array([0, 1, 2, 3])), part(rng.random((2, 2)), np.array([3, 7]))],
    ]
    fast = resampled_means(seeds, 60, np.random.default_rng(6))
    slow = slow_means(seeds, 60, np.random.default_rng(6))
    for found, expected in zip(fast, slow, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_user_of_two_parts_is_drawn_into_both() -> None:
    values = np.random.default_rng(7).random((25, 1))
    first, second = resampled_means([[part(values), part(-values)]], 200, np.random.default_rng(0))
    np.testing.assert_allclose(first, -second)
    other = part(-values, np.arange(100, 125))  # the same values, other users
    first, second = resampled_means([[part(values), other]], 200, np.random.default_rng(0))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3


def test_a_block_holds_as_many_draws_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = [[part(np.random.default_rng(8).random((6, 1)))]]
    (whole,) = resampled_means(seeds, 30, np.random.default_rng(0))
    monkeypatch.setattr(bootstrap, "_CELLS", 1)
    (blocks,) = resampled_means(seeds, 30, np.random.default_rng(0))
    np.testing.assert_allclose(whole, blocks, rtol=1e-12)


@pytest.mark.parametrize(("shared", "own", "most"), [(1.0, 0.3, 0.99), (0.0, 1.0, 1.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(shared: float, own: float, most: float) -> None:
    # Differences with a true mean of 0.3; seeds and users are random. What a user adds is the same under
    # every seed, or it is new under each, which intervals of crossed draws are wide enough for. 12 seeds:
    # nominally 95%, and a percentile interval over 12 units falls a little short.
    rng = np.random.default_rng(10)
    held = 0
    for trial in range(200):
        users = shared * rng.normal(size=(25, 1))
        seeds = []
        for _ in range(12):
            base = rng.normal(size=(25, 1))
            difference = 0.3 + 0.2 * rng.normal() + users + own * rng.normal(size=(25, 1))
            seeds.append([part(np.concatenate([base + difference, base], axis=1))])
        low, high = interval(seeds, draws=300, seed=trial)
        held += low <= 0.3 <= high
    assert 0.88 <= held / 200 <= most
