from __future__ import annotations

from itertools import combinations, product

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from painvrl.stats import dominance
from painvrl.stats.dominance import (
    additive_epsilon,
    coverage,
    dominated_by,
    hypervolume,
    hypervolumes,
    non_dominated,
    ranks,
    spread,
)

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


def ranks_by_pymoo(points: np.ndarray) -> list[int]:
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    _, found = NonDominatedSorting().do(-points, return_rank=True)
    return [int(rank) for rank in found]


def volume_by_pymoo(points: np.ndarray) -> float:
    from pymoo.indicators.hv import HV

    return float(HV(ref_point=np.zeros(points.shape[1]))(-points))


# pymoo minimises, takes no empty set, and knows no infeasible values.
ONE_TO_FOUR = st.integers(1, 4).flatmap(
    lambda width: hnp.arrays(
        float,
        st.tuples(st.integers(1, 25), st.just(width)),
        elements=st.one_of(st.sampled_from([0.0, 0.25, 0.5]), st.floats(0.001, 1.0)),
    )
)
WITH_HOLES = st.integers(1, 4).flatmap(
    lambda width: hnp.arrays(
        float,
        st.tuples(st.integers(1, 15), st.just(width)),
        elements=st.sampled_from([0.1, 0.2, 0.4, 0.7, 1.0, np.nan, np.inf, -np.inf]),
    )
)


@EXAMPLES
@given(ONE_TO_FOUR)
def test_ranks_and_front_are_those_of_pymoo(points: np.ndarray) -> None:
    expected = ranks_by_pymoo(points)
    assert ranks(points).tolist() == expected
    assert non_dominated(points).tolist() == [rank == 0 for rank in expected]


@EXAMPLES
@given(ONE_TO_FOUR)
def test_the_hypervolume_is_that_of_pymoo(points: np.ndarray) -> None:
    assert hypervolume(points) == pytest.approx(volume_by_pymoo(points), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", ["curved", "anywhere"])
def test_large_fronts_agree_with_pymoo(width: int, shape: str) -> None:
    rng = np.random.default_rng(width)
    points = rng.random((120, width)) + 0.01
    if shape == "curved":  # no one dominates anybody
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = np.concatenate([points, points[:7]])
    assert ranks(points).tolist() == ranks_by_pymoo(points)
    assert hypervolume(points) == pytest.approx(volume_by_pymoo(points), rel=1e-10)


@EXAMPLES
@given(WITH_HOLES)
def test_what_is_not_finite_ranks_last_of_all_and_changes_nobody_else(points: np.ndarray) -> None:
    finite = np.isfinite(points).all(axis=1)
    found = ranks(points)
    if finite.any():
        expected = ranks_by_pymoo(points[finite])
        assert found[finite].tolist() == expected
        assert hypervolume(points) == pytest.approx(volume_by_pymoo(points[finite]), rel=1e-12)
        assert set(found[~finite].tolist()) <= {max(expected) + 1}
    else:
        assert set(found.tolist()) == {1}


@EXAMPLES
@given(WITH_HOLES)
def test_rank_zero_is_the_front(points: np.ndarray) -> None:
    assert (ranks(points) == 0).tolist() == non_dominated(points).tolist()


def test_ranks_by_hand() -> None:
    points = [[3, 3], [2, 4], [2, 3], [2, 3], [1, 1], [np.nan, 9], [1, 3], [4, 0]]
    assert ranks(points).tolist() == [0, 0, 1, 1, 3, 4, 2, 0]
    assert ranks([[5.0], [7.0], [5.0], [-1.0]]).tolist() == [1, 0, 1, 2]
    assert ranks([[1.0, 2.0]]).tolist() == [0]
    assert ranks([]).tolist() == []
    assert ranks(np.empty((0, 3))).tolist() == []


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("objectives", [1, 2, 4])
@pytest.mark.parametrize("cells", [1, 5 * 5 * 7, 2**24])  # a draw at once, some, all
def test_who_dominates_whom_is_what_a_loop_finds(
    levels: int, objectives: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dominance, "_CELLS", cells)
    draws = np.random.default_rng(0).integers(levels, size=(30, 5, objectives)).astype(float)
    expected = [[[dominates(other, one) for other in points] for one in points] for points in draws]
    np.testing.assert_array_equal(dominated_by(draws), expected)


A = [[4.0, 1.0], [3.0, 3.0], [1.0, 4.0]]
B = [[4.0, 1.0], [2.0, 2.0], [1.0, 5.0], [3.5, 2.0]]

FRONTS = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        *(
            hnp.arrays(
                float, st.tuples(st.integers(1, 8), st.just(width)), elements=st.sampled_from([0.1, 0.4, 0.9])
            )
            for _ in range(2)
        )
    )
)


def test_coverage_by_hand() -> None:
    assert coverage(A, B) == 0.5  # an equal point and a dominated one
    assert coverage(B, A) == pytest.approx(2 / 3)  # (3, 3) is no one's
    assert coverage(A, A) == 1.0


def test_epsilon_by_hand() -> None:
    assert additive_epsilon(A, B) == 1.0  # (1, 4) needs 1 for (1, 5)
    assert additive_epsilon(B, A) == 1.0  # (2, 2) and (3.5, 2) need 1 for (3, 3)
    assert additive_epsilon([[2.0, 2.0]], [[1.0, 1.5]]) == -0.5  # with that much to spare


@EXAMPLES
@given(FRONTS)
def test_epsilon_is_that_of_moocore(fronts: tuple[np.ndarray, np.ndarray]) -> None:
    mine, reference = fronts
    expected = moocore.epsilon_additive(mine, ref=reference, maximise=True)
    assert additive_epsilon(mine, reference) == pytest.approx(expected, abs=1e-12)


@EXAMPLES
@given(FRONTS)
def test_a_front_that_gets_what_it_lacks_covers_the_other_and_with_less_does_not(
    fronts: tuple[np.ndarray, np.ndarray],
) -> None:
    mine, other = fronts
    lacks = additive_epsilon(mine, other)
    assert coverage(mine + lacks + 1e-9, other) == 1.0
    assert coverage(mine + lacks - 1e-9, other) < 1.0


def test_each_set_has_the_volume_that_it_has_alone() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.5, (6, 9, 4))
    assert hypervolumes(values).tolist() == [hypervolume(points) for points in values]
    assert hypervolumes(values[:, :0]).tolist() == [0.0] * 6


@given(COARSE.filter(len), st.integers(1, 9))
def test_the_spread_is_what_a_greedy_search_over_all_points_keeps(values: np.ndarray, size: int) -> None:
    kept = {0, *values.argmax(axis=0).tolist()}
    left = [place for place in range(len(values)) if place not in kept]
    while left and len(kept) < size:
        volumes = [hypervolume(values[[*kept, place]]) for place in left]
        largest = max(volumes)
        kept.add(left.pop(next(at for at, one in enumerate(volumes) if one >= largest - 1e-12)))
    found = spread(values, size, kept=[0])
    assert found == sorted(set(found))
    assert len(found) == len(kept)
    assert hypervolume(values[found]) == pytest.approx(hypervolume(values[sorted(kept)]))
