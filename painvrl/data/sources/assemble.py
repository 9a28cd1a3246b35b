"""From raw rows to a data set: the path that all real data take.

Ids, duplicates, the rating threshold, the core, and the join of the modalities are the same for
MovieLens and for the user's own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, field_validator

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Columns, Dataset
from painvrl.data.digest import dataset_fingerprint
from painvrl.data.interactions import Interactions
from painvrl.data.sources.items import (
    ItemDescriptions,
    described_modalities,
    has_every_modality,
    joined,
    labels_at,
    numbered,
    titles_of,
)
from painvrl.data.sources.modality_file import KeyedValues, ModalityFile, read_modality
from painvrl.data.sources.rows import RawInteractions, core_rows
from painvrl.errors import DataError
from painvrl.settings import Settings

T = TypeVar("T")


class SourceConfig(Settings):
    """What real data have in common.

    ``min_rating``: keep interactions rated at least that high (``null``: all of them).
    ``core``: keep users and items with at least that many interactions, repeated until nothing
    changes (1: keep all). ``items: with_every_modality`` keeps items that have every modality,
    before the core; ``all`` gives the others rows of zeros. ``files``: further modalities by name.
    """

    min_rating: float | None = None
    core: int = Field(default=5, ge=1)
    items: Literal["all", "with_every_modality"] = "all"
    files: dict[str, ModalityFile] = Field(default_factory=dict)

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, ModalityFile]) -> dict[str, ModalityFile]:
        return with_free_names(files)

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        return tuple(path for source in self.files.values() for path in source.files())


def with_free_names(modalities: dict[str, T]) -> dict[str, T]:
    """The same ``modalities``, whose names can be keys of YAML and are not taken.

    Raises:
        ValueError: a name is neither.
    """
    for name in modalities:
        if not name.replace("-", "_").isidentifier():
            raise ValueError(f"a modality's name must be letters, digits, - and _ (found {name!r})")
        if name in ("text", "genres", "categories"):
            raise ValueError(f"the name {name!r} is taken by a built-in modality")
    return modalities


def assemble(
    name: str,
    raw: RawInteractions,
    described: ItemDescriptions,
    config: SourceConfig,
    cache: ArrayCache,
    features: Mapping[str, KeyedValues] | None = None,
) -> Dataset:
    """Filter, number and join.

    Users and items are numbered in the order of their raw ids, and interactions are sorted by
    user and item, so that the order of the rows does not matter. ``raw`` has no duplicates.
    ``features``: modalities that the source itself brings, before those of ``config.files``.

    Raises:
        DataError: nothing is left, or a modality's file does not fit.
    """
    features = features or {}
    for modality in config.files:
        if modality in features:
            raise DataError(
                "the data set brings a modality of that name; choose another one",
                file=raw.file,
                key=f"data.files.{modality}",
            )
    files = {
        modality: read_modality(source, where=f"data.files.{modality}")
        for modality, source in config.files.items()
    }
    keep = np.ones(len(raw.user), dtype=bool)
    if config.min_rating is not None:
        if raw.rating is None:
            raise DataError("needs ratings", file=raw.file, key="data.min_rating")
        keep &= raw.rating >= config.min_rating
        _require_some(
            keep, raw, "data.min_rating", "no interaction is rated at least that high", config.min_rating
        )
    if config.items == "with_every_modality":
        keep &= has_every_modality(raw.item, described, {**features, **files})
        _require_some(keep, raw, "data.items", "no item has every modality", config.items)

    user_ids, user = numbered(raw.user[keep])
    item_ids, item = numbered(raw.item[keep])
    core = core_rows(user, item, config.core)
    if not core.any():
        raise DataError(
            f"no interaction is left where every user and item must have {config.core}; lower it",
            file=raw.file,
            key="data.core",
            value=config.core,
        )
    user_ids, user = _renumbered(user_ids, user[core])
    item_ids, item = _renumbered(item_ids, item[core])
    order = np.argsort(user * len(item_ids) + item, kind="stable")
    rows = keep.nonzero()[0][core][order]
    columns = Columns(
        time=None if raw.time is None else torch.from_numpy(raw.time[rows]),
        interaction={name: labels[rows] for name, labels in raw.labels.items()},
        item=labels_at(item_ids, described.ids, described.columns),
    )
    interactions = Interactions(
        user=torch.from_numpy(user[order]),
        item=torch.from_numpy(item[order]),
        n_users=len(user_ids),
        n_items=len(item_ids),
    )
    modalities = {
        **described_modalities(item_ids, described, cache),
        **{
            modality: joined(item_ids, values, file=raw.file, key=f"data.features.{modality}")
            for modality, values in features.items()
        },
        **{
            modality: joined(
                item_ids,
                values,
                file=config.files[modality].path,
                key=f"data.files.{modality}.key",
                value=config.files[modality].key,
            )
            for modality, values in files.items()
        },
    }
    return Dataset(
        name=name,
        interactions=interactions,
        user_ids=user_ids,
        item_ids=item_ids,
        titles=titles_of(item_ids, described),
        modalities=modalities,
        columns=columns,
        fingerprint=dataset_fingerprint(interactions, user_ids, item_ids, modalities),
    )


def _renumbered(ids: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids that still occur, and the rows' indices into them."""
    used, renumbered = numbered(index)
    return ids[used], renumbered


def _require_some(keep: np.ndarray, raw: RawInteractions, key: str, rule: str, value: object) -> None:
    if not keep.any():
        raise DataError(f"{rule}, so none is left", file=raw.file, key=key, value=value)
