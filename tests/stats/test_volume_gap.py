"""The interval against planted truth: two studies of which we know by how much the second is worse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import stdtrit

from painvrl.evaluation.user_draws import drawn_volumes
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.dominance import hypervolume
from painvrl.stats.volume_gap import Gap, Pairs
from painvrl.stats.volume_gap import gap as gap_of_points

OBJECTIVES = ("iid/ndcg_at_20", "ood/ndcg_at_20")
TRIALS, USERS, DRAWS = 20, 150, 60
T = {2: 4.302652729749464, 4: 2.7764451051977987}
"""97.5% quantiles of Student's t, by degrees of freedom, as tables have them."""


@dataclass(frozen=True)
class Planted:
    """Trials ``[T]`` of one study: what each user got, and the means."""

    users: list[UserValues]
    means: NDArray[np.float64]


Draws = tuple[NDArray[np.float64], NDArray[np.float64]]


def gap(
    a: NDArray[np.float64], b: NDArray[np.float64], *, pairs: Pairs, draws: Draws | None, level: float
) -> Gap:
    """The gap of trials of one point each, ``[T, M]``."""
    return gap_of_points(a[:, None], b[:, None], pairs=pairs, draws=draws, level=level)


def quality(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A trade-off along the first hyperparameter; three others have a best value; ``[T, 2]``."""
    trade = points[:, 0]
    loss = 1 - 0.5 * ((points[:, 1:] - [0.3, 0.6, 0.5]) ** 2).sum(axis=1)
    return (
        np.stack([0.25 * (1 - 0.6 * trade**2), 0.10 * (0.15 + 0.85 * np.sqrt(trade))], axis=1) * loss[:, None]
    )


def planted(
    rng: np.random.Generator, points: NDArray[np.float64], affinity: NDArray[np.float64], worse: float
) -> Planted:
    """Train every point: with noise of the training, and users who differ in how well they are served."""
    true = quality(points) * (1 - worse) * (1 + 0.01 * rng.standard_normal((len(points), 1)))
    users, means = [], []
    for row in true:
        values = [
            (row[part] * (affinity[part] + 0.6 * rng.standard_normal(affinity.shape[1]))).astype(np.float32)
            for part in range(2)
        ]
        numbers = {"iid": np.arange(affinity.shape[1]), "ood": np.arange(affinity.shape[1])}
        users.append(UserValues(users=numbers, values=dict(zip(OBJECTIVES, values, strict=True))))
        means.append([float(value.mean(dtype=float)) for value in values])
    return Planted(users=list(users), means=np.array(means))


def simulated(
    seed: int, times: int, *, worse: float = 0.0, same_points: bool = False, paired_trials: bool = True
) -> list[Gap]:
    """Pairs of studies over the same users, of which the second is ``worse`` by that share."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(times):
        affinity = rng.lognormal(-0.5, 1, (2, USERS))
        first = rng.random((TRIALS, 4))
        second = first if same_points else rng.random((TRIALS, 4))
        a, b = planted(rng, first, affinity, 0.0), planted(rng, second, affinity, worse)
        pairs = [(row, row) for row in range(TRIALS)] if same_points and paired_trials else []
        draws = drawn_volumes(a.users, b.users, OBJECTIVES, paired=True, draws=DRAWS, rng=rng)
        found.append(gap(a.means, b.means, pairs=pairs, draws=draws, level=0.95))
    return found


def fires(gaps: list[Gap]) -> float:
    return float(np.mean([one.relative.high < 0 for one in gaps]))  # type: ignore[union-attr,operator]


def width(gaps: list[Gap]) -> float:
    return float(np.mean([one.relative.high - one.relative.low for one in gaps]))  # type: ignore[union-attr,operator]


@pytest.fixture(scope="module")
def null() -> list[Gap]:
    return simulated(0, 300)


@pytest.mark.slow
def test_the_gate_fires_no_more_often_than_it_says_where_nothing_changed(null: list[Gap]) -> None:
    assert fires(null) <= 0.025 + 3 * (0.025 * 0.975 / len(null)) ** 0.5
    for name in ("absolute", "relative"):
        covered = [getattr(one, name).low <= 0 <= getattr(one, name).high for one in null]
        assert np.mean(covered) >= 0.95 - 3 * (0.05 * 0.95 / len(null)) ** 0.5


def test_the_interval_is_not_wider_than_twice_what_it_should_be(null: list[Gap]) -> None:
    spread = np.std([np.log1p(one.relative.value) for one in null])  # type: ignore[union-attr]
    assert 3.92 * spread * 0.95 < width(null) < 2 * 3.92 * spread


def test_the_gate_fires_where_the_second_study_is_really_worse() -> None:
    assert fires(simulated(1, 40, worse=0.25)) >= 0.95


@pytest.mark.slow
def test_trials_at_the_same_points_tell_more_and_stay_honest() -> None:
    same = simulated(2, 200, same_points=True)
    assert fires(same) <= 0.025 + 3 * (0.025 * 0.975 / len(same)) ** 0.5
    apart = simulated(2, 200, same_points=True, paired_trials=False)
    assert width(same) < 0.8 * width(apart)
    reported, untold = (
        fires(simulated(3, 60, worse=0.08, same_points=True, paired_trials=known)) for known in (True, False)
    )
    assert reported >= untold + 0.2


def test_drawing_users_alone_would_take_the_luck_of_the_search_for_certain() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(100):
        affinity = rng.lognormal(-0.5, 1, (2, USERS))
        a, b = (planted(rng, rng.random((TRIALS, 4)), affinity, 0.0) for _ in range(2))
        of_a, of_b = drawn_volumes(a.users, b.users, OBJECTIVES, paired=True, draws=DRAWS, rng=rng)
        low, high = np.quantile(np.log(of_b / of_a), [0.025, 0.975])
        missed += not low <= 0 <= high
    assert missed > 15


def test_the_leaving_out_by_hand() -> None:
    # A: 6, without its trials 5, 5, 5. B: 4, without its trials 3, 2. The logarithm of 4 / 6.
    a = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    b = np.array([[1.0, 2.0], [3.0, 1.0]])
    found = gap(a, b, pairs=[], draws=None, level=0.95)
    of_b = 2 * np.var(np.log([3, 2]), ddof=1)
    # A changes nothing, and the two of B weigh the same: two degrees of freedom.
    reach = T[2] * np.sqrt(of_b)
    assert found.absolute.value == -2.0
    assert found.relative is not None
    assert found.relative.value == pytest.approx(-1 / 3)
    assert found.relative.low == pytest.approx(np.exp(np.log(4 / 6) - reach) - 1)
    assert found.relative.high == pytest.approx(np.exp(np.log(4 / 6) + reach) - 1)
    assert found.absolute.low == pytest.approx(-2 - T[2])  # 2 * var(3, 2) = 1
    # With B's first trial and A's second one at the same point, that pair is a unit of its own: 3 against 5.
    paired = gap(a, b, pairs=[(1, 0)], draws=None, level=0.95)
    squares = np.array([np.log(3 / 5) - np.log(4 / 6), np.log(2 / 6) - np.log(4 / 6)]) ** 2
    freedom = squares.sum() ** 2 / (squares**2).sum()
    assert 1 < freedom < 2
    reach = stdtrit(freedom, 0.975) * np.sqrt(squares.sum())
    assert paired.relative is not None
    assert paired.relative.high == pytest.approx(np.exp(np.log(4 / 6) + reach) - 1)


def test_users_widen_the_interval_by_what_they_scatter() -> None:
    a = np.array([[1.0, 1.0], [1.0, 1.0]])
    draws = (np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 2.0]))
    found = gap(a, 2 * a, pairs=[], draws=draws, level=0.95)
    half = T[2] * np.std([np.log(2), np.log(1), np.log(0.5)], ddof=1)  # three draws
    assert found.relative is not None
    assert found.relative.low == pytest.approx(np.exp(np.log(4) - half) - 1)
    assert gap(a, 2 * a, pairs=[], draws=None, level=0.95).relative.low == 3.0  # type: ignore[union-attr]


def test_users_add_their_variance_and_their_freedom_to_that_of_the_trials() -> None:
    a = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    b = np.array([[1.0, 2.0], [3.0, 1.0]])  # B changes by 1 and 2 of 4: variance 1 with 2 degrees of freedom
    drawn = 3 * np.random.default_rng(0).standard_normal(200)
    found = gap(a, b, pairs=[], draws=(6 + 0 * drawn, 4 + drawn), level=0.95)
    users = np.var(drawn, ddof=1)
    freedom = (1 + users) ** 2 / (1 / 2 + users**2 / 199)
    half = stdtrit(freedom, 0.975) * np.sqrt(1 + users)
    assert found.absolute.high == pytest.approx(-2 + half)


def test_a_front_that_one_trial_carries_is_called_different_no_more_often_than_promised() -> None:
    # Of one objective the volume is the best trial, and the variance rests on one change a study.
    rng = np.random.default_rng(0)
    found = [
        gap(*rng.exponential(size=(2, TRIALS, 1)), pairs=[], draws=None, level=0.95).absolute
        for _ in range(1000)
    ]
    apart = np.mean([one.high < 0 or one.low > 0 for one in found])  # type: ignore[operator]
    assert apart <= 0.05  # a normal quantile: 0.13


def test_a_higher_level_reaches_farther() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((9, 2)), rng.random((9, 2))
    narrow, wide = (gap(a, b, pairs=[], draws=None, level=level).absolute for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high  # type: ignore[operator]


def test_one_trial_has_no_interval_and_no_volume_no_share() -> None:
    one = np.array([[1.0, 2.0]])
    alone = gap(one, one, pairs=[(0, 0)], draws=None, level=0.95)
    assert (alone.absolute.low, alone.absolute.high) == (None, None)
    assert alone.relative is not None
    assert (alone.relative.value, alone.relative.high) == (0.0, None)
    two = np.array([[1.0, 2.0], [2.0, 1.0]])
    assert gap(0 * two, two, pairs=[], draws=None, level=0.95).relative is None


def test_where_there_is_no_logarithm_the_share_has_the_interval_of_the_difference() -> None:
    a = np.array([[1.0, 2.0], [2.0, 1.0], [1.5, 1.5]])
    lost = gap(a, 0 * a, pairs=[], draws=None, level=0.95)
    assert lost.relative is not None
    assert lost.relative.value == -1.0
    volume = hypervolume(a)
    assert lost.relative.high == pytest.approx(lost.absolute.high / volume)  # type: ignore[operator]
    assert lost.relative.high < 0
    # Of two trials one carries all: the interval is finite, and wide enough for anything.
    carried = np.array([[1.0, 2.0], [0.0, 0.0]])
    wide = gap(carried, carried, pairs=[], draws=None, level=0.95).relative
    assert wide is not None
    # Two studies of two changes each, all of one size.
    assert wide.high == pytest.approx(T[4] * np.sqrt(4 + 4) / 2)


def test_a_training_is_left_out_with_all_its_points() -> None:
    # A: 6, without its first training 2, its second 5. B: 4, without its trainings 3, 2.
    a = np.array([[[1.0, 3.0], [3.0, 1.0]], [[2.0, 2.0], [0.0, 0.0]]])
    b = np.array([[[1.0, 2.0]], [[3.0, 1.0]]])
    found = gap_of_points(a, b, pairs=[], draws=None, level=0.95)
    of_a, of_b = 2 * np.var(np.array([4, 5]), ddof=1), 2 * np.var([3, 2], ddof=1)
    assert found.absolute.value == -2.0
    freedom = (of_a + of_b) ** 2 / (of_a**2 / 2 + of_b**2 / 2)
    half = stdtrit(freedom, 0.975) * np.sqrt(of_a + of_b)
    assert found.absolute.high == pytest.approx(-2 + half)
    # At the same point are the trainings, each with all that it was scored at.
    paired = gap_of_points(a, b, pairs=[(1, 0)], draws=None, level=0.95).absolute
    squares = np.array([(3 - 5) + 2, (4 - 4) + 2, (2 - 6) + 2]) ** 2
    assert paired.value == -2.0
    assert squares.tolist() == [0, 4, 4]
    assert paired.high == pytest.approx(-2 + stdtrit(2, 0.975) * np.sqrt(8))


def test_a_training_of_many_points_is_one_chance_and_not_many() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 8, 5, 3))
    together = gap_of_points(a, b, pairs=[], draws=None, level=0.95)
    apart = gap(a.reshape(40, 3), b.reshape(40, 3), pairs=[], draws=None, level=0.95)
    assert together.absolute.value == pytest.approx(apart.absolute.value)
    left_out = [
        [hypervolume(np.delete(side, training, axis=0).reshape(-1, 3)) for training in range(8)]
        for side in (a, b)
    ]
    parts = np.array([8 / 7 * (np.array(one) - np.mean(one)) ** 2 for one in left_out]).ravel()
    half = stdtrit(parts.sum() ** 2 / (parts**2).sum(), 0.975) * np.sqrt(parts.sum())
    assert together.absolute.high == pytest.approx(together.absolute.value + half)
    assert together.absolute.high != pytest.approx(apart.absolute.high)


def test_zeros_and_the_order_of_points_change_nothing() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 4, 3, 2))
    wider = np.concatenate([np.zeros((4, 2, 2)), a[:, ::-1]], axis=1)
    assert gap_of_points(wider, b, pairs=[(0, 0)], draws=None, level=0.95) == gap_of_points(
        a, b, pairs=[(0, 0)], draws=None, level=0.95
    )
