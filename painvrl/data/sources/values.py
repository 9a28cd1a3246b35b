"""Features of items as a file has them: checked, and looked at for what is hardly ever meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from painvrl.data.sources.messages import Place
from painvrl.data.sources.texts import as_objects

LARGEST: Final = 1e18
"""From here on, squares leave float32 when rows are scaled to unit length."""
_CHUNK_BYTES: Final = 64 << 20
SAVED_INDEX: Final = re.compile(r"|Unnamed: \d+(\.\d+)?|__index_level_\d+__")
"""The names that pandas gives to a saved index."""


@dataclass(frozen=True, kw_only=True)
class KeyedValues:
    """Features of ``M`` items.

    Attributes:
        ids: ``[M]`` distinct ids, str objects.
        values: ``[M, F]`` float32, finite.
        rows: rows of the file; more than ``M`` where some of them say that the item has none.
        names: of the columns, where the file has names; else they are called by their number.
        counted: the columns are flags or counts that were made here, so that a rare one is no mistake.
        notes: what was left out on purpose, a sentence each.
        findings: what looked wrong, a sentence each.
    """

    ids: np.ndarray
    values: np.ndarray
    rows: int
    names: tuple[str, ...] | None = None
    counted: bool = False
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def name_of(self, column: int) -> str:
        """What a message calls the column."""
        return str(column) if self.names is None else self.names[column]


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` in an order that the order of columns in a file does not change: ``f2`` before ``f10``."""
    numbers = re.compile("[0-9]+")
    return tuple(sorted(names, key=lambda name: (numbers.sub(lambda found: found[0].zfill(20), name), name)))


def checked_matrix(
    values: np.ndarray,
    place: Place,
    *,
    row_name: Callable[[int], str],
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """``values`` as ``[M, F]`` float32, a view where it is that already.

    Args:
        values: ``[M, F]``.
        place: for messages.
        row_name: what a message calls a row.
        names: of the columns.

    Raises:
        DataError: it is no matrix of real numbers, or one of them is not finite or 1e18 and more.
    """
    if values.ndim != 2 or values.dtype.kind not in "biuf" or values.size == 0:
        rule = "the features must be a matrix [items, features] of real numbers"
        raise place.error(rule, f"{values.dtype} {list(values.shape)}")
    for start, block in chunks(values):
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes inf
            wrong = ~(np.abs(block.astype(np.float32, copy=False)) < LARGEST)
        if not wrong.any():
            continue
        row, feature = (int(at) for at in np.argwhere(wrong)[0])
        number = block[row, feature]
        called = feature if names is None else names[feature]
        rule = "too large to be scaled (1e18 and more)" if np.isfinite(number) else "NaN or infinite"
        raise place.error(f"the feature {called} of {row_name(start + row)} is {rule}", float(number))
    return values.astype(np.float32, copy=False)


def keyed_by_row(array: np.ndarray, *, file: Path, key: str, ids: np.ndarray | None = None) -> KeyedValues:
    """A matrix whose row ``i`` belongs to the item ``ids[i]``; a row of zeros says that the item has none.

    Args:
        array: ``[I, F]`` real numbers.
        file: for messages.
        key: for messages.
        ids: ``[I]`` distinct ids; nothing where they are the numbers of the rows.

    Raises:
        DataError: it is no matrix of real numbers, or one of them is not finite or 1e18 and more.
    """
    place = Place(file, key)
    if array.dtype == object:
        try:
            array = np.array(array.tolist())
        except (TypeError, ValueError):
            array = array.reshape(-1)  # rows of unequal length, or no numbers: refused just below
    matrix = checked_matrix(array, place, row_name=lambda row: f"row {row}")
    matrix, _, findings = without_index_columns(matrix, None, key=key)
    has = np.concatenate([block.any(axis=1) for _, block in chunks(matrix)])
    if not has.any():
        raise place.error("the features are all zero")
    if ids is None:
        ids = as_objects([str(row) for row in range(len(matrix))])
    return KeyedValues(
        ids=ids[has], values=matrix if has.all() else matrix[has], rows=len(matrix), findings=findings
    )


def without_index_columns(
    matrix: np.ndarray, names: Sequence[str] | None, *, key: str
) -> tuple[np.ndarray, tuple[str, ...] | None, tuple[str, ...]]:
    """``matrix`` without saved row numbers, the names that are left, and a sentence for each that went.

    A column is one where its values are the numbers from 0, or from 1, each once: in whatever order, because
    rows may have been sorted since. A matrix of one column, or of fewer than three rows, is left as it is.
    """
    rows, columns = matrix.shape
    saved: set[int] = set()
    if columns > 1 and rows > 2:
        lowest, highest = column_ranges(matrix)
        numbers = np.flatnonzero(((lowest == 0) | (lowest == 1)) & (highest - lowest == rows - 1))
        every = np.arange(rows)
        saved.update(c for c in numbers.tolist() if np.array_equal(np.sort(matrix[:, c]), every + lowest[c]))
    if len(saved) in (0, columns):
        return matrix, None if names is None else tuple(names), ()
    kept = [column for column in range(columns) if column not in saved]
    findings = (
        index_finding(key, None if names is None else names[column], column) for column in sorted(saved)
    )
    return (
        matrix[:, kept],
        None if names is None else tuple(names[column] for column in kept),
        tuple(findings),
    )


def index_finding(key: str, name: str | None, column: int | None = None) -> str:
    """What to say of a column that is left out: of a table by its name, of a matrix by its number."""
    called = column if name is None else name or "(no name)"
    left_out = f"{key}: the column {called} is the number of the row, so it is left out"
    return left_out if name is None else f"{left_out}; name it in values to keep it"


def column_ranges(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each column."""
    blocks = [(block.min(axis=0), block.max(axis=0)) for _, block in chunks(matrix)]
    return np.min([low for low, _ in blocks], axis=0), np.max([high for _, high in blocks], axis=0)


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """What joined features look like, column by column.

    Attributes:
        largest: the column that carries most of the vectors' squared length.
        share: how much of it, in [0, 1].
        constant: columns of one value other than 0.
        zero: columns of zeros.
        outlier: columns of which one row has more than half of the squared sum.
        outlier_row: that row, of the first such column.
        zero_rows: rows of zeros.
    """

    largest: int
    share: float
    constant: tuple[int, ...]
    zero: tuple[int, ...]
    outlier: tuple[int, ...]
    outlier_row: int
    zero_rows: int


def column_facts(matrix: np.ndarray, rows: np.ndarray) -> ColumnFacts:
    """Look at the given ``rows`` (``[n]`` int64, at least one) of a matrix ``[M, F]``, a block at a time."""
    columns = matrix.shape[1]
    total, top = np.zeros(columns), np.full(columns, -1.0)
    top_row = np.zeros(columns, dtype=np.int64)
    zero_rows = 0
    low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
    step = max(1, _CHUNK_BYTES // (8 * columns))
    for start in range(0, len(rows), step):
        chosen = rows[start : start + step]
        block = matrix[chosen].astype(np.float64)
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        block *= block
        total += block.sum(axis=0)
        zero_rows += int((~block.any(axis=1)).sum())
        best = block.argmax(axis=0)
        value = block[best, np.arange(columns)]
        top_row = np.where(value > top, chosen[best], top_row)
        top = np.maximum(top, value)
    largest, everything = int(total.argmax()), total.sum()
    constant = (low == high) & (len(rows) > 1)
    outlier = np.flatnonzero((2 * top > total) & ~constant & (len(rows) > 2))
    return ColumnFacts(
        largest=largest,
        share=float(total[largest] / everything) if everything else 0.0,
        constant=tuple(np.flatnonzero(constant & (low != 0)).tolist()),
        zero=tuple(np.flatnonzero((low == 0) & (high == 0)).tolist()),
        outlier=tuple(outlier.tolist()),
        outlier_row=int(top_row[outlier[0]]) if len(outlier) else 0,
        zero_rows=zero_rows,
    )


def chunks(matrix: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of rows that fit into little memory, each with the number of its first row."""
    step = max(1, _CHUNK_BYTES // (matrix.itemsize * matrix.shape[1]))
    for start in range(0, len(matrix), step):
        yield start, matrix[start : start + step]
