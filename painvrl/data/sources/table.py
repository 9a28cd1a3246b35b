"""The user's own interactions: a CSV or Parquet table."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from painvrl.core.settings import Settings
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import SourceConfig, assemble, with_users
from painvrl.data.sources.columns import Column, DateOrder, assumed_of
from painvrl.data.sources.items import NOTHING, ItemDescriptions, ItemTable, described_by
from painvrl.data.sources.port import SOURCES
from painvrl.data.sources.rows import RawInteractions
from painvrl.data.sources.tabular import read_table


class UserTable(Settings):
    """A table that describes users: CSV or Parquet, one row a user."""

    path: Path
    """The table's file, relative to the current directory."""
    key: str
    """Column of the raw user ids."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Columns of labels that splits may group users by."""
    at_least: float = Field(default=0.5, ge=0.0, le=1.0)
    """Smallest share of the users that the table must have."""


@SOURCES.register
class TableConfig(SourceConfig):
    """Interactions in a table: CSV or Parquet, one row an interaction.

    Ids, labels and titles are texts, as they stand.
    """

    kind: Literal["table"] = "table"
    path: Path
    """The table's file, relative to the current directory."""
    user: str = "user"
    """Column of the user ids."""
    item: str = "item"
    """Column of the item ids."""
    rating: str | None = None
    """Column of the ratings; ``null``: there are none."""
    time: str | None = None
    """Column of the times; ``null``: there are none."""
    # Left out of what is written while nothing is in it, as configurations of old have none.
    dates: DateOrder | None = Field(default=None, exclude_if=lambda dates: dates is None)
    """Whether dates such as 09/08/2024 put the day or the month first; ``null``: what all of them can only
    be.
    """
    columns: tuple[str, ...] = ()
    """Further columns: labels that splits may go by."""
    item_table: ItemTable | None = None
    """Titles, built-in modalities and labels of the items."""
    user_table: UserTable | None = None
    """Labels of the users."""

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
        table = read_table(self.path, key="data.path")
        rating = time = None
        if self.rating is not None:
            rating = Column(table, self.rating, "data.rating", decimal=self.decimal)
        if self.time is not None:
            time = Column(table, self.time, "data.time", decimal=self.decimal, dates=self.dates)
        raw = RawInteractions(
            user=Column(table, self.user, "data.user").ids(),
            item=Column(table, self.item, "data.item").ids(),
            rating=None if rating is None else rating.numbers(),
            file=self.path,
            time=None if time is None else time.times(),
            labels={name: Column(table, name, "data.columns").labels() for name in self.columns},
            notes=(*table.notes, *assumed_of(rating, time)),
            findings=() if time is None else time.doubts,
        )
        described = NOTHING if self.item_table is None else _describe(self.item_table)
        dataset = assemble(self.path.stem, raw, described, self, encodings)
        if self.item_table is not None:
            join = next(join for join in dataset.provenance.joins if join.name == "item table")
            join.require(self.item_table.at_least, file=self.item_table.path)
        users = self.user_table
        if users is None:
            return dataset
        where = "data.user_table"
        read = read_table(users.path, key=f"{where}.path")
        return with_users(
            dataset,
            Column(read, users.key, f"{where}.key"),
            {name: Column(read, name, f"{where}.columns").labels() for name in users.columns},
            everyone=raw.user.distinct,
            key=where,
            at_least=users.at_least,
        )

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        tables = (self.item_table, self.user_table)
        described = [table.path.expanduser() for table in tables if table is not None]
        return (self.path.expanduser(), *described, *super().named_files())

    @property
    def uses_text(self) -> bool:
        """Whether item texts are encoded."""
        return self.item_table is not None and bool(self.item_table.text)


def _describe(table: ItemTable) -> ItemDescriptions:
    where = "data.item_table"
    read = read_table(table.path, key=f"{where}.path")
    ids = Column(read, table.key, f"{where}.key").distinct_ids("item")
    return described_by(read, ids, table, where=where, key=where, key_of_columns=f"{where}.columns")
