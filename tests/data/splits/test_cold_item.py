from __future__ import annotations

import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data.guard import AccessLog
from painvrl.data.splits import ColdItemSplit, make_split


def test_cold_items_are_in_no_part_but_their_own(dataset, parts_of):
    for seed in range(5):
        parts = {
            k: set(v.item.tolist())
            for k, v in parts_of(make_split(dataset, ColdItemSplit(), seed=seed)).items()
        }
        warm = parts["train"] | parts["iid_valid"] | parts["iid_test"]
        assert not warm & (parts["ood_valid"] | parts["ood_test"])
        assert not parts["ood_valid"] & parts["ood_test"]
        assert parts["iid_valid"] | parts["iid_test"] <= parts["train"]


def test_all_interactions_of_a_held_out_item_are_ood(dataset, parts_of):
    split = make_split(dataset, ColdItemSplit(), seed=0)
    parts = parts_of(split)
    cold = split.ood_valid.candidates[dataset.interactions.item]
    trained = split.train.user_degree() > 0
    expected = int((cold & trained[dataset.interactions.user]).sum())
    assert len(parts["ood_valid"]) + len(parts["ood_test"]) == expected


def test_a_share_of_the_items_is_held_out_and_both_halves_are_candidates(dataset, tmp_path):
    known = int((dataset.interactions.item_degree() > 0).sum())
    split = make_split(dataset, ColdItemSplit(item_share=0.4), seed=0)
    test = split.sealed.open(AccessLog(tmp_path / "reads"), "test")
    assert int(split.ood_valid.candidates.sum()) == round(0.4 * known)
    assert torch.equal(split.ood_valid.candidates, test.ood_test.candidates)
    assert not (split.ood_valid.candidates & split.iid_valid.candidates).any()
    held_out = torch.zeros_like(split.ood_valid.candidates)
    for part in (split.ood_valid, test.ood_test):
        held_out[part.interactions.item] = True
    assert torch.equal(held_out & split.ood_valid.candidates, held_out)


def test_cold_items_can_be_ranked_among_all_items(dataset, parts_of, pairs):
    held_out = make_split(dataset, ColdItemSplit(), seed=0)
    among_all = make_split(dataset, ColdItemSplit(ood_candidates="all"), seed=0)
    assert among_all.ood_valid.candidates.all()
    assert pairs(among_all.ood_valid.interactions) == pairs(held_out.ood_valid.interactions)


def test_every_user_with_a_warm_interaction_trains_on_one(make_dataset):
    sparse = make_dataset(n_users=120, n_items=30, n_rows=300)
    data = sparse.interactions
    dropped = 0
    for seed in range(8):
        split = make_split(sparse, ColdItemSplit(item_share=0.5, iid_share=0.1), seed=seed)
        warm = ~split.ood_valid.candidates[data.item]
        reachable = data.select(warm).user_degree() > 0
        assert torch.equal(split.train.user_degree() > 0, reachable)
        assert split.statistics.dropped_users == int((~reachable & (data.user_degree() > 0)).sum())
        assert split.statistics.dropped_interactions == int((~reachable[data.user]).sum())
        dropped += split.statistics.dropped_users
    assert dropped > 0


def test_too_few_items_for_two_halves_are_reported(make_dataset):
    small = make_dataset(n_users=20, n_items=5, n_rows=40)
    with pytest.raises(ConfigError, match=r"split\.item_share: .*at least 2 items.*0\.2 of 5 items"):
        make_split(small, ColdItemSplit(item_share=0.2), seed=0)


def test_an_iid_share_beyond_the_warm_rows_is_reported(dataset):
    with pytest.raises(ConfigError, match=r"split\.iid_share: .*of 1500"):
        make_split(dataset, ColdItemSplit(item_share=0.5, iid_share=0.9), seed=0)
