from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from painvrl.data.features import FeatureConfig
from painvrl.data.inspection import SHARES, inspect
from painvrl.data.smooth import Smooth
from painvrl.data.splits import ColdItemSplit, make_split


@pytest.fixture
def found(make_dataset):
    dataset = make_dataset()
    modality = dataset.modalities["m"]
    present = torch.arange(len(dataset.item_ids)) % 3 > 0
    dataset = replace(dataset, modalities={"m": replace(modality, present=present)})
    split = make_split(dataset, ColdItemSplit(ood_candidates="all"), seed=1)
    return dataset, split, inspect(dataset, split)


def test_the_popularity_curve_is_the_share_of_the_most_popular_items(found):
    _, split, said = found
    parts = {"train": split.train, **{part.name: part.interactions for part in split.valid.values()}}
    taken = Counter(item for part in parts.values() for item in part.item.tolist())
    ranked = sorted(taken, key=lambda item: (-taken[item], item))
    for name, part in parts.items():
        items = part.item.tolist()
        for share, value in zip(SHARES, said.popularity[name], strict=True):
            top = set(ranked[: max(1, round(share * len(ranked)))])
            assert value == pytest.approx(sum(item in top for item in items) / len(items))
    assert list(said.popularity) == ["train", "iid_valid", "ood_valid"], "no test part"
    assert said.popularity["ood_valid"][-1] == 1.0


def test_missing_modalities_are_counted_in_items_and_in_interactions(found):
    dataset, split, said = found
    (one,) = said.modalities
    lacks = [item % 3 == 0 for item in range(len(dataset.item_ids))]
    assert (one.name, one.width, one.missing, said.undescribed) == ("m", 3, sum(lacks), sum(lacks))
    rows = [lacks[item] for item in split.train.item.tolist()]
    assert one.missing_interactions == pytest.approx(sum(rows) / len(rows))


def test_figures_for_programs_are_json(found):
    *_, said = found
    tree = json.loads(said.as_json())
    assert tree["shares"] == list(SHARES)
    assert tree["statistics"]["parts"][0]["name"] == "train"


def test_smooth_columns_are_listed_and_decoys_describe_no_item(found):
    dataset, split, before = found
    years = np.array([str(1900 + place) if place % 2 else "" for place in range(len(dataset.item_ids))])
    dataset = replace(dataset, columns=replace(dataset.columns, item={"year": years.astype(object)}))
    features = FeatureConfig(smooth={"year": Smooth(width=5)}, decoys={"noise": 2})
    said = inspect(dataset, split, features)
    assert [one.name for one in said.modalities] == ["m", "year", "noise"]
    assert said.modalities[0] == before.modalities[0]
    assert said.modalities[1].missing == sum(not year for year in years)
    assert said.modalities[2].missing == 0
    assert said.undescribed == sum(place % 3 == 0 and not year for place, year in enumerate(years))
