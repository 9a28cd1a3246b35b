"""Known groups of interactions, compared with what a loop over the rows finds."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from painvrl.core.errors import ConfigError
from painvrl.data.dataset import Columns, Dataset, Modality
from painvrl.data.grouping import (
    Grouping,
    KnownGroups,
    _digits,
    _edges_between_clusters,
    known_groups,
    left_out_group,
)
from painvrl.data.interactions import Interactions


@pytest.fixture
def dataset(make_dataset) -> Dataset:
    """One whose items all have a year."""
    made = make_dataset()
    year = np.where(made.columns.item["year"] == "", "1970", made.columns.item["year"])
    return replace(made, columns=replace(made.columns, item={**made.columns.item, "year": year}))


@pytest.fixture
def train(dataset: Dataset) -> Interactions:
    """Some rows, in an order of their own."""
    return dataset.interactions.select(
        torch.randperm(len(dataset.interactions), generator=torch.Generator().manual_seed(1))[:900]
    )


def grouped(dataset: Dataset, train: Interactions, *groupings: dict[str, Any]) -> KnownGroups:
    return known_groups(dataset, train, [Grouping.model_validate(one) for one in groupings], 0)


def by_pair(dataset: Dataset, values: Any) -> dict[tuple[int, int], Any]:
    """A column of the interactions by (user, item)."""
    data = dataset.interactions
    return dict(zip(zip(data.user.tolist(), data.item.tolist(), strict=True), values, strict=True))


def names_of(found: KnownGroups, train: Interactions) -> dict[tuple[int, int], str]:
    pairs = zip(train.user.tolist(), train.item.tolist(), strict=True)
    return {pair: found.names[label] for pair, label in zip(pairs, found.label.tolist(), strict=True)}


def test_a_column_of_interactions_items_or_users_labels_each_row(dataset, train):
    part = by_pair(dataset, dataset.columns.interaction["part"].tolist())
    for (user, item), name in names_of(grouped(dataset, train, {"column": "part"}), train).items():
        assert name == f"part={part[user, item]}"
    genre = dataset.columns.item["genre"]
    for (_, item), name in names_of(grouped(dataset, train, {"column": "genre"}), train).items():
        assert name == f"genre={genre[item]}"
    city = dataset.columns.user["city"]
    found = grouped(dataset, train, {"column": "city", "unknown": "own"})
    for (user, _), name in names_of(found, train).items():
        assert name == (f"city={city[user]}" if city[user] else "city unknown")


def test_sizes_count_the_rows_of_each_group(dataset, train):
    found = grouped(dataset, train, {"column": "genre"})
    counted = Counter(names_of(found, train).values())
    assert dict(zip(found.names, found.sizes, strict=True)) == counted
    assert sum(found.sizes) == len(train)


def test_edges_cut_numbers_and_a_value_at_an_edge_is_above_it(dataset, train):
    found = grouped(dataset, train, {"column": "year", "bins": [1970, 1990]})
    assert found.names == ("year < 1970", "year 1970 to 1990", "year >= 1990")
    year = dataset.columns.item["year"].astype(int).tolist()
    assert {1970, 1990} <= {year[item] for item in train.item.tolist()}
    for (_, item), name in names_of(found, train).items():
        assert name == found.names[(year[item] >= 1970) + (year[item] >= 1990)]


def test_bins_by_count_hold_about_equally_many_train_rows(dataset, train):
    found = grouped(dataset, train, {"column": "year", "bins": 3})
    year = dataset.columns.item["year"].astype(int)[train.item.numpy()]
    heaviest = max(Counter(year.tolist()).values())
    assert max(found.sizes) - min(found.sizes) <= 2 * heaviest
    order = [year[found.label.numpy() == index] for index in range(3)]
    assert order[0].max() < order[1].min()
    assert order[1].max() < order[2].min()


def test_time_is_cut_at_the_first_second_of_a_date(dataset, train):
    edge = dt.date(1970, 1, 21)
    found = grouped(dataset, train, {"column": "time", "bins": [edge]})
    assert found.names == ("time < 1970-01-21", "time >= 1970-01-21")
    assert dataset.columns.time is not None
    time = by_pair(dataset, dataset.columns.time.tolist())
    assert 20 * 86400 in time.values()
    for pair, name in names_of(found, train).items():
        assert name == found.names[time[pair] >= 20 * 86400]


def test_popularity_is_that_of_the_train_rows(dataset, train):
    found = grouped(dataset, train, {"column": "popularity", "bins": 2})
    degree = Counter(train.item.tolist())
    seen = [
        [degree[item] for (_, item), name in names_of(found, train).items() if name == each]
        for each in found.names
    ]
    assert max(seen[0]) < min(seen[1])


def test_clusters_group_whole_items(dataset, train):
    found = grouped(dataset, train, {"column": "clusters", "bins": 3})
    by_item: dict[int, set[str]] = {}
    for (_, item), name in names_of(found, train).items():
        by_item.setdefault(item, set()).add(name)
    assert len(found.names) == 3
    assert all(len(names) == 1 for names in by_item.values())


def test_features_of_items_that_train_does_not_have_decide_no_cluster(dataset, train):
    some = train.select(train.item % 3 != 0)
    wanted = {"column": "clusters", "bins": 3}
    moved = {
        name: replace(one, values=torch.where((torch.arange(90) % 3 == 0)[:, None], 9.0, one.values))
        for name, one in dataset.modalities.items()
    }
    found = grouped(replace(dataset, modalities=moved), some, wanted)
    assert torch.equal(found.label, grouped(dataset, some, wanted).label)


def test_crossed_groupings_are_the_pairs_that_occur(dataset, train):
    both = grouped(dataset, train, {"column": "genre"}, {"column": "year", "bins": [1980]})
    first = names_of(grouped(dataset, train, {"column": "genre"}), train)
    second = names_of(grouped(dataset, train, {"column": "year", "bins": [1980]}), train)
    for pair, name in names_of(both, train).items():
        assert name == f"{first[pair]} x {second[pair]}"
    assert set(both.names) == {f"{first[pair]} x {second[pair]}" for pair in first}


def test_unknown_numbers_are_a_group_of_their_own_on_request(dataset, train):
    year = dataset.columns.item["year"].copy()
    year[:5] = ""
    blank = replace(dataset, columns=replace(dataset.columns, item={"year": year}))
    missing = int((train.item < 5).sum())
    with pytest.raises(ConfigError, match=f"year: {missing} of {len(train)}"):
        grouped(blank, train, {"column": "year", "bins": [1980]})
    found = grouped(blank, train, {"column": "year", "bins": [1980], "unknown": "own"})
    assert found.names[-1] == "year unknown"
    assert found.sizes[-1] == missing


@pytest.mark.parametrize(
    ("grouping", "said"),
    [
        ({"column": "studio"}, "has no such column; it has .*genre of the items"),
        ({"column": "genre", "bins": 2}, "must hold numbers"),
        ({"column": "year", "bins": [1900]}, "all train interactions are in one group"),
        ({"column": "city"}, "no label for some train interactions"),
        ({"column": "year", "of": "users"}, "no such column"),
        ({"column": "time", "of": "items"}, "no such column"),
        ({"column": "popularity", "bins": 50}, "name the edges instead"),
    ],
)
def test_what_cannot_be_grouped_says_why(dataset, train, grouping, said):
    with pytest.raises(ConfigError, match=said):
        grouped(dataset, train, grouping)


def test_a_name_that_two_have_must_say_whose_it_is(dataset, train):
    columns = replace(dataset.columns, user={"genre": np.array(["x"] * 30 + ["y"] * 30)})
    twice = replace(dataset, columns=columns)
    with pytest.raises(ConfigError, match="items and users have a column of that name"):
        grouped(twice, train, {"column": "genre"})
    assert grouped(twice, train, {"column": "genre", "of": "users"}).names == ("genre=x", "genre=y")


def test_contradicting_rows_and_data_without_times_are_refused(dataset, train):
    columns = Columns(interaction=dataset.columns.interaction, contradictions={"part": "rows 3 and 4"})
    bare = replace(dataset, columns=columns)
    with pytest.raises(ConfigError, match="rows 3 and 4"):
        grouped(bare, train, {"column": "part"})
    with pytest.raises(ConfigError, match="needs the time"):
        grouped(bare, train, {"column": "time", "bins": 2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"column": "time"},
        {"column": "time", "bins": [1999.0]},
        {"column": "year", "bins": ["1999-01-01"]},
        {"column": "year", "bins": [1990, 1980]},
        {"column": "year", "bins": []},
        {"column": "year", "bins": 1},
        {"column": "popularity"},
        {"column": "clusters", "bins": [1.0]},
    ],
)
def test_a_grouping_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValidationError):
        Grouping.model_validate(wrong)


def test_a_left_out_group_is_asked_for_what_the_others_can_answer() -> None:
    """User 2 is in group 1 alone, and item 0 in both; items 2 and 3 are new there."""
    listed = torch.tensor([[0, 0], [0, 1], [1, 1], [0, 2], [1, 0], [1, 3], [2, 2]])
    train = Interactions(user=listed[:, 0], item=listed[:, 1], n_users=3, n_items=5)
    groups = KnownGroups(label=torch.tensor([0, 0, 0, 1, 1, 1, 1]), names=("old", "new"), sizes=(3, 4))
    anyone = left_out_group(train, groups, 1, held_out=False)
    assert list(zip(anyone.rows.user.tolist(), anyone.rows.item.tolist(), strict=True)) == [
        (0, 2),
        (1, 0),
        (1, 3),
    ]
    assert anyone.candidates.tolist() == [True, True, True, True, False]
    assert anyone.said == "new is not asked for 1 of users whom no other group has (of 4 rows)"
    alone = left_out_group(train, groups, 1, held_out=True)
    assert (alone.rows.user.tolist(), alone.rows.item.tolist()) == ([0, 1], [2, 3])
    assert alone.candidates.tolist() == [False, False, True, True, False]
    assert alone.said == (
        "new is not asked for 1 of users whom no other group has and 1 of items that another group has "
        "(of 4 rows)"
    )
    assert left_out_group(train, groups, 0, held_out=False).said == ""


@pytest.mark.parametrize("bins", [None, 2])
def test_rows_without_a_label_may_be_left_open(dataset, train, bins):
    """Named or binned, the others have the groups that they have without those rows."""
    year = np.where(dataset.columns.item["year"].astype(float) > 1980, "", dataset.columns.item["year"])
    holes = replace(dataset, columns=replace(dataset.columns, item={**dataset.columns.item, "year": year}))
    found = grouped(holes, train, {"column": "year", "bins": bins, "unknown": "open"})
    unknown = torch.from_numpy(year == "")[train.item]
    assert 0 < int(unknown.sum()) < len(train)
    assert torch.equal(found.label < 0, unknown)
    rest = grouped(holes, train.select(~unknown), {"column": "year", "bins": bins})
    assert found.names == rest.names
    assert torch.equal(found.label[~unknown], rest.label)
    assert found.sizes == rest.sizes
    crossed = grouped(holes, train, {"column": "genre"}, {"column": "year", "bins": bins, "unknown": "open"})
    assert torch.equal(crossed.label < 0, unknown)
    assert sum(crossed.sizes) == int((~unknown).sum())


@pytest.fixture
def two_views(train: Interactions) -> tuple[dict[str, Modality], torch.Tensor]:
    """Two modalities, of which one has the vectors of others for a part of the items; and which items."""
    draws = torch.Generator().manual_seed(5)
    hidden = torch.randn(train.n_items, 6, generator=draws)
    views = [hidden @ torch.randn(6, width, generator=draws) for width in (9, 7)]
    wrong = torch.arange(train.n_items) % 3 == 0
    views[0][wrong] = views[0][wrong].roll(1, 0)
    present = torch.ones(train.n_items, dtype=torch.bool)
    return {
        name: Modality(values=view, present=present) for name, view in zip("ab", views, strict=True)
    }, wrong


def test_groups_by_disagreement_part_the_items_at_a_gap(dataset, train, two_views):
    seen, wrong = two_views
    found = grouped(replace(dataset, modalities=seen), train, {"column": "disagreement", "bins": 2})
    assert [name.split()[0] for name in found.names] == ["disagreement"] * 2
    agree = (found.label == 1) == wrong[train.item]
    assert float(agree.double().mean()) > 0.9
    alone = replace(dataset, modalities={"a": seen["a"]})
    with pytest.raises(ConfigError, match=r"environments\.column: needs two modalities"):
        grouped(alone, train, {"column": "disagreement", "bins": 2})
    with pytest.raises(ValidationError, match="disagreement needs bins"):
        Grouping(column="disagreement")


@pytest.mark.parametrize("bins", [2, 3])
def test_modalities_of_items_that_train_does_not_have_move_no_group(dataset, train, two_views, bins):
    seen, _ = two_views
    cold = torch.arange(train.n_items) % 2 == 0
    some = train.select(~cold[train.item])
    turned = torch.where(cold[:, None], -seen["a"].values, seen["a"].values)
    wanted = {"column": "disagreement", "bins": bins}
    found = grouped(replace(dataset, modalities=seen), some, wanted)
    moved = {**seen, "a": replace(seen["a"], values=turned)}
    other = grouped(replace(dataset, modalities=moved), some, wanted)
    assert found.names == other.names
    assert torch.equal(found.label, other.label)


@pytest.mark.parametrize("bins", [2, [0.5]])
def test_items_of_one_modality_each_cannot_disagree(dataset, train, two_views, bins):
    seen, _ = two_views
    even = torch.arange(train.n_items) % 2 == 0
    apart = {"a": replace(seen["a"], present=even), "b": replace(seen["b"], present=~even)}
    with pytest.raises(ConfigError, match=r"environments\.column: no train item has two modalities"):
        grouped(
            replace(dataset, modalities=apart),
            train,
            {"column": "disagreement", "bins": bins, "unknown": "own"},
        )


def test_clusters_of_numbers_are_those_of_every_way_to_cut_them():
    """Against all cuts of the sorted numbers: the least sum of squares within."""
    values = np.sort(np.concatenate([np.linspace(0, 1, 8), np.linspace(3, 3.5, 5), [4.0, np.nan]]))
    known = values[~np.isnan(values)]

    def within(cut: int) -> float:
        return sum(float(((part - part.mean()) ** 2).sum()) for part in (known[:cut], known[cut:]))

    best = min(range(1, len(known)), key=within)
    (edge,) = _edges_between_clusters(values, 2)
    assert int((known < edge).sum()) == best


def with_item_column(dataset: Dataset, name: str, values: Any) -> Dataset:
    items = {**dataset.columns.item, name: np.asarray(values, dtype=object)}
    return replace(dataset, columns=replace(dataset.columns, item=items))


def test_no_two_groups_have_one_name(dataset: Dataset, train: Interactions) -> None:
    n_items = train.n_items
    labels = with_item_column(dataset, "kind", ["unknown", "", "b"] * (n_items // 3))
    found = grouped(labels, train, {"column": "kind", "unknown": "own"})
    assert found.names == ("kind unknown", "kind=b", "kind=unknown")
    near = with_item_column(dataset, "price", [f"{1_000_000 + item % 7}" for item in range(n_items)])
    found = grouped(near, train, {"column": "price", "bins": 4})
    assert len(set(found.names)) == 4
    crossed = with_item_column(dataset, "a", ["1", "1 x b=2"] * (n_items // 2))
    crossed = with_item_column(crossed, "b", ["2 x b=2", "2"] * (n_items // 2))
    found = grouped(crossed, train, {"column": "a"}, {"column": "b"})
    assert found.names == ("a=1 x b=2 x b=2", "a=1 x b=2 x b=2 (2)")


def test_times_of_one_day_are_told_apart_by_the_clock(dataset: Dataset, train: Interactions) -> None:
    times = torch.arange(len(dataset.interactions), dtype=torch.float64)
    day = replace(dataset, columns=replace(dataset.columns, time=times))
    found = grouped(day, train, {"column": "time", "bins": 3})
    assert len(set(found.names)) == 3
    assert found.names[0].startswith("time < 1970-01-01 00:")


@given(
    st.lists(st.integers(0, 10**7), min_size=3, max_size=30, unique=True), st.sampled_from([1.0, 1e-7, 0.5])
)
def test_an_edge_as_it_is_shown_divides_the_values_as_it_does(numbers: list[int], unit: float) -> None:
    values = np.array(numbers) * unit
    edges = np.sort(values)[1::2]
    shown = [float(one) for one in _digits(edges, values)]
    assert [sum(edge <= value for edge in shown) for value in values] == [
        sum(edge <= value for edge in edges) for value in values
    ]


def test_bins_without_a_train_interaction_are_named(dataset: Dataset, train: Interactions) -> None:
    found = grouped(dataset, train, {"column": "year", "bins": [1985, 3000, 4000]})
    assert found.empty == ("year 3000 to 4000", "year >= 4000")
    assert len(found.names) == 2


def test_a_column_that_is_called_like_something_computed_is_asked_for_by_whose_it_is(
    dataset: Dataset, train: Interactions
) -> None:
    both = with_item_column(dataset, "popularity", [str(item) for item in range(train.n_items)])
    with pytest.raises(ConfigError, match=r"the items have a column of that name.* of: items"):
        grouped(both, train, {"column": "popularity", "bins": 2})
    found = grouped(both, train, {"column": "popularity", "bins": [45.0], "of": "items"})
    assert found.names == ("popularity < 45", "popularity >= 45")
    both = with_item_column(dataset, "clusters", [str(item % 9) for item in range(train.n_items)])
    found = grouped(both, train, {"column": "clusters", "bins": [3.0, 6.0], "of": "items"})
    assert found.names == ("clusters < 3", "clusters 3 to 6", "clusters >= 6")


def test_a_long_label_is_cut_in_the_name_of_its_group(dataset: Dataset, train: Interactions) -> None:
    long = with_item_column(dataset, "kind", ["x" * 5_000 + "ab"[item % 2] for item in range(train.n_items)])
    found = grouped(long, train, {"column": "kind"})
    assert [len(name) for name in found.names] == [66, 70]
    assert len(set(found.names)) == 2


def test_rows_left_open_are_counted(dataset: Dataset, train: Interactions) -> None:
    found = grouped(dataset, train, {"column": "city", "unknown": "open"})
    assert found.left_open == int((found.label < 0).sum()) > 0
