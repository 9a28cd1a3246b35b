"""Prepared data sets as arrays in the cache, so that a second start reads tensors and no tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch

from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.data.dataset import Columns, Dataset, Modality
from painvrl.data.interactions import Interactions
from painvrl.data.provenance import Provenance
from painvrl.data.sources.texts import as_objects

MAPPED_BYTES = 64 << 20
"""A matrix of at least that size is mapped from the cache, not read into memory."""


def store_dataset(cache: ArrayCache, key: str, dataset: Dataset) -> None:
    """Write everything of ``dataset`` (which has no planted truth) under ``key``."""
    arrays = {
        "user": dataset.interactions.user.numpy(),
        "item": dataset.interactions.item.numpy(),
        "user_ids": pack_text(dataset.user_ids.tolist()),
        "item_ids": pack_text(dataset.item_ids.tolist()),
        "provenance": pack_text(dataset.provenance.as_dict()),
        "titles": pack_text(dataset.titles),
        "labels": pack_text([dataset.name, dataset.fingerprint, *dataset.modalities]),
    }
    arrays |= _pack_columns(dataset.columns)
    for index, modality in enumerate(dataset.modalities.values()):
        arrays[f"values.{index}"] = modality.values.numpy()
        arrays[f"present.{index}"] = modality.present.numpy()
    large = [name for name, array in arrays.items() if array.nbytes >= MAPPED_BYTES]
    cache.store(key, arrays, beside=[name for name in large if name.startswith("values.")])


def load_dataset(cache: ArrayCache, key: str) -> Dataset | None:
    """The data set under ``key``, or None if it is not there or damaged."""
    arrays = cache.load(key)
    if arrays is None:
        return None
    try:
        name, fingerprint, *modalities = cast("list[str]", unpack_text(arrays["labels"]))
        titles = cast("list[str]", unpack_text(arrays["titles"]))
        user_ids, item_ids = (
            as_objects(cast("list[str]", unpack_text(arrays[name]))) for name in ("user_ids", "item_ids")
        )
        provenance = cast("dict[str, object]", unpack_text(arrays["provenance"]))
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
            columns=_unpack_columns(arrays),
            provenance=Provenance.from_dict(provenance),
            fingerprint=fingerprint,
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _pack_columns(columns: Columns) -> dict[str, np.ndarray]:
    """Every label once, and its number in each row: a text a row would take many times the room."""
    arrays = {} if columns.time is None else {"time": columns.time.numpy()}
    kinds = {"interaction": columns.interaction, "item": columns.item, "user": columns.user}
    arrays["columns"] = pack_text({kind: list(labels) for kind, labels in kinds.items()})
    arrays["contradictions"] = pack_text(dict(columns.contradictions))
    for kind, of_kind in kinds.items():
        for index, labels in enumerate(of_kind.values()):
            distinct, code = np.unique(labels, return_inverse=True)
            arrays[f"{kind}.{index}.labels"] = pack_text(distinct.tolist())
            arrays[f"{kind}.{index}.code"] = code.astype(np.int32)
    return arrays


def _unpack_columns(arrays: Mapping[str, np.ndarray]) -> Columns:
    names = cast("dict[str, list[str]]", unpack_text(arrays["columns"]))

    def labels(kind: str) -> dict[str, np.ndarray]:
        return {
            name: as_objects(cast("list[str]", unpack_text(arrays[f"{kind}.{index}.labels"])))[
                arrays[f"{kind}.{index}.code"]
            ]
            for index, name in enumerate(names[kind])
        }

    return Columns(
        time=torch.from_numpy(arrays["time"]) if "time" in arrays else None,
        interaction=labels("interaction"),
        item=labels("item"),
        user=labels("user"),
        contradictions=cast("dict[str, str]", unpack_text(arrays["contradictions"])),
    )
