"""The rows of the splits that results were published with stay the same, and so do their access logs' keys.

They ranked IID rows among warm items.
"""

from __future__ import annotations

import pytest

from painvrl.data.digest import digest_of
from painvrl.data.guard import AccessLog
from painvrl.data.sources.planted import PlantedConfig, read_planted
from painvrl.data.splits import ColdItemSplit, PlantedSplit, PopularitySplit, make_split

SPLITS = [
    (PopularitySplit(), "popularity"),
    (PopularitySplit(gamma=0.0, ood_share=0.11, iid_share=0.3), "popularity flat"),
    (PopularitySplit(gamma=2.5, ood_share=0.3, iid_share=0.07), "popularity steep"),
    (ColdItemSplit(), "cold_item"),
    (
        ColdItemSplit(item_share=0.4, iid_share=0.11, ood_candidates="all", iid_candidates="warm"),
        "cold_item among all",
    ),
    (PlantedSplit(iid_candidates="warm"), "planted"),
    (PlantedSplit(iid_share=0.31, iid_candidates="warm"), "planted more iid"),
]
DIGESTS = {
    "popularity": "bcce0a3d2170ca467e7e887ff4c50373",
    "popularity flat": "1ad22ae53167c8ef44ff05cf59831d0d",
    "popularity steep": "8e38f0d5165c7348fa6e7c4a7ebd7dae",
    "cold_item": "348f639e716777ca3a2ec0f10b0202ed",
    "cold_item among all": "f8358df7b90deaf2d0defc9df7eac7a6",
    "planted": "7a65c51e996c3d41784b30aa67a5b35b",
    "planted more iid": "7a71c60182dd1e51fd54d437b97cbe3e",
}


@pytest.mark.parametrize(("config", "name"), SPLITS, ids=[name for _, name in SPLITS])
def test_rows_candidates_and_fingerprints_are_what_they_were(config, name, make_dataset, tmp_path):
    found = []
    for seed, dataset in (
        (0, make_dataset(planted_share=0.3)),
        (7, make_dataset(n_users=150, n_items=60, n_rows=900, seed=4, planted_share=0.2)),
        (1, read_planted(PlantedConfig(n_users=40, n_items=70, interactions_per_environment=8), seed=1)),
    ):
        split = make_split(dataset, config, seed=seed)
        test = split.sealed.open(AccessLog(tmp_path / "reads"), "the pin")
        found += [split.train.user.numpy(), split.train.item.numpy(), split.sealed.fingerprint]
        for part in (split.iid_valid, split.ood_valid, test.iid_test, test.ood_test):
            found += [part.name, part.interactions.user.numpy(), part.interactions.item.numpy()]
            found += [part.candidates.numpy()]
    assert digest_of(*found) == DIGESTS[name]
