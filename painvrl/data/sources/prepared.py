"""Prepared data sets as arrays in the cache, so that a second start reads tensors and no tables."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.data.dataset import Dataset, Modality
from painvrl.data.interactions import Interactions


def store_dataset(cache: ArrayCache, key: str, dataset: Dataset) -> None:
    """Write everything of ``dataset`` (which has no planted truth) under ``key``."""
    arrays = {
        "user": dataset.interactions.user.numpy(),
        "item": dataset.interactions.item.numpy(),
        "user_ids": _pack_ids(dataset.user_ids),
        "item_ids": _pack_ids(dataset.item_ids),
        "titles": pack_text(dataset.titles),
        "labels": pack_text([dataset.name, dataset.fingerprint, *dataset.modalities]),
    }
    for index, modality in enumerate(dataset.modalities.values()):
        arrays[f"values.{index}"] = modality.values.numpy()
        arrays[f"present.{index}"] = modality.present.numpy()
    cache.store(key, arrays)


def load_dataset(cache: ArrayCache, key: str) -> Dataset | None:
    """The data set under ``key``, or None if it is not there or damaged."""
    arrays = cache.load(key)
    if arrays is None:
        return None
    try:
        name, fingerprint, *modalities = cast("list[str]", unpack_text(arrays["labels"]))
        titles = cast("list[str]", unpack_text(arrays["titles"]))
        user_ids, item_ids = _unpack_ids(arrays["user_ids"]), _unpack_ids(arrays["item_ids"])
        return Dataset(
            name=name,
            interactions=Interactions(
                user=torch.from_numpy(arrays["user"]),
                item=torch.from_numpy(arrays["item"]),
                n_users=len(user_ids),
                n_items=len(item_ids),
            ),
            user_ids=user_ids,
            item_ids=item_ids,
            titles=tuple(titles),
            modalities={
                modality: Modality(
                    values=torch.from_numpy(arrays[f"values.{index}"]),
                    present=torch.from_numpy(arrays[f"present.{index}"]),
                )
                for index, modality in enumerate(modalities)
            },
            fingerprint=fingerprint,
        )
    except (KeyError, ValueError):
        return None


def _pack_ids(ids: np.ndarray) -> np.ndarray:
    """Whole numbers as they are; texts as JSON, because NumPy strips trailing NULs of its own."""
    return ids if ids.dtype.kind == "i" else pack_text(ids.tolist())


def _unpack_ids(stored: np.ndarray) -> np.ndarray:
    if stored.dtype.kind == "i":
        return stored
    return np.array(cast("list[str]", unpack_text(stored)), dtype=np.str_)
