"""Tables of text: what a result shows of itself, whoever prints it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self, TypeAlias


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """The names of the columns, the rows, and what they show; the first column names the rows.

    >>> table = TextTable(columns=("metric", "value"), rows=[("recall", "0.25"), ("ndcg", "0.2")])
    >>> print(table.to_markdown(), end="")
    | metric | value |
    | --- | ---: |
    | recall | 0.25 |
    | ndcg | 0.2 |
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str | None = None

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, str]]) -> Self:
        """From cells by column; all rows have the same columns. Without a row there is no column."""
        cells = tuple(rows)
        columns = tuple(cells[0]) if cells else ()
        return cls(columns=columns, rows=tuple(tuple(row.values()) for row in cells))

    def each(self, change: Callable[[str], str]) -> Self:
        """The same table with every text of it changed."""
        return replace(
            self,
            columns=[change(name) for name in self.columns],
            rows=[[change(cell) for cell in row] for row in self.rows],
            caption=None if self.caption is None else change(self.caption),
        )

    def to_text(self) -> str:
        """Columns of spaces, for a file; without the caption."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        return "".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
            for line in lines
        )

    def to_markdown(self) -> str:
        """The caption as a sentence, and the table below it."""
        ruler = ["---", *["---:"] * (len(self.columns) - 1)]
        table = "".join(f"| {' | '.join(cells)} |\n" for cells in (self.columns, ruler, *self.rows))
        return table if self.caption is None else f"{self.caption}.\n\n{table}"


Block: TypeAlias = TextTable | str
"""What people read of a result: a table, or a line."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command finds out: figures for programs, and the same in blocks for people."""

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return asdict(self)

    def as_json(self) -> str:
        """A JSON file's content."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n"

    def blocks(self) -> Iterator[Block]:
        """What a terminal shows."""
        raise NotImplementedError


def markdown_page(title: str, tables: Iterable[TextTable], notes: Sequence[str]) -> str:
    """A page with a title, tables, and what else to read, a bullet each."""
    blocks = [f"# {title}\n", *(table.to_markdown() for table in tables)]
    if notes:
        blocks.append("".join(f"- {note}\n" for note in notes))
    return "\n".join(blocks)


def number(value: object) -> str:
    """A value as a table shows it: four decimals for metrics, three digits for anything small or large."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 100 else f"{value:.3g}"


def numbers(values: Mapping[str, object]) -> str:
    """Values by name, as a sentence shows them."""
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
