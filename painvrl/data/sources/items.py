"""What is known of the items, joined to the ids that the filters left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from painvrl.core.errors import DataError
from painvrl.core.settings import Settings
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Modality
from painvrl.data.provenance import Join
from painvrl.data.sources.columns import Column
from painvrl.data.sources.messages import Place
from painvrl.data.sources.tabular import Table
from painvrl.data.sources.text import MAX_TOKENS, encode
from painvrl.data.sources.texts import Texts, as_objects, find
from painvrl.data.sources.values import KeyedValues, column_facts


class ItemTable(Settings):
    """A table that describes items: CSV or Parquet, one row an item."""

    path: Path
    """The table's file, relative to the current directory."""
    key: str
    """Column of the raw item ids."""
    title: str | None = None
    """Column shown to people; ``null`` shows the ids."""
    text: str | tuple[str, ...] = ()
    """Column, or columns that are joined, encoded as the modality ``text``."""
    categories: str | None = None
    """Column of names that become the multi-hot modality ``categories``."""
    separator: str = Field(default="|", min_length=1)
    """What divides the names in ``categories``; blanks beside it are part of a name."""
    columns: tuple[str, ...] = ()
    """Columns of labels that splits may group items by."""
    at_least: float = Field(default=0.5, ge=0.0, le=1.0)
    """Smallest share of the items that the table must have."""


@dataclass(frozen=True, kw_only=True)
class ItemDescriptions:
    """What is known of ``M`` items; items that are not among them have only their id.

    Attributes:
        ids: ``[M]`` distinct raw ids, str objects.
        titles: ``M`` titles for people, empty where unknown; or none at all, where nothing holds titles.
        texts: ``M`` texts for the encoder, or None for no modality ``text``.
        categories: ``M`` tuples of names, or None for no modality of them.
        categories_name: that modality's name.
        columns: what splits may group by, ``M`` labels each, empty where unknown.
        key: where they come from, in the configuration.
        notes: how its table was read where that is not the usual way, a sentence each.
        findings: what looks wrong, a sentence each.
    """

    ids: np.ndarray
    titles: tuple[str, ...]
    texts: tuple[str, ...] | None = None
    categories: tuple[tuple[str, ...], ...] | None = None
    categories_name: str = "categories"
    columns: Mapping[str, Sequence[str] | np.ndarray] = field(default_factory=dict)
    key: str = "data"
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


NOTHING = ItemDescriptions(ids=as_objects([]), titles=())
"""Of items that are known by their ids alone."""


def described_by(
    table: Table, ids: Texts, said: ItemTable, *, where: str, key: str, key_of_columns: str
) -> ItemDescriptions:
    """What the columns of a table of items say of them.

    Args:
        table: one row an item.
        ids: of its rows.
        said: which columns say what.
        where: the key of the configuration below which title, text and categories stand.
        key: of the table.
        key_of_columns: of the columns of labels.

    Raises:
        DataError: there is no such column.
    """
    texts = (said.text,) if isinstance(said.text, str) else said.text
    fields = [Column(table, name, f"{where}.text").texts() for name in texts]
    names = None
    if said.categories is not None:
        of_rows = Column(table, said.categories, f"{where}.categories").texts()
        names = tuple(split_names(row, said.separator) for row in of_rows)
    return ItemDescriptions(
        ids=ids.rows,
        titles=() if said.title is None else tuple(Column(table, said.title, f"{where}.title").texts()),
        texts=tuple(joined_texts(row) for row in zip(*fields, strict=True)) if fields else None,
        categories=names,
        columns={name: Column(table, name, key_of_columns).labels() for name in said.columns},
        key=key,
        notes=table.notes,
        findings=odd_names(names or (), key=f"{where}.categories"),
    )


@dataclass(frozen=True, kw_only=True)
class JoinedIds:
    """The ids that a table is joined to.

    Attributes:
        of: ``items`` or ``users``.
        everyone: ``[K]`` distinct ids of the interactions, before any filter.
        left: ``[I]`` (or ``[U]``) ids of the data set, after all filters.
    """

    of: str
    everyone: np.ndarray
    left: np.ndarray

    def join(
        self,
        name: str,
        key: str,
        ids: np.ndarray,
        *,
        matched: int | None = None,
        rows: int | None = None,
        largest: tuple[str, float] | None = None,
    ) -> Join:
        """What a file with these distinct ``ids`` says of them.

        Args:
            name: of what is joined.
            key: of the file, in the configuration.
            ids: of the file's rows.
            matched: how many of ``left`` it describes; nothing where each of ``ids`` counts.
            rows: rows of the file, where it has more than ``ids``.
            largest: of a modality, the largest column and its share.
        """
        known = int((find(ids, self.everyone) >= 0).sum())
        there = int((find(ids, self.left) >= 0).sum())
        return Join(
            name=name,
            key=key,
            of=self.of,
            total=len(self.left),
            matched=there if matched is None else matched,
            rows=len(ids) if rows is None else rows,
            rows_filtered=known - there,
            rows_unmatched=len(ids) - known,
            largest_column=None if largest is None else largest[0],
            largest_share=None if largest is None else largest[1],
        )


def has_every_modality(
    item: Texts, described: ItemDescriptions, files: Mapping[str, KeyedValues]
) -> np.ndarray:
    """``[R]`` bool: the row's item has every modality."""
    known = np.ones(len(described.ids), dtype=bool)
    for content in (described.texts, described.categories):
        if content is not None:
            known &= np.array([bool(entry) for entry in content], dtype=bool)
    keep = np.ones(len(item.distinct), dtype=bool)
    if described.texts is not None or described.categories is not None:
        keep &= find(item.distinct, described.ids[known]) >= 0
    for values in files.values():
        keep &= find(item.distinct, values.ids) >= 0
    kept: np.ndarray = keep[item.code]
    return kept


def described_modalities(
    items: JoinedIds, described: ItemDescriptions, cache: ArrayCache
) -> tuple[dict[str, Modality], tuple[Join, ...], tuple[str, ...]]:
    """The modalities ``text`` and categories, of the items that are left; what was joined, and what to note.

    Raises:
        DataError: no item has one of them.
    """
    place = find(items.left, described.ids).tolist()
    if len(described.ids) and max(place) < 0:
        ids = (", ".join(map(str, some[:3])) for some in (described.ids, items.left))
        rule = "none of its ids is one of the items': it has {}, ..., and the interactions {}, ...".format(
            *ids
        )
        raise DataError(rule, key=described.key)
    modalities: dict[str, Modality] = {}
    names: dict[str, tuple[str, ...]] = {}
    notes: tuple[str, ...] = ()
    if described.texts is not None:
        texts = [described.texts[at] if at >= 0 else "" for at in place]
        vectors, cut = encode(texts, cache)
        if cut:
            notes += (f"text: the encoder read the first {MAX_TOKENS} tokens of {cut:,} longer texts",)
        modalities["text"] = Modality(
            values=torch.from_numpy(vectors),
            present=torch.tensor([bool(text) for text in texts]),
        )
    if described.categories is not None:
        of_item = [described.categories[at] if at >= 0 else () for at in place]
        modalities[described.categories_name], names[described.categories_name] = _multi_hot(of_item)
    joins = []
    for name, modality in modalities.items():
        matched = np.flatnonzero(modality.present.numpy())
        if not len(matched):
            raise DataError("no item that is left has this modality", key="data", value=name)
        facts = column_facts(modality.values.numpy(), matched)
        column = names[name][facts.largest] if name in names else str(facts.largest)
        joins.append(
            items.join(
                name, described.key, described.ids, matched=len(matched), largest=(column, facts.share)
            )
        )
    return modalities, tuple(joins), notes


def _multi_hot(of_item: list[tuple[str, ...]]) -> tuple[Modality, tuple[str, ...]]:
    """One column a name, in alphabetical order, and the names."""
    names = sorted({name for names in of_item for name in names})
    column = {name: index for index, name in enumerate(names)}
    values = torch.zeros(len(of_item), len(names))
    for row, of_row in enumerate(of_item):
        for name in of_row:
            values[row, column[name]] = 1.0
    return Modality(values=values, present=values.any(dim=1)), tuple(names)


def joined(
    name: str, items: JoinedIds, keyed: KeyedValues, *, file: Path | str, key: str, value: object = None
) -> tuple[Modality, Join, tuple[str, ...]]:
    """A file's features in the order of the items, what was joined, and what looks wrong.

    Items that the file lacks get zeros.

    Args:
        name: of the modality.
        items: of the data set.
        keyed: the features.
        file: for messages.
        key: for messages; the modality's key in the configuration.
        value: named where the file has none of the items.

    Raises:
        DataError: the file has none of the items.
    """
    place = find(items.left, keyed.ids)
    present = place >= 0
    if not present.any():
        raise Place(file, f"{key}.key" if value is not None else key, value).error(
            f"none of its {len(keyed.ids)} item ids occurs in the interactions "
            f"(it has {keyed.ids[0]}, ..., they have {items.left[0]}, ...)"
        )
    if np.array_equal(place, np.arange(len(keyed.ids))):
        values = keyed.values  # no copy: some of these matrices fill a fair part of the memory
    else:
        values = keyed.values[place]
        values[~present] = 0.0
    matched = np.flatnonzero(present)
    facts = column_facts(values, matched)
    findings = list(keyed.findings)
    if not keyed.counted:
        alike = {"the same for all items": facts.constant, "zero for all items": facts.zero}
        findings += [
            f"{key}: {_columns(len(columns))} {what}; the first is {keyed.name_of(columns[0])}"
            for what, columns in alike.items()
            if columns
        ]
    if facts.zero_rows:
        findings.append(f"{key}: {facts.zero_rows:,} items have a row of zeros, and count as described")
    if facts.outlier and not keyed.counted:
        findings.append(
            f"{key}: {_columns(len(facts.outlier))} dominated by one item, which has more than half of the "
            f"column's squared sum; the first is {keyed.name_of(facts.outlier[0])}, item "
            f"{items.left[facts.outlier_row]}"
        )
    join = items.join(
        name,
        key,
        keyed.ids,
        matched=len(matched),
        rows=keyed.rows,
        largest=(keyed.name_of(facts.largest), facts.share),
    )
    return Modality(values=torch.from_numpy(values), present=torch.from_numpy(present)), join, tuple(findings)


def _columns(count: int) -> str:
    return "1 column is" if count == 1 else f"{count:,} columns are"


def titles_of(item_ids: np.ndarray, described: ItemDescriptions) -> tuple[str, ...]:
    """Titles in the order of ``item_ids``; empty where none is known."""
    if not described.titles:
        return ("",) * len(item_ids)
    return tuple(described.titles[at] if at >= 0 else "" for at in find(item_ids, described.ids).tolist())


def labels_at(
    ids: np.ndarray, known: np.ndarray, columns: Mapping[str, Sequence[str] | np.ndarray]
) -> dict[str, np.ndarray]:
    """The ``columns`` of the ``known`` ids (distinct) in the order of ``ids``; empty where it is unknown."""
    place = find(ids, known)
    # -1, where an id is not known, is the last one's place.
    return {name: as_objects([*labels, ""])[place] for name, labels in columns.items()}


def joined_texts(fields: Iterable[str]) -> str:
    """What an item is described by: its fields but for blank ones, which say nothing."""
    return ", ".join(filter(str.strip, fields))


def split_names(names: str, separator: str) -> tuple[str, ...]:
    """The names in ``names`` as they stand, without empty ones."""
    return tuple(name for name in names.split(separator) if name)


def odd_names(categories: Iterable[tuple[str, ...]], *, key: str) -> tuple[str, ...]:
    """Sentences about names that begin or end with a blank, and about pieces of printed lists."""
    names = {name for of_item in categories for name in of_item}
    blank = {name for name in names if name != name.strip()}
    printed = {name for name in names if name.startswith(("['", '["')) or name.endswith(("']", '"]'))}
    found = []
    if blank:
        found.append(
            f"{key}: {len(blank)} category names begin or end with a blank, such as {min(blank)!r}; each is "
            "another name than without it. A separator may hold blanks"
        )
    if printed:
        found.append(
            f"{key}: {len(printed)} category names are pieces of printed lists, such as {min(printed)!r}; "
            "write the names alone, with the separator between them"
        )
    return tuple(found)
