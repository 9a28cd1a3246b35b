from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.stats.intervals import Bounded, Interval, percentiles, t_quantile


def between_two(draws: list[float], share: float) -> float:
    """The point of the sorted draws at ``share`` of their way, a straight line between neighbours."""
    ordered = sorted(draws)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.9, 0.95]),
)
def test_the_ends_are_those_of_sorting_the_draws(draws: list[float], level: float) -> None:
    low, high = percentiles(np.array(draws), level)
    assert float(low) == pytest.approx(between_two(draws, (1 - level) / 2), abs=1e-12)
    assert float(high) == pytest.approx(between_two(draws, (1 + level) / 2), abs=1e-12)


def test_unless_reported_otherwise_the_middle_95_percent_lie_between_the_ends() -> None:
    draws = np.random.default_rng(9).permutation(np.arange(1001) / 1000)
    low, high = percentiles(draws)
    assert (float(low), float(high)) == pytest.approx((0.025, 0.975))


def test_every_column_has_its_own_ends() -> None:
    draws = np.random.default_rng(0).random((40, 3, 2))
    low, high = percentiles(draws, 0.8)
    assert low.shape == high.shape == (3, 2)
    for row in range(3):
        for column in range(2):
            alone = percentiles(draws[:, row, column], 0.8)
            assert (low[row, column], high[row, column]) == alone


def t_share(quantile: float, freedom: float, steps: int = 20_000) -> float:
    """The mass below a quantile that is not negative: Simpson's rule over the textbook's density."""
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    width = quantile / steps
    total = 0.0
    for step in range(steps + 1):
        density = math.exp(log_scale - (freedom + 1) / 2 * math.log1p((step * width) ** 2 / freedom))
        total += density * (1 if step in (0, steps) else 4 if step % 2 else 2)
    return 0.5 + total * width / 3


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 4.7, 11, 1000.3])
@pytest.mark.parametrize("share", [0.6, 0.9, 0.975])
def test_below_a_quantile_of_student_lies_its_share(share: float, freedom: float) -> None:
    assert t_share(t_quantile(share, freedom), freedom) == pytest.approx(share, abs=1e-9)


def test_quantiles_of_student_are_those_of_the_tables() -> None:
    assert t_quantile(0.975, 1) == pytest.approx(12.7062, abs=1e-4)
    assert t_quantile(0.975, 10) == pytest.approx(2.2281, abs=1e-4)
    assert t_quantile(0.975, 1e9) == pytest.approx(1.95996, abs=1e-4)
    assert t_quantile(0.025, 10) == pytest.approx(-2.2281, abs=1e-4)


def test_an_interval_is_shown_in_one_style() -> None:
    assert f"{Interval(mean=0.1, low=-0.02, high=0.25):+.4f}" == "+0.1000 [-0.0200, +0.2500]"
    assert f"{Bounded(value=0.1, low=-0.02, high=0.25):+.1%}" == "+10.0% [-2.0%, +25.0%]"


@pytest.mark.parametrize("ends", [{}, {"low": -0.02}, {"high": 0.25}])
def test_without_both_ends_the_value_is_shown_alone(ends: dict[str, float]) -> None:
    assert f"{Bounded(value=0.1, **ends):.2f}" == "0.10"
