"""Ids and labels are texts, kept as they stand in the file.

A column of them is held as its distinct texts and a number a row, so that 32 million rows cost no more
than 32 million numbers. There is one order for all formats: canonical decimal integers (``0``, ``7``,
``-12``, but not ``007`` or ``1.0``) by value, then all other texts by code point.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_REVERSED = str.maketrans("0123456789", "9876543210")


def order_key(text: str) -> tuple[int, int, str]:
    """Sorts canonical decimal integers by value and before all other texts, and those by code point."""
    if not _INTEGER.fullmatch(text):
        return 2, 0, text
    if text[0] == "-":  # the longer and the larger its digits, the smaller
        return 0, -len(text), text.translate(_REVERSED)
    return 1, len(text), text


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A column of texts.

    Attributes:
        distinct: ``[K]`` str objects in the order of :func:`order_key`; none of them is empty.
        code: ``[R]`` int64, the place of each row's text in ``distinct``; -1 where it is missing.

    Example:
        >>> Texts.of(["b", "10", "9", "", "b"]).code.tolist()
        [2, 1, 0, -1, 2]
    """

    distinct: np.ndarray
    code: np.ndarray

    @classmethod
    def of(cls, values: Iterable[str | None]) -> Self:
        """From a text a row; ``None`` and the empty text are missing."""
        place: dict[str, int] = {}
        code = [place.setdefault(value, len(place)) if value else -1 for value in values]
        return cls.numbered(list(place), np.array(code, dtype=np.int64))

    @classmethod
    def numbered(cls, distinct: Sequence[str], code: np.ndarray) -> Self:
        """From distinct texts in any order, the empty one perhaps among them, and a number a row."""
        order = sorted(
            (place for place, text in enumerate(distinct) if text), key=lambda at: order_key(distinct[at])
        )
        place = np.full(len(distinct) + 1, -1, dtype=np.int64)  # the last one is for missing rows, -1
        place[order] = np.arange(len(order))
        return cls(distinct=as_objects([distinct[at] for at in order]), code=place[code])

    @classmethod
    def of_integers(cls, values: np.ndarray) -> Self:
        """From whole numbers ``[R]``: their order is that of their texts."""
        distinct, code = np.unique(values, return_inverse=True)
        return cls(
            distinct=as_objects([str(value) for value in distinct.tolist()]), code=code.astype(np.int64)
        )

    def __len__(self) -> int:
        return len(self.code)

    def __getitem__(self, row: int) -> str:
        code = int(self.code[row])
        return "" if code < 0 else str(self.distinct[code])

    @property
    def missing(self) -> np.ndarray:
        """``[R]`` bool."""
        return self.code < 0

    @property
    def rows(self) -> np.ndarray:
        """``[R]`` str objects; the empty text where one is missing."""
        rows: np.ndarray = as_objects([*self.distinct, ""])[self.code]
        return rows

    def tolist(self) -> list[str]:
        """:attr:`rows` as a list."""
        texts: list[str] = self.rows.tolist()
        return texts

    def select(self, rows: np.ndarray) -> Self:
        """The texts of ``rows`` (int64 or bool), and of the distinct ones only those that still occur."""
        code = self.code[rows]
        seen = np.bincount(code[code >= 0], minlength=len(self.distinct)) > 0
        place = np.append(np.cumsum(seen) - 1, -1)
        return type(self)(distinct=self.distinct[seen], code=place[code])


def as_objects(texts: Sequence[str]) -> np.ndarray:
    """``[n]`` str objects: NumPy's own texts lose trailing NULs, and are all as wide as the longest one."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def find(wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where in ``known`` (distinct texts) each of ``wanted`` is, int64; -1 where it is not."""
    place = {text: at for at, text in enumerate(known.tolist())}
    return np.fromiter((place.get(text, -1) for text in wanted.tolist()), dtype=np.int64, count=len(wanted))
