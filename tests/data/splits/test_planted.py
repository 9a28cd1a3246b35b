from __future__ import annotations

import pytest

from painvrl.core.errors import ConfigError
from painvrl.data.sources.planted import PlantedConfig, read_planted
from painvrl.data.splits import PlantedSplit, make_split


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(planted_share=0.3)


def test_planted_ood_rows_are_those_of_the_truth(dataset, parts_of, pairs):
    split = make_split(dataset, PlantedSplit(), seed=0)
    parts = parts_of(split)
    trained = set(split.train.user.tolist())
    truth = {
        pair
        for pair, part in zip(pairs(dataset.interactions), dataset.truth.part.tolist(), strict=True)
        if part == 1 and pair[0] in trained
    }
    assert set(pairs(parts["ood_valid"])) | set(pairs(parts["ood_test"])) == truth
    assert abs(len(parts["ood_valid"]) - len(parts["ood_test"])) <= 1
    assert split.ood_valid.candidates.all()


def test_the_planted_reader_and_protocol_fit_each_other(parts_of):
    dataset = read_planted(PlantedConfig(n_users=30, n_items=60, interactions_per_environment=8), seed=0)
    parts = parts_of(make_split(dataset, PlantedSplit(), seed=0))
    assert len(parts["ood_valid"]) + len(parts["ood_test"]) == int((dataset.truth.part == 1).sum())
    assert sum(len(part) for part in parts.values()) == len(dataset.interactions)


def test_planted_needs_planted_data(make_dataset):
    with pytest.raises(ConfigError, match=r"split\.protocol: .*data\.kind: planted.*planted on toy"):
        make_split(make_dataset(), PlantedSplit(), seed=0)
