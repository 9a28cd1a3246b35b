"""Items of another range of a number, and the control that is as popular."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from painvrl.core.errors import ConfigError
from painvrl.data.splits import ItemRangeSplit, make_split
from painvrl.data.splits.item_range import STRATUM, as_popular

ERAS: dict[str, Any] = {"column": "year", "train": (1970, None), "ood": (None, 1960)}


def years_of(dataset, items) -> np.ndarray:
    return np.array([float(dataset.columns.item["year"][item] or "nan") for item in items.tolist()])


@pytest.mark.parametrize(("train", "ood"), [((1970, None), (None, 1960)), ((None, 1970), (1980, 1990))])
def test_parts_hold_the_items_of_their_range_both_ends_included(dataset, parts_of, train, ood):
    parts = parts_of(make_split(dataset, ItemRangeSplit(column="year", train=train, ood=ood), seed=0))
    for name, part in parts.items():
        low, high = ood if name.startswith("ood") else train
        years = years_of(dataset, part.item)
        assert ((years >= (low or -np.inf)) & (years <= (high or np.inf))).all()
        assert len(part)
    found = set(years_of(dataset, parts["train"].item))
    assert {end for end in train if end is not None} <= found
    halves = [set(parts[name].item.tolist()) for name in ("ood_valid", "ood_test")]
    assert halves[0].isdisjoint(halves[1])


def test_items_between_the_ranges_and_without_a_year_are_in_no_part_and_no_list(dataset, parts_of, tests_of):
    split = make_split(dataset, ItemRangeSplit(**ERAS, ood_candidates="all"), seed=0)
    years = years_of(dataset, torch.arange(90))
    outside = torch.from_numpy(~((years >= 1970) | (years <= 1960)))
    assert bool(outside.any())
    for part in (*split.valid.values(), *tests_of(split).values()):
        there = dataset.interactions.item_degree() > 0
        assert not bool((part.candidates & outside & there).any())
    rows = outside[dataset.interactions.item]
    gap = next(one for one in split.statistics.provenance.removals if one.name == "split.gap")
    assert (gap.interactions, gap.items) == (int(rows.sum()), len(dataset.interactions.item[rows].unique()))


def test_users_who_are_lost_to_the_gap_are_counted_there(dataset):
    low, high = np.nanquantile(years_of(dataset, torch.arange(90)), (0.04, 0.96)).round()
    split = make_split(dataset, ItemRangeSplit(column="year", train=(high, None), ood=(None, low)), seed=0)
    removed = {one.name: one for one in split.statistics.provenance.removals}
    years = years_of(dataset, dataset.interactions.item)
    placed = dataset.interactions.user[torch.from_numpy((years >= high) | (years <= low))].unique()
    lost = split.statistics.users - len(placed)
    assert removed["split.gap"].users == lost > 0
    rest = removed["split"]
    assert lost + rest.users == split.statistics.dropped_users
    assert rest.users_before == len(placed)


def test_the_control_is_as_popular_and_takes_from_both_ranges(dataset, parts_of):
    shifted, control = (
        parts_of(make_split(dataset, ItemRangeSplit(**ERAS, matched=matched), seed=0))
        for matched in (False, True)
    )
    held = [
        set(parts["ood_valid"].item.tolist()) | set(parts["ood_test"].item.tolist())
        for parts in (shifted, control)
    ]
    assert len(held[0]) == len(held[1])
    years = years_of(dataset, torch.tensor(sorted(held[1])))
    assert (years <= 1960).any()
    assert (years >= 1970).any()
    rows = [sum(len(parts[name]) for name in ("ood_valid", "ood_test")) for parts in (shifted, control)]
    assert abs(rows[0] - rows[1]) < 0.35 * rows[0]


def test_each_stratum_of_popularity_gives_as_many_as_it_has_chosen_ones():
    degree = torch.arange(100, 0, -1).float()
    among = torch.arange(100) % 3 != 0
    chosen = among & (torch.arange(100) % 5 == 1)
    drawn = as_popular(chosen, among, degree, torch.Generator().manual_seed(0))
    assert not bool((drawn & ~among).any())
    order = torch.arange(99, -1, -1)[among.flip(0)]  # from the least popular one
    for stratum in order.split(STRATUM):
        assert int(drawn[stratum].sum()) == int(chosen[stratum].sum())
    again = as_popular(chosen, among, degree, torch.Generator().manual_seed(1))
    assert not torch.equal(drawn, again)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"column": "genre"}, "must hold numbers"),
        ({"column": "studio"}, "has genre, year"),
        ({"ood": (None, 1900)}, r"split\.ood: must hold at least 2"),
        ({"train": (2050, None)}, r"split\.train: must hold at least 1"),
    ],
)
def test_ranges_that_hold_nothing_are_refused(dataset, change, said):
    with pytest.raises(ConfigError, match=said):
        make_split(dataset, ItemRangeSplit(**ERAS | change), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [{"ood": (None, 1970)}, {"train": (1980, 1970)}, {"ood": (None, None)}, {"train": (1900, None)}],
)
def test_ranges_that_meet_or_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        ItemRangeSplit(**ERAS | wrong)


def test_a_column_that_changes_changes_the_split(dataset):
    moved = dataset.columns.item["year"].copy()
    moved[moved == "1950"] = "1999"
    changed = replace(dataset, columns=replace(dataset.columns, item={"year": moved}))
    config = ItemRangeSplit(**ERAS)
    assert make_split(dataset, config, seed=0).fingerprint != make_split(changed, config, seed=0).fingerprint
