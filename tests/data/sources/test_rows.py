from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core.errors import DataError
from painvrl.data.sources.rows import RawInteractions, core_rows, without_duplicates
from painvrl.data.sources.texts import Texts

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


def raw(users: str, items: str, ratings=None, times=None, **labels: list[str]) -> RawInteractions:
    """A row a letter."""
    return RawInteractions(
        user=Texts.of(users),
        item=Texts.of(items),
        rating=None if ratings is None else np.array(ratings, dtype=np.float64),
        file="rows.csv",
        time=None if times is None else np.array(times, dtype=np.float64),
        labels={name: np.array(of) for name, of in labels.items()},
    )


def kept(rows: RawInteractions, rule: str = "latest") -> RawInteractions:
    return without_duplicates(rows, rule)


def refused(message: str, rows: RawInteractions, rule: str = "latest") -> None:
    with pytest.raises(DataError, match=rf"^rows\.csv: data\.duplicates: {message}"):
        without_duplicates(rows, rule)


@pytest.mark.parametrize("rule", ["latest", "best", "first_part", "error"])
def test_rows_without_duplicates_are_left_alone(rule):
    rows = raw("112", "aba")
    assert without_duplicates(rows, rule) is rows


def test_a_duplicate_is_an_error_that_names_the_first_two_rows():
    refused(
        r"2 rows repeat a \(user, item\) pair; the first are rows 2 and 4, user 7 and item b\. "
        r"latest, best and first_part keep one row a pair \(found 'error'\)$",
        raw("57577", "abcbb", times=[1, 3, 1, 2, 1]),
        "error",
    )


def test_the_latest_row_of_a_pair_is_kept_and_the_others_are_counted():
    left = without_duplicates(raw("1112", "aaaa", [5, 1, 3, 2], [10, 30, 20, 5]), "latest")
    (removal,) = left.removals
    assert (left.user.tolist(), left.item.tolist(), left.rating.tolist()) == (["1", "2"], ["a", "a"], [1, 2])
    assert (removal.name, removal.rule) == ("data.duplicates", "latest, one row a (user, item) pair")
    assert (removal.users, removal.items, removal.interactions) == (0, 0, 2)
    assert (removal.users_before, removal.items_before, removal.interactions_before) == (2, 1, 4)


def test_times_and_labels_stay_with_their_rows():
    left = kept(raw("112", "aaa", times=[10, 30, 20], part=["x", "y", "z"]))
    assert left.time.tolist() == [30.0, 20.0]
    assert left.labels["part"].tolist() == ["y", "z"]


def test_rows_that_are_equal_in_all_that_is_read_are_one():
    for rule in ("latest", "best"):
        left = kept(raw("112", "333", [4, 4, 4], [9, 9, 9], mood=["m", "m", "n"]), rule)
        assert (left.user.tolist(), left.item.tolist(), left.rating.tolist()) == (
            ["1", "2"],
            ["3", "3"],
            [4, 4],
        )
        assert dict(left.contradictions) == {}
    assert len(kept(raw("111", "333")).user) == 1


@pytest.mark.parametrize("times", [None, [9, 9, 1]], ids=["no times", "one time"])
def test_rows_of_one_time_that_differ_are_an_error(times):
    refused(
        r"1 rows repeat a \(user, item\) pair with another rating; the first are rows 1 and 2, user 1 and "
        r"item a\. best keeps the best-rated one \(found 'latest'\)$",
        raw("112", "aaa", [3, 5, 1], times),
    )
    refused(
        r"1 rows repeat a \(user, item\) pair with another part; the first are rows 1 and 2, user 1 and "
        r"item a\. first_part keeps that of train \(found 'latest'\)$",
        raw("112", "aaa", [3, 3, 1], times, part=["train", "test", "train"]),
    )


def test_the_best_rated_row_is_kept_whatever_the_times_and_of_equal_ones_the_latest():
    left = kept(raw("1111", "aaab", [3, 5, 5, 1], [9, 1, 2, 3]), "best")
    assert (left.item.tolist(), left.rating.tolist(), left.time.tolist()) == (["a", "b"], [5, 1], [2, 3])
    refused(r"best needs ratings \(found 'best'\)$", raw("11", "aa"), "best")


def test_the_row_of_the_first_part_is_kept_and_of_one_part_the_latest():
    parts = ["ood_test", "train", "iid_valid", "train", "ood_far_test", "ood_valid"]
    left = kept(raw("111122", "aaaaaa", times=[9, 1, 8, 2, 1, 0], part=parts), "first_part")
    assert left.labels["part"].tolist() == ["train", "ood_valid"]
    assert left.time.tolist() == [2, 0]
    assert dict(left.contradictions) == {}
    refused(r"first_part needs the column part$", raw("11", "aa"), "first_part")
    refused(
        r"first_part needs labels of the column part that end in train, valid or test \(found 'later'\)$",
        raw("11", "aa", part=["train", "later"]),
        "first_part",
    )


def test_labels_that_a_rule_merged_are_noted_for_whoever_splits_by_them():
    rows = raw("1112", "aaaa", times=[1, 2, 3, 4], part=["train", "test", "test", "train"], mood=list("xxxx"))
    assert kept(rows).contradictions == {
        "part": "1 rows that repeat a (user, item) pair have another label than the row that was kept "
        "(data.duplicates: latest)"
    }


ROWS = st.lists(
    st.tuples(
        *(st.sampled_from("12"), st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 3)),
        st.sampled_from(["train", "iid_valid", "ood_test"]),
    ),
    min_size=1,
    max_size=8,
)


@given(ROWS, st.sampled_from(["latest", "best", "first_part"]), st.randoms(use_true_random=False))
def test_no_rule_looks_at_the_order_of_the_rows(rows, rule, random):
    def outcome(rows):
        users, items, ratings, times, parts = zip(*rows, strict=True)
        try:
            left = without_duplicates(raw(users, items, ratings, times, part=parts), rule)
        except DataError as error:
            return re.sub(r"\d+ rows|the first are .*", "", str(error))  # rows are named in their order
        columns = (left.user.tolist(), left.item.tolist(), left.rating, left.time, left.labels["part"])
        return sorted(zip(*columns, strict=True)), dict(left.contradictions), left.removals

    shuffled = random.sample(rows, len(rows))
    assert outcome(shuffled) == outcome(rows)
