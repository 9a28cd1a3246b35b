"""What is known of the items, joined to the ids that the filters left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Modality
from painvrl.data.sources.modality_file import KeyedValues
from painvrl.data.sources.text import encode
from painvrl.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ItemDescriptions:
    """What is known of ``M`` items; items that are not among them have only their id.

    Attributes:
        ids: ``[M]`` distinct raw ids.
        titles: ``M`` titles for people, empty where unknown.
        texts: ``M`` texts for the encoder, or None for no modality ``text``.
        categories: ``M`` tuples of names, or None for no modality of them.
        categories_name: that modality's name.
        columns: what splits may group by, ``M`` labels each, empty where unknown.
    """

    ids: np.ndarray
    titles: tuple[str, ...]
    texts: tuple[str, ...] | None = None
    categories: tuple[tuple[str, ...], ...] | None = None
    categories_name: str = "categories"
    columns: Mapping[str, Sequence[str] | np.ndarray] = field(default_factory=dict)


def fits_table(ids: np.ndarray) -> bool:
    """Whether a table indexed by ``ids`` costs no more than sorting them would: whole numbers near 0."""
    return ids.dtype.kind == "i" and int(ids.min(initial=0)) >= 0 and int(ids.max(initial=0)) < 8 * len(ids)


def numbered(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ``ids`` in order, and where among them each of ``ids`` is (int64)."""
    if not fits_table(ids):
        distinct, index = np.unique(ids, return_inverse=True)
        return distinct, index.astype(np.int64, copy=False)
    seen = np.bincount(ids) > 0
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[ids]


def find(wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where in ``known`` (distinct) each of ``wanted`` is; -1 where it is not.

    Ids of different types (1 and "1") are compared as texts.
    """
    if (wanted.dtype.kind == "U") != (known.dtype.kind == "U"):
        wanted, known = wanted.astype(np.str_), known.astype(np.str_)
    if len(known) == 0:
        return np.full(len(wanted), -1)
    if fits_table(known) and wanted.dtype.kind == "i":
        place = np.full(int(known.max()) + 2, -1)  # the last one is for ids that are out of range
        place[known] = np.arange(len(known))
        return place[np.where((wanted >= 0) & (wanted < len(place)), wanted, -1)]
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    index = order[place]
    return np.where(known[index] == wanted, index, -1)


def has_every_modality(
    item: np.ndarray, described: ItemDescriptions, files: Mapping[str, KeyedValues]
) -> np.ndarray:
    """``[R]`` bool: the row's item has every modality."""
    known = np.ones(len(described.ids), dtype=bool)
    for content in (described.texts, described.categories):
        if content is not None:
            known &= np.array([bool(entry) for entry in content])
    keep = np.ones(len(item), dtype=bool)
    if described.texts is not None or described.categories is not None:
        keep &= find(item, described.ids[known]) >= 0
    for values in files.values():
        keep &= find(item, values.ids) >= 0
    return keep


def described_modalities(
    item_ids: np.ndarray, described: ItemDescriptions, cache: ArrayCache
) -> dict[str, Modality]:
    """The modalities ``text`` and categories, of the items that are left."""
    place = find(item_ids, described.ids).tolist()
    modalities: dict[str, Modality] = {}
    if described.texts is not None:
        texts = [described.texts[at] if at >= 0 else "" for at in place]
        modalities["text"] = Modality(
            values=torch.from_numpy(encode(texts, cache)),
            present=torch.tensor([bool(text) for text in texts]),
        )
    if described.categories is not None:
        of_item = [described.categories[at] if at >= 0 else () for at in place]
        modalities[described.categories_name] = _multi_hot(of_item)
    for name, modality in modalities.items():
        if not modality.present.any():
            raise DataError("no item that is left has this modality", key="data", value=name)
    return modalities


def _multi_hot(of_item: list[tuple[str, ...]]) -> Modality:
    """One column a name, in alphabetical order."""
    names = sorted({name for names in of_item for name in names})
    column = {name: index for index, name in enumerate(names)}
    values = torch.zeros(len(of_item), len(names))
    for row, of_row in enumerate(of_item):
        for name in of_row:
            values[row, column[name]] = 1.0
    return Modality(values=values, present=values.any(dim=1))


def joined(
    item_ids: np.ndarray, keyed: KeyedValues, *, file: Path | str, key: str, value: object = None
) -> Modality:
    """A file's features in the order of ``item_ids``; zeros for items that it lacks.

    ``file``, ``key`` and ``value`` are named where it has none of them.
    """
    place = find(item_ids, keyed.ids)
    present = place >= 0
    if not present.any():
        raise DataError(
            f"none of its {len(keyed.ids)} item ids occurs in the interactions "
            f"(it has {keyed.ids[0]}, ..., they have {item_ids[0]}, ...)",
            file=file,
            key=key,
            value=value,
        )
    if np.array_equal(place, np.arange(len(keyed.ids))):
        values = keyed.values  # no copy: some of these matrices fill a fair part of the memory
    else:
        values = keyed.values[place]
        values[~present] = 0.0
    return Modality(values=torch.from_numpy(values), present=torch.from_numpy(present))


def titles_of(item_ids: np.ndarray, described: ItemDescriptions) -> tuple[str, ...]:
    """Titles in the order of ``item_ids``; the raw id where none is known."""
    place = find(item_ids, described.ids).tolist()
    known = [described.titles[at] if at >= 0 else "" for at in place]
    return tuple(title or str(raw) for title, raw in zip(known, item_ids.tolist(), strict=True))


def labels_at(
    ids: np.ndarray, known: np.ndarray, columns: Mapping[str, Sequence[str] | np.ndarray]
) -> dict[str, np.ndarray]:
    """The ``columns`` of the ``known`` ids (distinct) in the order of ``ids``; empty where it is unknown."""
    place = find(ids, known)
    # -1, where an id is not known, is the last one's place.
    return {name: np.array([*labels, ""], dtype=np.str_)[place] for name, labels in columns.items()}


def split_names(names: str, separator: str) -> tuple[str, ...]:
    """The names in ``names``, without blanks around them and without empty ones."""
    return tuple(name.strip() for name in names.split(separator) if name.strip())
