from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from painvrl.stats import seed_effects
from painvrl.stats.seed_effects import draw_means, estimate, fit

NAN = float("nan")


def planted(seed: int, candidates: int = 5, seeds: int = 4, objectives: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    effects = rng.standard_normal((1, seeds, objectives))
    truth = rng.standard_normal((candidates, 1, objectives))
    return truth + effects + 0.1 * rng.standard_normal((candidates, seeds, objectives))


def test_the_fit_of_two_by_two_runs_is_the_hand_computed_one() -> None:
    # Means 2 and 5, seeds -2 and +2; what is left is +1, -1, -1, +1, with one degree of freedom.
    fitted = fit(np.array([[[1.0], [3.0]], [[2.0], [8.0]]]))
    np.testing.assert_allclose(fitted.means, [[2], [5]])
    np.testing.assert_allclose(fitted.seeds, [[-2], [2]])
    assert fitted.freedom == 1
    np.testing.assert_allclose(fitted.residual, [[4]])
    np.testing.assert_allclose(fitted.spread, [np.sqrt(8)])
    np.testing.assert_allclose(fitted.mean_factor, [[0.5, 0], [0, 0.5]], atol=1e-12)
    assert fitted.seed_factor == pytest.approx(0.5)  # a seed's effect is measured by two runs


def test_a_candidate_that_missed_a_seed_is_judged_as_if_it_had_run() -> None:
    # Seed 2 is four better than seed 1, as the first candidate shows; so the second would have had 2, 6.
    fitted = fit(np.array([[[1.0], [5.0]], [[2.0], [NAN]]]))
    np.testing.assert_allclose(fitted.means, [[3], [4]])
    np.testing.assert_allclose(fitted.seeds, [[-2], [2]])
    assert fitted.freedom == 0


def test_the_covariance_holds_what_objectives_share() -> None:
    one = planted(0, objectives=1)
    fitted = fit(np.concatenate([one, -2 * one], axis=2))
    variance = fitted.residual[0, 0]
    np.testing.assert_allclose(fitted.residual, variance * np.array([[1, -2], [-2, 4]]))


def test_a_run_of_one_candidate_alone_says_nothing_of_a_difference() -> None:
    values = planted(1, candidates=2, seeds=3)
    values[1, 2] = NAN
    for shown in (values, values[:, :2]):
        factor = fit(shown).mean_factor
        assert factor[0, 0] + factor[1, 1] - 2 * factor[0, 1] == pytest.approx(1.0)  # 1/2 + 1/2
    difference = [np.diff(fit(shown).means, axis=0) for shown in (values, values[:, :2])]
    np.testing.assert_allclose(difference[0], difference[1])


def test_how_hard_a_seed_is_changes_no_difference() -> None:
    values = planted(2)
    values[3:, 2:] = NAN
    harder = values + np.array([0.0, -3.0, 5.0, 1.0])[None, :, None]
    drawn = [draw_means(fit(each), 50, np.random.default_rng(0)) for each in (values, harder)]
    differences = [each - each[:, :1] for each in drawn]
    np.testing.assert_allclose(differences[0], differences[1], atol=1e-8)


def test_a_drawn_difference_is_students_t() -> None:
    values = planted(3, candidates=3, seeds=2)
    fitted = fit(values)
    drawn = draw_means(fitted, 100_000, np.random.default_rng(0))
    difference = drawn[:, 0, 1] - drawn[:, 2, 1]
    assert fitted.freedom == 2
    scale = np.sqrt(2 * fitted.residual[1, 1] / 2)  # two candidates, each the mean of two seeds
    expected = stats.t(2, loc=fitted.means[0, 1] - fitted.means[2, 1], scale=scale)
    for share in (0.025, 0.2, 0.5, 0.8, 0.975):
        assert (difference <= expected.ppf(share)).mean() == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(("seeds", "expected"), [(2, 1 - 2 / (2 + 2)), (30, 1 - 2 / (2 + 58))])
def test_correlations_are_shrunk_where_data_are_few(seeds: int, expected: float) -> None:
    one = planted(4, candidates=3, seeds=seeds, objectives=1)
    fitted = fit(np.concatenate([one, one], axis=2))  # correlation 1
    drawn = draw_means(fitted, 40_000, np.random.default_rng(0))
    ranks = stats.spearmanr(drawn[:, 0, 0] - drawn[:, 1, 0], drawn[:, 0, 1] - drawn[:, 1, 1]).statistic
    assert ranks == pytest.approx(6 / np.pi * np.arcsin(expected / 2), abs=0.03)


def test_the_draws_do_not_depend_on_units() -> None:
    values = planted(5)
    units = np.array([1.0, 1000.0, 1e-3])
    plain, scaled = (draw_means(fit(each), 20, np.random.default_rng(0)) for each in (values, values * units))
    np.testing.assert_allclose(scaled, plain * units, rtol=1e-6, atol=1e-8)


def test_without_noise_the_draws_are_the_means_and_ties_stay_ties() -> None:
    truth = np.array([[0.1, 0.3], [0.1, 0.3], [0.2, 0.7]])[:, None]
    values = truth + np.array([0.11, -0.07, 0.013])[None, :, None]
    drawn = draw_means(fit(values), 30, np.random.default_rng(0))
    assert (drawn == drawn[0]).all()
    assert (drawn[:, 0] == drawn[:, 1]).all()
    np.testing.assert_allclose(drawn[0, 2] - drawn[0, 0], [0.1, 0.4], atol=1e-9)


def test_the_interval_of_a_single_candidate_is_the_textbooks() -> None:
    values = np.array([0.3, 0.35, 0.28, 0.33])
    found = estimate(fit(values[None, :, None]), np.ones(1), 0)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), abs=1e-6)


def test_the_interval_of_a_mean_over_all_candidates_is_that_of_the_seeds_means() -> None:
    values = planted(6)
    found = estimate(fit(values), np.full(5, 1 / 5), 2)
    of_seeds = values[:, :, 2].mean(axis=0)
    low, high = stats.t.interval(0.95, 3, loc=of_seeds.mean(), scale=stats.sem(of_seeds))
    assert (found.mean, found.low, found.high) == pytest.approx((of_seeds.mean(), low, high), abs=1e-6)


def test_without_any_spread_the_interval_is_a_point() -> None:
    found = estimate(fit(np.full((2, 3, 1), 0.5)), np.array([1.0, 0.0]), 0)
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(0.5)


@pytest.mark.parametrize("seed_noise", [0.0, 1.0, 10.0])
def test_intervals_of_unbalanced_candidates_hold_the_truth_as_often_as_they_say(seed_noise: float) -> None:
    rng = np.random.default_rng(7)
    truth = np.array([0.0, 1.0, 2.0, 3.0])
    held = []
    for _ in range(300):
        values = truth[:, None] + seed_noise * rng.standard_normal(5) + rng.standard_normal((4, 5))
        values[0, 3:] = values[1, 2:] = NAN
        fitted = fit(values[:, :, None])
        for place in range(4):
            found = estimate(fitted, np.eye(4)[place], 0)
            held.append(found.low <= truth[place] <= found.high)
    assert 0.93 <= np.mean(held) <= 0.985


def test_runs_that_tell_no_difference_are_refused() -> None:
    with pytest.raises(ValueError, match="one seed needs them all"):
        fit(np.array([[[1.0], [NAN]], [[NAN], [1.0]]]))
    with pytest.raises(ValueError, match="two seeds"):
        draw_means(fit(np.ones((2, 1, 1))), 3, np.random.default_rng(0))
    alone = draw_means(fit(np.full((1, 2, 1), 0.4)), 3, np.random.default_rng(0))
    np.testing.assert_allclose(alone, 0.4)


def test_a_difference_beyond_ten_digits_is_rounding() -> None:
    assert seed_effects._ROUNDING == 10
    values = np.array([[[1.0], [1.0]], [[1.0 + 1e-13], [1.0 + 1e-13]], [[1 + 1e-8], [1 + 1e-8]]])
    drawn = draw_means(fit(values), 2, np.random.default_rng(0))
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 2] > drawn[:, 1]).all()
