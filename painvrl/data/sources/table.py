"""The user's own interactions: a CSV or Parquet table."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from painvrl.core.settings import Settings
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import SourceConfig, assemble
from painvrl.data.sources.columns import (
    id_column,
    label_column,
    number_column,
    require_distinct,
    text_column,
    time_column,
)
from painvrl.data.sources.items import NOTHING, ItemDescriptions, blanks_in, split_names
from painvrl.data.sources.port import SOURCES
from painvrl.data.sources.rows import RawInteractions
from painvrl.data.sources.tabular import read_table
from painvrl.data.sources.users import UserDescriptions, with_users


class ItemTable(Settings):
    """A table that describes items: CSV or Parquet, one row an item.

    ``key``: column of the raw item ids. ``title``: column shown to people. ``text``: a column, or
    columns that are joined, encoded as the modality ``text``. ``categories``: column of names
    divided by ``separator``, which become the multi-hot modality ``categories``; blanks beside a separator
    are part of a name. ``columns``: columns of labels that splits may group items by. ``at_least``: the
    smallest share of the items that the table must have.
    """

    path: Path
    key: str
    title: str | None = None
    text: str | tuple[str, ...] = ()
    categories: str | None = None
    separator: str = Field(default="|", min_length=1)
    columns: tuple[str, ...] = ()
    at_least: float = Field(default=0.5, ge=0.0, le=1.0)

    def text_columns(self) -> tuple[str, ...]:
        """The columns of the modality ``text``."""
        return (self.text,) if isinstance(self.text, str) else self.text


class UserTable(Settings):
    """A table that describes users: CSV or Parquet, one row a user.

    ``key``: column of the raw user ids. ``columns``: columns of labels that splits may group users by.
    ``at_least``: the smallest share of the users that the table must have.
    """

    path: Path
    key: str
    columns: tuple[str, ...] = Field(min_length=1)
    at_least: float = Field(default=0.5, ge=0.0, le=1.0)


@SOURCES.register
class TableConfig(SourceConfig):
    """Interactions in a table: CSV or Parquet, one row an interaction.

    ``path`` is relative to the current directory. ``user``, ``item``, ``rating``, ``time`` name
    its columns; the last two are optional. ``columns``: further columns, labels that splits may go by.
    ``item_table``: titles and built-in modalities. ``user_table``: labels of the users. Ids, labels and
    titles are texts, as they stand.
    """

    kind: Literal["table"] = "table"
    path: Path
    user: str = "user"
    item: str = "item"
    rating: str | None = None
    time: str | None = None
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

    def read(self, encodings: ArrayCache, seed: int) -> Dataset:
        """See :class:`Source`."""
        return read_table_source(self, encodings)

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
    table = read_table(config.path, key="data.path")
    raw = RawInteractions(
        user=id_column(table, config.user, key="data.user"),
        item=id_column(table, config.item, key="data.item"),
        rating=None if config.rating is None else number_column(table, config.rating, key="data.rating"),
        file=config.path,
        time=None if config.time is None else time_column(table, config.time, key="data.time"),
        labels={name: label_column(table, name, key="data.columns") for name in config.columns},
    )
    described = _describe(config.item_table)
    everyone = raw.user.distinct
    dataset = assemble(config.path.stem, raw, described, config, cache)
    if config.item_table is not None:
        join = next(join for join in dataset.provenance.joins if join.name == "item table")
        join.require(config.item_table.at_least, file=config.item_table.path)
    if config.user_table is None:
        return dataset
    return with_users(dataset, _describe_users(config.user_table), everyone)


def _describe_users(table: UserTable) -> UserDescriptions:
    where = "data.user_table"
    read = read_table(table.path, key=f"{where}.path")
    ids = id_column(read, table.key, key=f"{where}.key")
    require_distinct(ids, file=table.path, key=f"{where}.key", value=table.key, of="user")
    return UserDescriptions(
        ids=ids.distinct[ids.code],
        columns={name: label_column(read, name, key=f"{where}.columns") for name in table.columns},
        key=where,
        file=table.path,
        at_least=table.at_least,
    )


def _describe(table: ItemTable | None) -> ItemDescriptions:
    if table is None:
        return NOTHING
    where = "data.item_table"
    read = read_table(table.path, key=f"{where}.path")
    ids = id_column(read, table.key, key=f"{where}.key")
    require_distinct(ids, file=table.path, key=f"{where}.key", value=table.key)
    titles: list[str] = []
    if table.title is not None:
        titles = text_column(read, table.title, key=f"{where}.title")
    fields = [text_column(read, name, key=f"{where}.text") for name in table.text_columns()]
    categories = None
    if table.categories is not None:
        names = text_column(read, table.categories, key=f"{where}.categories")
        categories = tuple(split_names(row, table.separator) for row in names)
    return ItemDescriptions(
        ids=ids.distinct[ids.code],
        titles=tuple(titles),
        texts=tuple(", ".join(filter(None, row)) for row in zip(*fields, strict=True)) if fields else None,
        categories=categories,
        columns={name: label_column(read, name, key=f"{where}.columns") for name in table.columns},
        key=where,
        findings=blanks_in(categories or (), key=f"{where}.categories"),
    )
