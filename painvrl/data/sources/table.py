"""The user's own interactions: a CSV or Parquet table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import SourceConfig, assemble
from painvrl.data.sources.items import ItemDescriptions, labels_at, split_names
from painvrl.data.sources.rows import RawInteractions, without_duplicates
from painvrl.data.sources.tabular import (
    id_column,
    label_column,
    number_column,
    read_table,
    require_distinct,
    time_column,
)
from painvrl.settings import Settings


class ItemTable(Settings):
    """A table that describes items: CSV or Parquet, one row an item.

    ``key``: column of the raw item ids. ``title``: column shown to people. ``text``: a column, or
    columns that are joined, encoded as the modality ``text``. ``categories``: column of names
    divided by ``separator``, which become the multi-hot modality ``categories``. ``columns``: columns of
    labels that splits may group items by.
    """

    path: Path
    key: str
    title: str | None = None
    text: str | tuple[str, ...] = ()
    categories: str | None = None
    separator: str = Field(default="|", min_length=1)
    columns: tuple[str, ...] = ()

    def text_columns(self) -> tuple[str, ...]:
        """The columns of the modality ``text``."""
        return (self.text,) if isinstance(self.text, str) else self.text


class UserTable(Settings):
    """A table that describes users: CSV or Parquet, one row a user.

    ``key``: column of the raw user ids. ``columns``: columns of labels that splits may group users by.
    """

    path: Path
    key: str
    columns: tuple[str, ...] = Field(min_length=1)


class TableConfig(SourceConfig):
    """Interactions in a table: CSV or Parquet, one row an interaction.

    ``path`` is relative to the current directory. ``user``, ``item``, ``rating``, ``time`` name
    its columns; the last two are optional. ``duplicates``: what to do with a (user, item) pair
    that occurs again: ``error``, or ``drop`` all but its latest row (by ``time``, where that is
    named; else all but its best-rated one). ``columns``: further columns, labels that splits may go by.
    ``item_table``: titles and built-in modalities. ``user_table``: labels of the users.
    """

    kind: Literal["table"] = "table"
    path: Path
    user: str = "user"
    item: str = "item"
    rating: str | None = None
    time: str | None = None
    duplicates: Literal["error", "drop"] = "error"
    columns: tuple[str, ...] = ()
    item_table: ItemTable | None = None
    user_table: UserTable | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.min_rating is not None and self.rating is None:
            raise ValueError("min_rating needs the key rating, the column with the ratings")
        table = self.item_table
        if not self.files and (table is None or not (table.text or table.categories)):
            raise ValueError(
                "the items need a modality: name one in files, or text or categories of item_table"
            )
        return self

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        tables = (self.item_table, self.user_table)
        described = [table.path.expanduser() for table in tables if table is not None]
        return (self.path.expanduser(), *described, *super().named_files())

    @property
    def uses_text(self) -> bool:
        """Whether item texts are encoded."""
        return self.item_table is not None and bool(self.item_table.text)


def read_table_source(config: TableConfig, cache: ArrayCache) -> Dataset:
    """Read the user's table.

    Raises:
        DataError: a file, a column or a value is not as it must be.
    """
    frame = read_table(config.path, key="data.path")
    rating = time = None
    if config.rating is not None:
        rating = number_column(frame, config.rating, file=config.path, key="data.rating")
    if config.time is not None:
        time = time_column(frame, config.time, file=config.path, key="data.time")
    raw = RawInteractions(
        user=id_column(frame, config.user, file=config.path, key="data.user"),
        item=id_column(frame, config.item, file=config.path, key="data.item"),
        rating=rating,
        file=config.path,
        time=time,
        labels={
            name: label_column(frame, name, file=config.path, key="data.columns") for name in config.columns
        },
    )
    raw = without_duplicates(raw, time, duplicates=config.duplicates)
    dataset = assemble(config.path.stem, raw, _describe(config.item_table), config, cache)
    if config.user_table is None:
        return dataset
    users = _labels_of_users(config.user_table, dataset.user_ids)
    return replace(dataset, columns=replace(dataset.columns, user=users))


def _labels_of_users(table: UserTable, user_ids: np.ndarray) -> dict[str, np.ndarray]:
    where = "data.user_table"
    frame = read_table(table.path, key=f"{where}.path")
    ids = id_column(frame, table.key, file=table.path, key=f"{where}.key")
    require_distinct(ids, file=table.path, key=f"{where}.key", value=table.key, of="user")
    columns = {
        name: label_column(frame, name, file=table.path, key=f"{where}.columns") for name in table.columns
    }
    return labels_at(user_ids, ids, columns)


def _describe(table: ItemTable | None) -> ItemDescriptions:
    if table is None:
        return ItemDescriptions(ids=np.zeros(0, dtype=np.int64), titles=())
    where = "data.item_table"
    frame = read_table(table.path, key=f"{where}.path")
    ids = id_column(frame, table.key, file=table.path, key=f"{where}.key")
    require_distinct(ids, file=table.path, key=f"{where}.key", value=table.key)

    def texts_of(name: str, key: str) -> list[str]:
        texts: list[str] = label_column(frame, name, file=table.path, key=f"{where}.{key}").tolist()
        return texts

    titles = [""] * len(ids) if table.title is None else texts_of(table.title, "title")
    fields = [texts_of(name, "text") for name in table.text_columns()]
    texts = tuple(", ".join(filter(None, row)) for row in zip(*fields, strict=True))
    categories = None
    if table.categories is not None:
        categories = tuple(
            split_names(names, table.separator) for names in texts_of(table.categories, "categories")
        )
    return ItemDescriptions(
        ids=ids,
        titles=tuple(titles),
        texts=texts if table.text else None,
        categories=categories,
        columns={
            name: label_column(frame, name, file=table.path, key=f"{where}.columns") for name in table.columns
        },
    )
