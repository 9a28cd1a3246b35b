"""Prepared data sets as arrays in the cache, so that a second start reads tensors and no tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from painvrl.core.device import is_out_of_memory
from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.data.dataset import Columns, Dataset, Modality
from painvrl.data.interactions import Interactions
from painvrl.data.provenance import Provenance
from painvrl.data.sources.texts import as_objects

MAPPED_BYTES = 64 << 20
"""A matrix of at least that size is mapped from the cache, not read into memory."""

_KINDS = ("interaction", "item", "user")
"""Of columns of labels."""


def store_dataset(cache: ArrayCache, key: str, dataset: Dataset) -> None:
    """Write everything of ``dataset`` (which has no planted truth) under ``key``."""
    data, columns = dataset.interactions, dataset.columns
    arrays = {"user": data.user.numpy(), "item": data.item.numpy()}
    if columns.time is not None:
        arrays["time"] = columns.time.numpy()
    for index, modality in enumerate(dataset.modalities.values()):
        arrays[f"values.{index}"] = modality.values.numpy()
        arrays[f"present.{index}"] = modality.present.numpy()
    large = [f"values.{index}" for index in range(len(dataset.modalities))]
    large = [name for name in large if arrays[name].nbytes >= MAPPED_BYTES]
    texts: dict[str, object] = {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "modalities": list(dataset.modalities),
        "user_ids": dataset.user_ids.tolist(),
        "item_ids": dataset.item_ids.tolist(),
        "titles": dataset.titles,
        "provenance": asdict(dataset.provenance),
        "contradictions": dict(columns.contradictions),
    }
    for kind in _KINDS:
        # Every label once, and its number in each row: a text a row would take many times the room.
        of_kind: Mapping[str, np.ndarray] = getattr(columns, kind)
        coded = [np.unique(labels, return_inverse=True) for labels in of_kind.values()]
        texts[kind] = [(name, distinct.tolist()) for name, (distinct, _) in zip(of_kind, coded, strict=True)]
        arrays |= {f"{kind}.{index}": code.astype(np.int32) for index, (_, code) in enumerate(coded)}
    cache.store(key, {**arrays, "texts": pack_text(texts)}, beside=large)


def load_dataset(cache: ArrayCache, key: str) -> Dataset | None:
    """The data set under ``key``, or None if it is not there or damaged."""
    arrays = cache.load(key)
    if arrays is None:
        return None
    try:
        texts: Any = unpack_text(arrays.pop("texts"))
        columns = {
            kind: {
                name: as_objects(distinct)[arrays[f"{kind}.{index}"]]
                for index, (name, distinct) in enumerate(texts[kind])
            }
            for kind in _KINDS
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Dataset(
            name=texts["name"],
            interactions=Interactions(
                user=tensors["user"],
                item=tensors["item"],
                n_users=len(texts["user_ids"]),
                n_items=len(texts["item_ids"]),
            ),
            user_ids=as_objects(texts["user_ids"]),
            item_ids=as_objects(texts["item_ids"]),
            titles=tuple(texts["titles"]),
            modalities={
                name: Modality(values=tensors[f"values.{index}"], present=tensors[f"present.{index}"])
                for index, name in enumerate(texts["modalities"])
            },
            columns=Columns(time=tensors.get("time"), contradictions=texts["contradictions"], **columns),
            provenance=TypeAdapter(Provenance).validate_python(texts["provenance"]),
            fingerprint=texts["fingerprint"],
        )
    except Exception as error:  # its parts are whole, and do not fit together
        if is_out_of_memory(error):
            raise
        cache.note_damage(key, error)
        return None
