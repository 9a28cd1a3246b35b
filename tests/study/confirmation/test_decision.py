from __future__ import annotations

import numpy as np
import pytest

from painvrl.stats.dominance import non_dominated
from painvrl.study.confirmation.decision import Decision, judge, next_step, plausible

IN, OUT, UNDECIDED = Decision.IN, Decision.OUT, Decision.UNDECIDED


def tossed(wins: int, draws: int = 20) -> np.ndarray:
    """Two candidates on a line, of which the first wins as many draws as reported."""
    first = np.where(np.arange(draws) < wins, 1.0, -1.0)
    return np.stack([first, np.zeros(draws)], axis=1)[:, :, None]


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("objectives", [1, 2, 4])
def test_the_probability_is_the_share_of_draws_on_whose_front_one_is(levels: int, objectives: int) -> None:
    draws = np.random.default_rng(0).integers(levels, size=(60, 7, objectives)).astype(float)
    expected = np.mean([non_dominated(each) for each in draws], axis=0)
    np.testing.assert_allclose(judge(draws, 0.9).probability, expected)


@pytest.mark.parametrize(
    ("wins", "decisions"),
    [
        (20, (IN, OUT)),
        (18, (IN, OUT)),  # 0.9 itself is sure
        (17, (UNDECIDED, UNDECIDED)),
        (3, (UNDECIDED, UNDECIDED)),
        (2, (OUT, IN)),
    ],
)
def test_a_candidate_is_decided_from_the_stated_probability_on(
    wins: int, decisions: tuple[Decision, ...]
) -> None:
    verdict = judge(tossed(wins), 0.9)
    assert verdict.probability.tolist() == pytest.approx([wins / 20, 1 - wins / 20])
    assert verdict.decisions == decisions
    assert verdict.needed.tolist() == [UNDECIDED in decisions] * 2


def test_equal_candidates_share_the_front() -> None:
    verdict = judge(np.ones((5, 3, 2)), 0.9)
    assert verdict.decisions == (IN, IN, IN)


def test_an_undecided_candidate_runs_with_the_rivals_that_would_decide_it() -> None:
    rng = np.random.default_rng(2)
    draws = np.zeros((1000, 4, 2))
    draws[:, 0] = [1.0, 0.0]  # an end of the front that no one disputes
    draws[:, 1] = [0.5, 0.5]
    draws[:, 2] = np.array([0.5, 0.5]) + 0.01 * rng.standard_normal((1000, 1))  # above or below the second
    draws[:, 3] = [-1.0, -1.0]
    verdict = judge(draws, 0.9)
    assert verdict.decisions == (IN, UNDECIDED, UNDECIDED, OUT)
    assert verdict.needed.tolist() == [False, True, True, False]


def test_a_rival_is_needed_even_when_it_is_decided_itself() -> None:
    # The first is sure to be on the front by its other objective; in half of the draws it is above.
    draws = np.zeros((100, 2, 2))
    draws[:, 0] = [1.0, 5.0]
    draws[:, 1, 0] = np.where(np.arange(100) % 2, 0.9, 1.1)
    verdict = judge(draws, 0.9)
    assert verdict.decisions == (IN, UNDECIDED)
    assert verdict.needed.tolist() == [True, True]


def test_of_dominators_in_a_row_the_one_on_the_front_is_the_rival() -> None:
    # In half of the draws the first falls below the second, which the third always dominates.
    draws = np.zeros((100, 3, 1))
    draws[:, 0, 0] = np.where(np.arange(100) % 2, 0.0, 3.0)
    draws[:, 1, 0], draws[:, 2, 0] = 1.0, 2.0
    assert judge(draws, 0.9).needed.tolist() == [True, False, True]


def test_rivals_are_chosen_until_little_is_unexplained() -> None:
    # The last is dominated by the first in 40 draws, by the second in 20 others, by the third in 4 more.
    draws = np.zeros((100, 4, 2))
    draws[:, 3] = 1.0
    for rival, rows in ((0, slice(0, 40)), (1, slice(40, 60)), (2, slice(60, 64))):
        draws[:, rival] = [9.0 + rival, -9.0 - rival]
        draws[rows, rival] = [2.0, 2.0]
    assert judge(draws, 0.9).needed.tolist() == [True, True, False, True]
    assert judge(draws, 0.95).needed.tolist() == [True, True, True, True]


@pytest.mark.parametrize(
    ("runs", "needed", "expected"),
    [
        ([2, 2, 2], [True, True, False], [3, 3, 2]),
        ([2, 4, 3], [True, True, False], [4, 4, 3]),  # first to the same number
        ([4, 4, 2], [True, True, True], [4, 4, 4]),
        ([5, 5, 2], [True, True, False], [5, 5, 2]),  # at most five
        ([2, 3, 2], [False, False, False], [2, 3, 2]),
    ],
)
def test_the_next_step_brings_those_needed_to_the_same_number_of_seeds_and_then_to_one_more(
    runs: list[int], needed: list[bool], expected: list[int]
) -> None:
    assert next_step(np.array(runs), np.array(needed), 5).tolist() == expected


def test_the_distance_to_the_front_is_the_one_that_must_be_made_up() -> None:
    front = np.array([[1.0, 0.0], [0.5, 0.8]])
    others = np.array([[0.9, -1.0], [0.4, 0.5], [0.2, -0.1], [0.5, 0.8]])
    # The first gets past (1, 0) by 0.1 of the first objective, 1 spread; it is ahead of (0.5, 0.8) there.
    # The second is ahead of (1, 0) in the second objective; it gets past (0.5, 0.8) by 0.1 of the first.
    # The third gets past (1, 0) by 0.1 of the second objective, half a spread, past the other by 0.3.
    distance = plausible(front, others, np.array([0.1, 0.2]))
    np.testing.assert_allclose(distance, [1.0, 1.0, 3.0, 0.0])


def test_without_noise_nothing_dominated_is_near() -> None:
    distance = plausible(np.array([[1.0, 1.0]]), np.array([[0.9, 0.9], [1.0, 0.9]]), np.zeros(2))
    assert distance.tolist() == [np.inf, 0.0]
