"""How a data set came from its files: what was joined, what was taken away, and what looks wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from painvrl.core.errors import DataError
from painvrl.core.tables import TextTable

FEW = 0.95
"""A join that describes a smaller share than this is a warning."""


@dataclass(frozen=True, kw_only=True)
class Join:
    """What one table or matrix says of the items (or users) of the data set.

    Attributes:
        name: of the modality, or what was joined: ``titles``, ``item table``, ``user table``.
        key: in the configuration.
        of: ``items`` or ``users``.
        total: items (users) of the data set, after all filters.
        matched: those that the file describes.
        rows: rows of the file.
        rows_filtered: rows about items (users) that a filter took away.
        rows_unmatched: rows whose id occurs in no interaction.
        largest_column: of a modality, the column that carries most of the vectors' squared length.
        largest_share: that column's share of it, in [0, 1].
    """

    name: str
    key: str
    of: str
    total: int
    matched: int
    rows: int
    rows_filtered: int
    rows_unmatched: int
    largest_column: str | None = None
    largest_share: float | None = None

    @property
    def share(self) -> float:
        """Of the items (users) that the file describes."""
        return self.matched / self.total

    def row(self) -> dict[str, str]:
        """Its cells in a table, by column."""
        return {
            "joined": self.name,
            "described": f"{self.matched:,} of {self.total:,} {self.of}",
            "share": f"{self.share:.1%}",
            "rows": f"{self.rows:,}",
            "unmatched": f"{self.rows_unmatched:,}",
            "filtered out": f"{self.rows_filtered:,}",
            "largest column": ""
            if self.largest_share is None
            else f"{self.largest_column}: {self.largest_share:.1%}",
        }

    def require(self, at_least: float, *, file: object) -> None:
        """Refuse a join that describes too few.

        Raises:
            DataError: fewer than the share ``at_least`` are matched.
        """
        if self.share < at_least:
            raise DataError(
                f"describes only {self.matched:,} of {self.total:,} {self.of}; "
                f"{self.rows_unmatched:,} of its {self.rows:,} rows match no interaction; "
                f"compare the ids, or lower {self.key}.at_least",
                file=file,
                key=f"{self.key}.at_least",
                value=at_least,
            )

    def warning(self) -> str | None:
        """What looks wrong, if anything does."""
        if self.share >= FEW:
            return None
        return (
            f"{self.key}: {self.name} describes {self.matched:,} of {self.total:,} {self.of}; "
            f"{self.rows_unmatched:,} of its {self.rows:,} rows match no interaction"
        )


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What one rule took away.

    Attributes:
        name: its key in the configuration.
        rule: in words.
        users, items, interactions: how many it took.
        users_before, items_before, interactions_before: how many there were.
    """

    name: str
    rule: str
    users: int
    items: int
    interactions: int
    users_before: int
    items_before: int
    interactions_before: int

    def row(self) -> dict[str, str]:
        """Its cells in a table, by column."""
        return {
            "taken by": self.name,
            "users": f"{self.users:,} of {self.users_before:,}",
            "items": f"{self.items:,} of {self.items_before:,}",
            "interactions": f"{self.interactions:,} of {self.interactions_before:,}",
            "rule": self.rule,
        }

    def warning(self) -> str | None:
        """What looks wrong, if anything does."""
        many = 2 * self.users > self.users_before or 2 * self.interactions > self.interactions_before
        if not many:
            return None
        return (
            f"{self.name} ({self.rule}) took {self.users:,} of {self.users_before:,} users and "
            f"{self.interactions:,} of {self.interactions_before:,} interactions"
        )


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """All of it.

    Attributes:
        joins: in the order of the modalities, then titles and tables.
        removals: in the order in which they were made; rules that took nothing are left out.
        notes: what else was left out on purpose, a sentence each.
        findings: what else looks wrong, a sentence each.
    """

    joins: tuple[Join, ...] = ()
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that a user should look at, a sentence each."""
        made: Sequence[Join | Removal] = (*self.removals, *self.joins)
        return (*(text for one in made if (text := one.warning()) is not None), *self.findings)

    def tables(self) -> tuple[TextTable, ...]:
        """What was taken away and what was joined, for people; empty tables are left out."""
        made = (
            TextTable.of(one.row() for one in self.removals),
            TextTable.of(one.row() for one in self.joins),
            TextTable.of({"note": note} for note in self.notes),
        )
        return tuple(table for table in made if table.rows)
