from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from painvrl.study.front import hypervolume, non_dominated

# Few distinct values, so that ties and duplicates are the rule.
COARSE = st.integers(1, 4).flatmap(
    lambda width: hnp.arrays(
        float,
        st.tuples(st.integers(0, 9), st.just(width)),
        elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    )
)
UGLY = hnp.arrays(float, (7, 3), elements=st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf, -np.inf]))

EXAMPLES = settings(max_examples=60, deadline=None)


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(
        a > b for a, b in zip(one, other, strict=True)
    )


def volume_by_inclusion_and_exclusion(points: np.ndarray) -> float:
    return sum(
        (-1) ** (size + 1) * float(np.prod(np.min(chosen, axis=0).clip(min=0)))
        for size in range(1, len(points) + 1)
        for chosen in combinations(points, size)
    )


@EXAMPLES
@given(COARSE)
def test_the_front_is_what_brute_force_finds(points: np.ndarray) -> None:
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert non_dominated(points).tolist() == expected


@EXAMPLES
@given(UGLY)
def test_points_that_are_not_finite_are_infeasible_and_harmless(points: np.ndarray) -> None:
    finite = np.isfinite(points).all(axis=1)
    front = non_dominated(points)
    assert not front[~finite].any()
    assert front[finite].tolist() == non_dominated(points[finite]).tolist()


@EXAMPLES
@given(COARSE, st.randoms())
def test_the_order_of_the_points_does_not_matter(points: np.ndarray, random: object) -> None:
    order = np.arange(len(points))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert non_dominated(points[order]).tolist() == non_dominated(points)[order].tolist()


def test_equal_points_stay_on_the_front_together() -> None:
    assert non_dominated([[1, 2], [1, 2], [2, 1], [1, 1]]).tolist() == [True, True, True, False]


def test_no_points_have_no_front_and_no_volume() -> None:
    assert non_dominated([]).tolist() == []
    assert non_dominated(np.empty((0, 3))).tolist() == []
    assert hypervolume([]) == 0.0
    assert hypervolume(np.empty((0, 3))) == 0.0


def test_values_that_are_not_a_table_are_refused() -> None:
    with pytest.raises(ValueError, match="1 dimensions"):
        non_dominated([1.0, 2.0])


@EXAMPLES
@given(COARSE)
def test_the_hypervolume_is_what_inclusion_and_exclusion_gives(points: np.ndarray) -> None:
    assert hypervolume(points) == pytest.approx(volume_by_inclusion_and_exclusion(points), abs=1e-12)


@EXAMPLES
@given(COARSE)
def test_dominated_points_and_duplicates_add_no_volume(points: np.ndarray) -> None:
    front = points[non_dominated(points)]
    assert hypervolume(np.concatenate([front, front])) == pytest.approx(hypervolume(points), abs=1e-12)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_the_hypervolume_agrees_with_counting_random_points(width: int) -> None:
    rng = np.random.default_rng(width)
    points = rng.random((40, width)) ** 0.5
    samples = rng.random((100_000, width))
    covered = np.zeros(len(samples), dtype=bool)
    for point in points:
        covered |= (samples < point).all(axis=1)
    share = covered.mean()
    error = (share * (1 - share) / len(samples)) ** 0.5
    assert abs(hypervolume(points) - share) < 4 * error


def test_the_hypervolume_of_a_grid_is_known() -> None:
    corners = np.array(list(product([1.0, 2.0], repeat=4)))
    assert hypervolume(corners) == 16.0
    assert hypervolume([[1, 3], [2, 2], [3, 1]]) == 6.0
    assert hypervolume([[1, 1, 2], [2, 1, 1], [1, 2, 1]]) == 4.0


def test_points_that_are_not_finite_add_no_volume() -> None:
    assert hypervolume([[1.0, 2.0], [np.inf, 3.0], [np.nan, 4.0]]) == 2.0
