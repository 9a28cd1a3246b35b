from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from painvrl.core.errors import ConfigError
from painvrl.data.dataset import Dataset, Modality
from painvrl.data.splits import ItemGroupSplit, UserGroupSplit, make_split
from painvrl.data.splits.clusters import k_means
from painvrl.data.splits.held_out import held_out_members

GENRES = ItemGroupSplit(column="genre")
CITIES = UserGroupSplit(column="city")


def relabelled(dataset: Dataset, *, genre=None, city=None) -> Dataset:
    columns = dataset.columns
    return dataclasses.replace(
        dataset,
        columns=dataclasses.replace(
            columns,
            item=columns.item if genre is None else {"genre": np.array(genre)},
            user=columns.user if city is None else {"city": np.array(city)},
        ),
    )


def groups_of(part, labels) -> set[str]:
    return set(labels[part.unique().numpy()].tolist())


# ----------------------------------------------------------------------------------- item_group


def test_held_out_groups_are_in_no_part_but_their_own(dataset, parts_of):
    labels = dataset.columns.item["genre"]
    for seed in range(5):
        parts = parts_of(make_split(dataset, GENRES, seed=seed))
        groups = {name: groups_of(part.item, labels) for name, part in parts.items()}
        warm = groups["train"] | groups["iid_valid"] | groups["iid_test"]
        assert not warm & (groups["ood_valid"] | groups["ood_test"])
        assert not groups["ood_valid"] & groups["ood_test"]


def test_named_groups_are_held_out_with_all_their_interactions(dataset, parts_of):
    labels = dataset.columns.item["genre"]
    split = make_split(dataset, ItemGroupSplit(column="genre", hold_out=("b", "g", "h")), seed=0)
    parts = parts_of(split)
    assert groups_of(parts["ood_valid"].item, labels) | groups_of(parts["ood_test"].item, labels) == set(
        "bgh"
    )
    held = torch.from_numpy(np.isin(labels, list("bgh")))[dataset.interactions.item]
    trained = split.train.user_degree() > 0
    expected = int((held & trained[dataset.interactions.user]).sum())
    assert len(parts["ood_valid"]) + len(parts["ood_test"]) == expected


def test_ood_is_ranked_among_all_held_out_items_or_among_all(dataset, tests_of):
    labels = dataset.columns.item["genre"]
    config = ItemGroupSplit(column="genre", hold_out=("b", "g"))
    split = make_split(dataset, config, seed=0)
    expected = torch.from_numpy(np.isin(labels, ["b", "g"]))
    for part in (split.ood_valid, tests_of(split)["ood"]):
        assert torch.equal(part.candidates, expected)
        assert part.held_out
    among_all = make_split(dataset, config.model_copy(update={"ood_candidates": "all"}), seed=0)
    assert among_all.ood_valid.candidates.all()
    assert not among_all.ood_valid.held_out


def test_groups_are_drawn_until_they_hold_the_share_of_the_items(make_dataset):
    dataset = make_dataset(n_users=100, n_items=400, n_rows=4000)
    dataset = relabelled(dataset, genre=[f"g{index % 40}" for index in range(400)])
    known = int((dataset.interactions.item_degree() > 0).sum())
    held, chosen = [], set()
    for share in (0.1, 0.2, 0.4):
        split = make_split(dataset, ItemGroupSplit(column="genre", share=share), seed=0)
        items = int((split.ood_valid.candidates & (dataset.interactions.item_degree() > 0)).sum())
        assert share * known <= items <= share * known + 10
        held.append(items)
        chosen |= groups_of(split.ood_valid.interactions.item, dataset.columns.item["genre"])
    assert held == sorted(held)
    others = make_split(dataset, ItemGroupSplit(column="genre", share=0.1), seed=1)
    assert not groups_of(others.ood_valid.interactions.item, dataset.columns.item["genre"]) <= chosen


def test_a_group_larger_than_the_share_is_passed_over(make_dataset):
    dataset = make_dataset(n_users=100, n_items=200, n_rows=3000)
    labels = ["huge" if index % 4 else f"small {index // 4 % 10}" for index in range(200)]
    dataset = relabelled(dataset, genre=labels)
    for seed in range(5):
        split = make_split(dataset, ItemGroupSplit(column="genre", share=0.1), seed=seed)
        held = split.ood_valid.candidates.numpy()
        assert "huge" not in set(np.array(labels)[held])


def test_a_group_that_would_leave_no_room_for_another_is_passed_over(make_dataset):
    dataset = make_dataset(n_users=100, n_items=200, n_rows=3000)
    labels = ["large" if index % 5 == 0 else f"small {index % 20}" for index in range(200)]
    dataset = relabelled(dataset, genre=labels)
    for seed in range(10):
        held = make_split(dataset, GENRES, seed=seed).ood_valid.candidates.numpy()
        assert len(set(np.array(labels)[held])) >= 4


def test_the_largest_groups_are_dealt_first():
    labels, degree = np.array(["a", *"bcdef"]), torch.tensor([100.0, 20, 20, 20, 20, 20])
    sides = set()
    for seed in range(12):
        choice = ItemGroupSplit(column="genre", hold_out=tuple("fedcba"))
        valid, test = held_out_members(choice, labels, degree, seed)
        assert (valid ^ test).all()
        assert int(valid.sum()) in (1, 5)
        sides.add(bool(valid[0]))
    assert sides == {True, False}


def test_both_halves_have_about_as_many_interactions(make_dataset, parts_of):
    dataset = make_dataset(n_users=200, n_items=300, n_rows=6000)
    dataset = relabelled(dataset, genre=[f"g{index % 30}" for index in range(300)])
    for seed in range(4):
        parts = parts_of(make_split(dataset, ItemGroupSplit(column="genre", share=0.3), seed=seed))
        valid, test = len(parts["ood_valid"]), len(parts["ood_test"])
        assert abs(valid - test) < 0.2 * (valid + test)


def test_items_without_a_label_are_never_held_out(make_dataset):
    dataset = relabelled(
        make_dataset(), genre=["" if index % 2 else "abcdef"[index % 6] for index in range(90)]
    )
    for seed in range(4):
        held = make_split(dataset, ItemGroupSplit(column="genre", share=0.3), seed=seed).ood_valid.candidates
        assert not held[1::2].any()


def test_an_unknown_group_is_refused_with_those_that_exist(dataset):
    config = ItemGroupSplit(column="genre", hold_out=("b", "zz"))
    with pytest.raises(ConfigError, match=r"split\.hold_out: there is no such group; there are a, b, .*'zz'"):
        make_split(dataset, config, seed=0)


def test_an_unknown_column_is_refused_with_those_that_exist(dataset):
    with pytest.raises(
        ConfigError, match=r"split\.column: .* of its items; it has genre, year \(found 'gerne'\)"
    ):
        make_split(dataset, ItemGroupSplit(column="gerne"), seed=0)
    with pytest.raises(ConfigError, match=r"split\.column: .* of its users; it has city \(found 'genre'\)"):
        make_split(dataset, UserGroupSplit(column="genre"), seed=0)


def test_groups_that_do_not_fit_the_share_are_refused(make_dataset):
    dataset = relabelled(make_dataset(), genre=["x" if index % 2 else "y" for index in range(90)])
    with pytest.raises(ConfigError, match=r"split\.share: of 2 groups fewer than 2 hold at most 75% of"):
        make_split(dataset, GENRES, seed=0)


@pytest.mark.parametrize("hold_out", [("a",), ("a", "a"), ("a", "")])
def test_fewer_than_two_named_groups_are_refused(hold_out):
    with pytest.raises(ValidationError, match="at least 2 different groups"):
        ItemGroupSplit(column="genre", hold_out=hold_out)


# ------------------------------------------------------------------------------------- clusters


def blobs(dataset: Dataset, count: int) -> tuple[Dataset, torch.Tensor]:
    """Features in ``count`` far directions, and which of them each item has; the last two items have none."""
    blob = torch.arange(90) % count
    spread = 0.05 * torch.randn(90, count + 2, generator=torch.Generator().manual_seed(0))
    values = torch.eye(count, count + 2)[blob] + spread
    present = torch.ones(90, dtype=torch.bool)
    present[-2:] = False
    values[-2:] = 0
    modality = Modality(values=values, present=present)
    return dataclasses.replace(dataset, modalities={"look": modality}), blob


def test_content_clusters_are_held_out_whole(make_dataset, parts_of):
    dataset, blob = blobs(make_dataset(), 9)
    for seed in range(4):
        config = ItemGroupSplit(clusters=9, share=0.3)
        split = make_split(dataset, config, seed=seed)
        held = split.ood_valid.candidates
        assert not held[-2:].any()
        for group in range(9):
            members = held[:-2][blob[:-2] == group]
            assert members.all() or not members.any()
        parts = parts_of(split)
        sides = [set(blob[parts[name].item].tolist()) for name in ("ood_valid", "ood_test")]
        assert not sides[0] & sides[1]


def test_k_means_finds_clusters_that_no_single_move_betters():
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    label = k_means(rows, 5, torch.Generator().manual_seed(1))
    centres = torch.stack([rows[label == group].mean(dim=0) for group in range(5)])
    assert torch.equal(torch.cdist(rows, centres).argmin(dim=1), label)


def test_k_means_survives_rows_that_are_all_alike():
    label = k_means(torch.ones(7, 2, dtype=torch.float64), 4, torch.Generator().manual_seed(0))
    assert label.shape == (7,)


def test_more_clusters_than_items_with_a_feature_are_refused(make_dataset):
    dataset, _ = blobs(make_dataset(), 9)
    with pytest.raises(ConfigError, match=r"split\.clusters: must be at most .*'89 for 88 items'"):
        make_split(dataset, ItemGroupSplit(clusters=89), seed=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, r"either column or clusters \(found neither\)"),
        ({"column": "genre", "clusters": 5}, r"either column or clusters \(found both\)"),
        ({"clusters": 5, "hold_out": ("1", "2")}, "clusters have no names"),
        ({"clusters": 2}, "greater than or equal to 3"),
    ],
)
def test_groups_of_items_come_from_one_source(settings, said):
    with pytest.raises(ValidationError, match=said):
        ItemGroupSplit(**settings)


# ----------------------------------------------------------------------------------- user_group


def test_held_out_users_are_seen_in_their_support_and_their_own_part_only(dataset, parts_of):
    labels = dataset.columns.user["city"]
    for seed in range(5):
        parts = parts_of(make_split(dataset, CITIES, seed=seed))
        users = {name: set(part.user.tolist()) for name, part in parts.items()}
        groups = {name: groups_of(part.user, labels) for name, part in parts.items()}
        trained = users["train"] | users["iid_valid"] | users["iid_test"]
        held = users["ood_valid"] | users["ood_test"]
        assert not trained & (held | users["support"])
        assert held <= users["support"]
        assert not groups["ood_valid"] & groups["ood_test"]
        assert "" not in groups["support"]


def test_the_support_is_the_larger_half_of_each_held_out_users_history(dataset, parts_of, pairs):
    split = make_split(dataset, CITIES, seed=0)
    parts = parts_of(split)
    support = torch.bincount(parts["support"].user, minlength=60)
    shifted = torch.bincount(torch.cat([parts["ood_valid"].user, parts["ood_test"].user]), minlength=60)
    history = torch.bincount(dataset.interactions.user, minlength=60)
    held = support > 0
    assert held.any()
    assert torch.equal(support[held], (history[held] + 1) // 2)
    assert torch.equal((support + shifted)[held], history[held])
    assert not shifted[~held].any()


def test_the_halves_of_a_history_are_drawn_at_random(dataset, pairs):
    config = UserGroupSplit(column="city", hold_out=("A", "B"))
    one, two = (make_split(dataset, config, seed=seed) for seed in (0, 1))
    assert set(one.support.user.tolist()) == set(two.support.user.tolist())
    assert set(pairs(one.support)) != set(pairs(two.support))


def test_groups_are_drawn_until_they_hold_the_share_of_the_users(make_dataset, parts_of):
    dataset = make_dataset(n_users=400, n_items=100, n_rows=4000)
    dataset = relabelled(dataset, city=[f"c{index % 40}" for index in range(400)])
    known = int((dataset.interactions.user_degree() > 0).sum())
    held, rows, chosen = [], [], set()
    for share in (0.1, 0.2, 0.4):
        split = make_split(dataset, UserGroupSplit(column="city", share=share), seed=0)
        parts = parts_of(split)
        users = len(split.support.user.unique())
        assert share * known <= users <= share * known + 10
        held.append(users)
        rows.append(len(parts["ood_valid"]) + len(parts["ood_test"]))
        chosen |= groups_of(split.support.user, dataset.columns.user["city"])
    assert held == sorted(set(held))
    assert rows == sorted(set(rows)), "and the more of them, the more OOD rows"
    others = make_split(dataset, UserGroupSplit(column="city", share=0.1), seed=1)
    assert not groups_of(others.support.user, dataset.columns.user["city"]) <= chosen


def test_named_user_groups_are_held_out(dataset):
    labels = dataset.columns.user["city"]
    split = make_split(dataset, UserGroupSplit(column="city", hold_out=("C", "E")), seed=0)
    assert groups_of(split.support.user, labels) == {"C", "E"}
    assert not groups_of(split.train.user, labels) & {"C", "E"}
    assert split.ood_valid.candidates.all()
