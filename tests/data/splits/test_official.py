from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data.dataset import Dataset
from painvrl.data.splits import OfficialSplit, PopularitySplit, make_split

POPULARITY = OfficialSplit.model_validate(
    {"column": "official", "ood": {"protocol": "popularity", "gamma": 1.5, "ood_share": 0.2}}
)
COLD = OfficialSplit.model_validate(
    {"column": "official", "ood": {"protocol": "cold_item", "item_share": 0.3}}
)


def official(dataset: Dataset, pairs, label: str) -> set[tuple[int, int]]:
    labels = dataset.columns.interaction["official"].tolist()
    return {pair for pair, own in zip(pairs(dataset.interactions), labels, strict=True) if own == label}


def test_the_files_valid_and_test_rows_are_the_iid_parts(dataset, parts_of, pairs):
    split = make_split(dataset, POPULARITY, seed=0)
    parts = {name: set(pairs(part)) for name, part in parts_of(split).items()}
    warm = set(split.train.item.tolist())
    for name, label in (("iid_valid", "valid"), ("iid_test", "test")):
        wanted = official(dataset, pairs, label)
        assert parts[name] == {pair for pair in wanted if pair[1] in warm}
    train = official(dataset, pairs, "train")
    assert parts["train"] | parts["ood_valid"] | parts["ood_test"] == train
    assert len(parts["ood_valid"]) + len(parts["ood_test"]) == round(0.2 * len(train))


def test_ood_rows_are_those_that_the_rule_takes_from_the_train_rows_alone(dataset, parts_of, pairs):
    rows = torch.from_numpy(dataset.columns.interaction["official"] == "train")
    alone = dataclasses.replace(dataset, interactions=dataset.interactions.select(rows))
    columns = dataclasses.replace(dataset.columns, time=None, interaction={})
    alone = dataclasses.replace(alone, columns=columns)
    config = PopularitySplit(gamma=1.5, ood_share=0.2, iid_share=0.1)
    expected = parts_of(make_split(alone, config, seed=4))
    found = parts_of(make_split(dataset, POPULARITY, seed=4))
    for name in ("ood_valid", "ood_test"):
        assert pairs(found[name]) == pairs(expected[name])


def test_held_out_items_take_their_rows_of_the_files_other_parts_along(dataset, parts_of, pairs):
    split = make_split(dataset, COLD, seed=0)
    parts = {name: set(part.item.tolist()) for name, part in parts_of(split).items()}
    assert not (parts["train"] | parts["iid_valid"] | parts["iid_test"]) & (
        parts["ood_valid"] | parts["ood_test"]
    )
    assert not parts["ood_valid"] & parts["ood_test"]
    ood = {pair for name in ("ood_valid", "ood_test") for pair in pairs(parts_of(split)[name])}
    assert ood & official(dataset, pairs, "test")
    assert ood == {
        pair for pair in pairs(dataset.interactions) if pair[1] in parts["ood_valid"] | parts["ood_test"]
    }
    assert split.ood_valid.held_out


def test_graded_popularity_works_on_an_official_split(dataset):
    config = OfficialSplit.model_validate(
        {"column": "official", "ood": {"protocol": "popularity", "gamma": [0.0, 2.0]}}
    )
    split = make_split(dataset, config, seed=0)
    assert config.ood_names() == ("ood_gamma_0", "ood_gamma_2") == tuple(split.valid)[1:]
    popularity = {part.name: part.mean_popularity for part in split.statistics.parts}
    assert popularity["ood_gamma_2_valid"] < 0.8 * popularity["ood_gamma_0_valid"]


def test_other_labels_are_one_refusal(dataset):
    labels = dataset.columns.interaction["official"].astype("<U9")
    labels[:3], labels[5] = "val", "holdout"
    columns = dataclasses.replace(dataset.columns, interaction={"official": labels})
    with pytest.raises(
        ConfigError, match=r"split\.column: labels of the column official must be train, valid and test; "
    ) as caught:
        make_split(dataclasses.replace(dataset, columns=columns), POPULARITY, seed=0)
    assert "'holdout', 'val'" in caught.value.value


def test_a_share_beyond_what_the_core_leaves_is_refused(make_dataset):
    sparse = make_dataset(n_users=100, n_items=80, n_rows=220)
    config = OfficialSplit.model_validate(
        {"column": "official", "ood": {"protocol": "popularity", "ood_share": 0.9}}
    )
    with pytest.raises(ConfigError, match=r"split: ood_share asks for \d+ interactions, but the core"):
        make_split(sparse, config, seed=0)


def test_a_missing_part_of_the_files_is_refused_by_name(dataset):
    labels = dataset.columns.interaction["official"]
    labels = np.where(labels == "valid", "train", labels)
    columns = dataclasses.replace(dataset.columns, interaction={"official": labels})
    with pytest.raises(ConfigError, match="leaves iid_valid without"):
        make_split(dataclasses.replace(dataset, columns=columns), POPULARITY, seed=0)
