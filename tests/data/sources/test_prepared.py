"""A data set comes back from the cache as it went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Columns, Dataset, Modality
from painvrl.data.interactions import Interactions
from painvrl.data.provenance import Join, Provenance, Removal
from painvrl.data.sources import prepared
from painvrl.data.sources.prepared import load_dataset, store_dataset

PROVENANCE = Provenance(
    joins=(
        Join(
            name="image",
            key="data.files.image",
            of="items",
            total=2,
            matched=1,
            rows=3,
            rows_filtered=1,
            rows_unmatched=1,
            largest_column="0",
            largest_share=0.75,
        ),
    ),
    removals=(
        Removal(
            name="data.core",
            rule="keep much",
            users=1,
            items=0,
            interactions=2,
            users_before=3,
            items_before=2,
            interactions_before=5,
        ),
    ),
    notes=("a",),
    findings=("b",),
)


def dataset(user_ids: np.ndarray, columns: Columns | None = None) -> Dataset:
    return Dataset(
        name="shop",
        interactions=Interactions(
            user=torch.tensor([0, 1, 1]), item=torch.tensor([1, 0, 1]), n_users=2, n_items=2
        ),
        user_ids=user_ids,
        item_ids=np.array([7, 9]),
        titles=("Amélie", ""),
        modalities={
            "image": Modality(
                values=torch.tensor([[0.1, -2.0], [0.0, 0.0]]), present=torch.tensor([True, False])
            )
        },
        columns=columns or Columns(),
        provenance=PROVENANCE,
        fingerprint="f00d",
    )


@pytest.mark.parametrize("ids", [np.array([3, 5]), np.array(["ann", "bob\0"])])
def test_a_stored_data_set_comes_back_whole(tmp_path: Path, ids: np.ndarray) -> None:
    cache, stored = ArrayCache(tmp_path), dataset(ids)
    store_dataset(cache, "key", stored)
    loaded = load_dataset(cache, "key")
    assert loaded is not None
    assert torch.equal(loaded.interactions.user, stored.interactions.user)
    assert torch.equal(loaded.interactions.item, stored.interactions.item)
    assert (loaded.interactions.n_users, loaded.interactions.n_items) == (2, 2)
    assert loaded.item_ids.tolist() == [7, 9]
    assert loaded.titles == stored.titles
    assert (loaded.name, loaded.fingerprint) == ("shop", "f00d")
    assert loaded.provenance == PROVENANCE
    assert torch.equal(loaded.modalities["image"].values, stored.modalities["image"].values)
    assert torch.equal(loaded.modalities["image"].present, stored.modalities["image"].present)


def test_columns_come_back_with_their_rows(tmp_path: Path) -> None:
    columns = Columns(
        time=torch.tensor([3.5, 1.0, 2.0], dtype=torch.float64),
        interaction={"part": np.array(["train", "", "ood_valid"]), "week": np.array(["7", "7", "7"])},
        item={"genre": np.array(["ß", "b"])},
        user={"city": np.array(["", ""])},
    )
    cache = ArrayCache(tmp_path)
    store_dataset(cache, "key", dataset(np.array([3, 5]), columns))
    loaded = load_dataset(cache, "key")
    assert loaded is not None
    assert torch.equal(loaded.columns.time, columns.time)
    for kind in ("interaction", "item", "user"):
        stored, found = getattr(columns, kind), getattr(loaded.columns, kind)
        assert {name: labels.tolist() for name, labels in found.items()} == {
            name: labels.tolist() for name, labels in stored.items()
        }
    store_dataset(cache, "bare", dataset(np.array([3, 5])))
    bare = load_dataset(cache, "bare")
    assert bare is not None
    assert bare.columns == Columns()


def test_what_was_not_stored_is_not_there(tmp_path: Path) -> None:
    assert load_dataset(ArrayCache(tmp_path), "key") is None


def test_an_entry_that_lacks_an_array_is_not_there(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    cache.store("key", {"user": np.array([0])})
    assert load_dataset(cache, "key") is None


def test_large_matrices_are_mapped_and_small_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, stored = ArrayCache(tmp_path), dataset(np.array([3, 5]))
    store_dataset(cache, "small", stored)
    monkeypatch.setattr(prepared, "MAPPED_BYTES", 16)
    store_dataset(cache, "large", stored)
    assert {path.name for path in tmp_path.iterdir()} == {"small.npz", "large.npz", "large.values.0.npy"}
    loaded = load_dataset(cache, "large")
    assert loaded is not None
    assert torch.equal(loaded.modalities["image"].values, stored.modalities["image"].values)


def test_a_full_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArrayCache(tmp_path)
    store_dataset(cache, "k", dataset(np.array(["a", "b"])))

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(prepared, "as_objects", full)
    with pytest.raises(MemoryError):
        load_dataset(cache, "k")
