from __future__ import annotations

import dataclasses

import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data.dataset import Columns, Dataset
from painvrl.data.splits import TemporalSplit, TemporalUserSplit, make_split


def times_of(dataset: Dataset, pairs) -> dict[tuple[int, int], float]:
    return dict(zip(pairs(dataset.interactions), dataset.columns.time.tolist(), strict=True))


def with_times(dataset: Dataset, time: torch.Tensor) -> Dataset:
    return dataclasses.replace(dataset, columns=dataclasses.replace(dataset.columns, time=time))


# ------------------------------------------------------------------------------------- temporal


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_ood_is_the_last_share_by_global_time(dataset, parts_of, pairs, share):
    time = times_of(dataset, pairs)
    parts = parts_of(make_split(dataset, TemporalSplit(ood_share=share, force=True), seed=0))
    ood = pairs(parts["ood_valid"]) + pairs(parts["ood_test"])
    before = pairs(parts["train"]) + pairs(parts["iid_valid"]) + pairs(parts["iid_test"])
    assert len(before) == 1500 - round(share * 1500)
    assert max(time[pair] for pair in before) <= min(time[pair] for pair in ood)
    assert max(time[p] for p in pairs(parts["ood_valid"])) <= min(time[p] for p in pairs(parts["ood_test"]))
    assert len(ood) // 2 == len(parts["ood_valid"])


def test_users_who_come_with_the_last_share_are_dropped(make_dataset, parts_of, pairs):
    dataset = make_dataset(n_users=100, n_items=50, n_rows=900)
    late = dataset.interactions.user >= 80  # their rows are the last
    dataset = with_times(dataset, dataset.columns.time + late * 1e9)
    share = float(late.double().mean()) + 0.1
    split = make_split(dataset, TemporalSplit(ood_share=share, force=True), seed=0)
    assert split.statistics.dropped_users == len(dataset.interactions.user[late].unique())
    parts = parts_of(split)
    assert all(user < 80 for part in parts.values() for user, _ in pairs(part))
    # The halves are those of the rows that are left.
    assert len(parts["ood_test"]) - len(parts["ood_valid"]) in (0, 1)


def test_items_that_come_with_the_last_share_stay_and_are_candidates(dataset, pairs):
    late = dataset.interactions.item >= 40
    dataset = with_times(dataset, dataset.columns.time + late * 1e9)
    split = make_split(dataset, TemporalSplit(ood_share=float(late.double().mean()), force=True), seed=0)
    assert set(split.ood_valid.interactions.item.tolist()).isdisjoint(split.train.item.tolist())
    assert split.ood_valid.candidates.all()


def test_rows_of_the_same_time_fall_to_either_side_by_the_seed_and_not_by_their_ids(dataset, pairs):
    same = with_times(dataset, torch.zeros(1500))
    total = torch.zeros(60)
    for seed in range(40):
        split = make_split(same, TemporalSplit(force=True), seed=seed)
        total += torch.bincount(split.ood_valid.interactions.user, minlength=60)
    # By the order of the rows, one end of the users would never be OOD.
    history = dataset.interactions.user_degree()
    assert (total > 0).all()
    share = total / history / 40
    assert abs(share - 0.1).max() < 0.1


def test_an_ood_part_of_too_few_users_is_refused_unless_forced(make_dataset, pairs):
    dataset = make_dataset(n_users=99, n_items=90, n_rows=3000)
    with pytest.raises(ConfigError) as caught:
        make_split(dataset, TemporalSplit(ood_share=0.3), seed=0)
    said = str(caught.value)
    assert said.startswith("split.ood_share: the last 0.3 of the interactions leave ood_valid too few users")
    assert "at least 100" in said
    assert "force: true" in said
    assert said.endswith("users')")
    make_split(dataset, TemporalSplit(ood_share=0.3, force=True), seed=0)
    enough = make_dataset(n_users=300, n_items=90, n_rows=6000)
    split = make_split(enough, TemporalSplit(ood_share=0.3), seed=0)
    assert len(split.ood_valid.interactions.user.unique()) >= 100


def test_too_few_users_of_the_test_part_alone_are_refused_too(make_dataset):
    dataset = make_dataset(n_users=300, n_items=90, n_rows=6000)
    data = dataset.interactions
    last = (data.user < 50) & (data.item % 2 == 0)  # the very last rows are of fifty users
    dataset = with_times(dataset, dataset.columns.time + last * 1e9)
    share = 2 * float(last.double().mean()) - 0.02
    with pytest.raises(ConfigError, match=r"leave ood_test too few users .*'\d\d users'"):
        make_split(dataset, TemporalSplit(ood_share=share), seed=0)


# -------------------------------------------------------------------------------- temporal_user


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_each_users_own_last_share_is_ood_the_earlier_half_of_it_valid(make_dataset, parts_of, pairs, share):
    dataset = make_dataset(n_users=150, n_items=60, n_rows=1200)
    dataset = with_times(dataset, torch.randperm(1200, generator=torch.Generator().manual_seed(1)).double())
    time = times_of(dataset, pairs)
    config = TemporalUserSplit(ood_share=share, iid_share=0.02)
    parts = {name: pairs(part) for name, part in parts_of(make_split(dataset, config, seed=0)).items()}
    sizes = set()
    for user in range(150):
        own = sorted((pair for pair in time if pair[0] == user), key=time.__getitem__)
        tail = min(max(1, int(share * len(own) + 0.5)), len(own) - 1) if len(own) >= 3 else 0
        ood = own[len(own) - tail :]
        valid = sorted((pair for pair in parts["ood_valid"] if pair[0] == user), key=time.__getitem__)
        test = sorted((pair for pair in parts["ood_test"] if pair[0] == user), key=time.__getitem__)
        assert valid + test == ood
        assert abs(len(valid) - len(test)) <= 1
        sizes.add(len(valid) - len(test))
    assert sizes >= {1, -1}  # the odd one goes either way


def test_users_with_a_single_ood_row_fall_into_both_parts_alike(make_dataset):
    dataset = make_dataset(n_users=400, n_items=60, n_rows=1600)
    split = make_split(dataset, TemporalUserSplit(ood_share=0.01, iid_share=0.05), seed=0)
    splits = {part.name: part for part in split.statistics.parts}
    users = splits["ood_valid"].users + splits["ood_test"].users
    assert splits["ood_valid"].interactions == splits["ood_valid"].users
    assert abs(splits["ood_valid"].users - users / 2) < 4 * (users / 4) ** 0.5


def test_a_share_that_rounds_to_a_whole_history_leaves_its_first_row(make_dataset):
    dataset = make_dataset(n_users=40)
    data = dataset.interactions
    kept = torch.cat([(data.user == user).nonzero()[: 3 if user < 5 else None, 0] for user in range(40)])
    short = dataclasses.replace(
        dataset, interactions=data.select(kept), columns=Columns(time=dataset.columns.time[kept])
    )
    split = make_split(short, TemporalUserSplit(ood_share=0.85, iid_share=0.02), seed=0)
    assert split.statistics.dropped_users == 0
    assert split.train.user_degree()[:5].tolist() == [1.0] * 5


def test_no_user_is_dropped(dataset, parts_of):
    split = make_split(dataset, TemporalUserSplit(ood_share=0.6, iid_share=0.1), seed=0)
    assert split.statistics.dropped_users == 0
    assert sum(len(part) for part in parts_of(split).values()) == 1500


def test_ties_of_a_user_are_cut_by_the_seed(dataset, pairs):
    same = dataclasses.replace(dataset, columns=Columns(time=torch.zeros(1500)))
    one, two = (make_split(same, TemporalUserSplit(), seed=seed) for seed in (0, 1))
    assert set(pairs(one.ood_valid.interactions)) != set(pairs(two.ood_valid.interactions))
