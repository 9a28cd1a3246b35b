from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from painvrl.data.sources.rows import RawInteractions, core_rows, without_duplicates
from painvrl.errors import DataError

PAIRS = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=50).map(list)


def slow_core(pairs: list[tuple[int, int]], core: int) -> list[tuple[int, int]]:
    """Remove one row at a time until every row is allowed to stay."""
    left = list(pairs)
    while True:
        for pair in left:
            user_rows = sum(u == pair[0] for u, _ in left)
            item_rows = sum(i == pair[1] for _, i in left)
            if user_rows < core or item_rows < core:
                left.remove(pair)
                break
        else:
            return left


@given(PAIRS, st.integers(1, 5))
def test_the_core_matches_a_slow_loop(pairs, core):
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    keep = core_rows(columns[:, 0], columns[:, 1], core)
    assert [pair for pair, kept in zip(pairs, keep, strict=True) if kept] == slow_core(pairs, core)


@given(PAIRS, st.integers(1, 5))
def test_the_core_is_a_fixed_point(pairs, core):
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    left = columns[core_rows(columns[:, 0], columns[:, 1], core)]
    assert core_rows(left[:, 0], left[:, 1], core).all()


def raw(users, items, ratings=None) -> RawInteractions:
    return RawInteractions(
        user=np.array(users),
        item=np.array(items),
        rating=None if ratings is None else np.array(ratings, dtype=np.float64),
        file="rows.csv",
    )


def test_rows_without_duplicates_are_left_alone():
    rows = raw([1, 1, 2], ["a", "b", "a"])
    assert without_duplicates(rows, None, duplicates="error") is rows


def test_a_duplicate_is_an_error_that_names_the_first_repeated_row():
    rows = raw([5, 7, 5, 7, 7], ["a", "b", "c", "b", "b"])
    with pytest.raises(
        DataError,
        match=r"rows\.csv: data\.duplicates: 2 rows .* row 4, user 7 and item b; .*\(found 'error'\)",
    ):
        without_duplicates(rows, None, duplicates="error")


def test_the_latest_row_of_a_pair_is_kept():
    rows = raw([1, 1, 1, 2], ["a", "a", "a", "a"], [5, 1, 3, 2])
    kept = without_duplicates(rows, np.array([10.0, 30.0, 20.0, 5.0]), duplicates="drop")
    assert (kept.user.tolist(), kept.item.tolist(), kept.rating.tolist()) == ([1, 2], ["a", "a"], [1, 2])


def test_times_and_labels_stay_with_their_rows():
    rows = RawInteractions(
        user=np.array([1, 1, 2]),
        item=np.array(["a", "a", "a"]),
        rating=None,
        file="rows.csv",
        time=np.array([10.0, 30.0, 20.0]),
        labels={"part": np.array(["x", "y", "z"])},
    )
    kept = without_duplicates(rows, rows.time, duplicates="drop")
    assert kept.time.tolist() == [30.0, 20.0]
    assert kept.labels["part"].tolist() == ["y", "z"]


def test_without_times_the_best_rated_row_is_kept():
    kept = without_duplicates(raw([1, 1, 1], ["a", "a", "b"], [3, 5, 1]), None, duplicates="drop")
    assert (kept.item.tolist(), kept.rating.tolist()) == (["a", "b"], [5, 1])


def test_without_times_and_ratings_one_row_is_kept():
    kept = without_duplicates(raw([1, 1, 2], [3, 3, 3]), None, duplicates="drop")
    assert (kept.user.tolist(), kept.item.tolist(), kept.rating) == ([1, 2], [3, 3], None)
