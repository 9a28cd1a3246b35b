from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from painvrl.data.interactions import Interactions
from painvrl.data.provenance import Join, Provenance, Removal
from painvrl.data.split_statistics import SplitStatistics, split_statistics
from painvrl.data.splits import ColdItemSplit, make_split

SHARE = {"key": "data.files.m", "of": "items", "total": 6, "rows": 7, "rows_filtered": 1, "rows_unmatched": 3}
TAKEN = {"interactions": 1, "users_before": 6, "items_before": 6, "interactions_before": 8}
PROVENANCE = Provenance(
    joins=(Join(name="m", matched=3, largest_column="f0", largest_share=0.5, **SHARE),),
    removals=(Removal(name="data.core", rule="keep all", users=1, items=0, **TAKEN),),
    findings=("a column is constant",),
)


def interactions(*pairs: tuple[int, int]) -> Interactions:
    columns = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return Interactions(user=columns[:, 0], item=columns[:, 1], n_users=5, n_items=6)


@pytest.fixture
def statistics() -> SplitStatistics:
    """Item 0 is taken three times, item 1 twice, items 2, 3 once; user 3 is dropped, user 4 has no row."""
    data = interactions((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2), (3, 3))
    return split_statistics(
        protocol="cold_item",
        seed=4,
        data=data,
        parts={
            "train": interactions((0, 0), (1, 0), (2, 0)),
            "iid_valid": interactions((0, 1)),
            "iid_test": interactions((1, 1), (0, 0)),
            "ood_valid": interactions((0, 2)),
            "ood_test": interactions(),
        },
        candidates={"iid_valid": torch.arange(6) < 2, "ood_valid": torch.arange(6) > 1},
        dropped_users=1,
        provenance=PROVENANCE,
    )


def test_counts_by_hand(statistics):
    train, iid_valid, iid_test, ood_valid, ood_test = statistics.parts
    assert (train.interactions, train.users, train.items, train.mean_popularity) == (3, 3, 1, 3.0)
    assert (iid_valid.interactions, iid_valid.users, iid_valid.items) == (1, 1, 1)
    assert (iid_test.users, iid_test.items, iid_test.mean_popularity) == (2, 2, 2.5)
    assert (ood_valid.mean_popularity, ood_valid.items_in_train) == (1.0, 0.0)
    assert (ood_test.interactions, ood_test.mean_popularity, ood_test.items_in_train) == (0, 0.0, 0.0)
    assert (statistics.users, statistics.items, statistics.interactions) == (4, 4, 7)


def test_overlap_with_train_counts_pairs_not_items(statistics):
    assert [part.overlap_with_train for part in statistics.parts] == [3, 0, 1, 0, 0]
    assert statistics.parts[2].items_in_train == 0.5


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=12, unique=True)


@given(PAIRS, PAIRS)
def test_the_overlap_is_that_of_the_sets_whatever_the_order_of_the_rows(train, part):
    parts = {"train": interactions(*train), "ood_valid": interactions(*part)}
    made = split_statistics(
        protocol="x",
        seed=0,
        data=interactions(*train, *part),
        parts=parts,
        candidates={},
        dropped_users=0,
        provenance=Provenance(),
    )
    assert made.parts[1].overlap_with_train == len(set(train) & set(part))


def test_rows_are_texts_in_the_columns(statistics):
    table, removals, joins = statistics.tables()
    rows = table.rows
    assert [row[0] for row in rows] == ["train", "iid_valid", "iid_test", "ood_valid", "ood_test"]
    assert all(len(row) == len(table.columns) for row in rows)
    assert rows[0] == ("train", "3", "3", "1", "3.0", "100.0%", "-", "-")
    assert rows[2] == ("iid_test", "2", "2", "2", "2.5", "50.0%", "-", "1")
    assert rows[1][-2:] == ("2", "0")
    assert (removals, joins) == PROVENANCE.tables()


def test_the_dict_survives_json(statistics):
    read = json.loads(json.dumps(statistics.as_dict()))
    assert read["protocol"] == "cold_item"
    assert read["seed"] == 4
    assert read["parts"][2]["mean_popularity"] == 2.5
    assert read["dropped_users"] == 1
    assert TypeAdapter(Provenance).validate_python(read["provenance"]) == statistics.provenance == PROVENANCE
    assert read["warnings"] == [PROVENANCE.joins[0].warning(), "a column is constant"]


def test_what_a_split_leaves_out_is_the_last_removal():
    parts = {"train": interactions((0, 0), (1, 1)), "ood_valid": interactions((0, 2))}
    data = interactions((0, 0), (1, 1), (0, 2), (3, 3), (3, 0))
    statistics = split_statistics(
        protocol="x", seed=0, data=data, parts=parts, candidates={}, dropped_users=1, provenance=PROVENANCE
    )
    *before, split = statistics.provenance.removals
    assert tuple(before) == PROVENANCE.removals
    assert (split.name, split.users, split.items, split.interactions) == ("split", 1, 1, 2)
    assert (split.users_before, split.items_before, split.interactions_before) == (3, 4, 5)
    assert (statistics.provenance.joins, statistics.provenance.findings) == (
        PROVENANCE.joins,
        PROVENANCE.findings,
    )
    assert statistics.dropped_interactions == 2


def test_a_splits_statistics_adds_up(make_dataset):
    dataset = make_dataset()
    statistics = make_split(dataset, ColdItemSplit(), seed=0).statistics
    assert sum(part.interactions for part in statistics.parts) + statistics.dropped_interactions == 1500
    assert statistics.parts[0].mean_popularity > 0
    assert [part.overlap_with_train for part in statistics.parts[1:]] == [0, 0, 0, 0]
    assert [part.items_in_train for part in statistics.parts] == [1.0, 1.0, 1.0, 0.0, 0.0]
