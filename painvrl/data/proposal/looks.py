"""What a column looks like, by its name and its content."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from painvrl.core.errors import DataError, listing
from painvrl.data.sources.columns import Column, is_kind
from painvrl.data.sources.messages import Place
from painvrl.data.sources.tabular import Table
from painvrl.data.sources.texts import Texts, as_objects

USER = re.compile(
    "user|u|usr|customer|client|reviewer|member|account|visitor|person|player|reader|listener|viewer|buyer|"
    "subscriber|patient|student|profile|session"
)
ITEM = re.compile(
    "item|i|product|prod|parentasin|movie|film|book|isbn|asin|sku|song|track|article|video|game|recipe|"
    "business|listing|content|post|news|place|poi|app|course|artist|offer|document|doc|show|anime"
)
TIME = re.compile(
    "(unix)?(time|timestamp|date|datetime|ts|day|when|at|created|reviewtime)(ms|s)?|"
    "(event|purchase|order|rating|view|play|visit)(time|date)|[a-z]+edat"
)
RATING = re.compile(
    "(review)?(rating|score)s?|stars?|overall|rate|bewertung(en)?|sterne|punkte|valoracion|calificacion|"
    "puntuacion|voto|avaliacao"
)
"""Where more is better: a German ``Note`` of 1 is the best one."""
TAGS = re.compile("genre|categor|kategor|tag(?!e)|keyword|topic")
TITLE = re.compile(r"title|titel|titre|titulo|titolo|name")
_FOREIGN = {
    re.compile(r"\d{1,2}[./]\d{1,2}[./]\d{2,4}.*"): "its dates cannot be read, unless data.dates says how",
    re.compile(r"-?\d+,\d+"): "its numbers cannot be read, unless data.decimal says how",
}
"""Values as other countries write them, and what is said where they may mean two things."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_PRINTED = re.compile(r"\[.*\]", re.DOTALL)
_SUFFIX = re.compile(r"(ids?|no|nr|num|number|key|code|idx|index)$")
_EPOCH = (6e8, 4.2e9)
"""Seconds since 1970 from 1989 to 2103, which no other numbers are likely to be all between."""
_SAMPLE = 2000
_STEPS = 21
"""Different values of a scale of ratings, at most: halves from 0 to 10."""
_LONG = 40
"""Characters that no tag has."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A column.

    Attributes:
        column: where it is.
        texts: what it holds; ``None`` where that is neither text nor number, such as lists.
    """

    column: Column
    texts: Texts | None

    @property
    def name(self) -> str:
        """As the file has it."""
        return self.column.name

    @cached_property
    def squashed(self) -> str:
        """The name, see :func:`squashed`."""
        return squashed(self.name)

    @property
    def is_rating(self) -> bool:
        """Whether it is called like ratings; what has an ``id`` behind such a word is none."""
        return RATING.fullmatch(self.squashed) is not None

    def is_called(self, words: re.Pattern[str]) -> bool:
        """Whether its name is one of ``words``, perhaps with an ``id`` behind it."""
        return is_called(self.name, words)

    def is_called_ids_of(self, words: re.Pattern[str]) -> bool:
        """As :meth:`is_called`, but ``place`` and ``content`` are no ids, as ``place_id`` is."""
        return self.is_called(words) and (
            _SUFFIX.search(self.squashed) is not None or self.squashed in ("user", "item")
        )

    @property
    def distinct(self) -> np.ndarray:
        """Distinct texts."""
        return as_objects([]) if self.texts is None else self.texts.distinct

    @cached_property
    def missing(self) -> int:
        """Rows without a text."""
        return 0 if self.texts is None else int(self.texts.missing.sum())

    @property
    def is_key(self) -> bool:
        """Every row has a text, and no two have the same."""
        return self.texts is not None and not self.missing and len(self.distinct) == len(self.texts)

    @cached_property
    def numbers(self) -> np.ndarray | None:
        """``[rows]``; ``None`` where a row holds none."""
        try:
            return self.column.numbers()
        except DataError:
            return None

    @cached_property
    def has_fractions(self) -> bool:
        """Whether it holds numbers that are not all whole, such as prices: no ids."""
        return self.numbers is not None and bool((self.numbers % 1 != 0).any())

    @cached_property
    def holds_numbers(self) -> bool:
        """Whatever is not missing is a number; ``1,6`` below the name of tags is two of them."""
        if TAGS.search(self.squashed) and any("," in text for text in self.sample):
            return False
        try:
            numbers = [text.replace(",", ".") for text in self.sample]
            return bool(np.isfinite(np.array(numbers, dtype=np.float64)).all())
        except ValueError:
            return False

    @property
    def assumed(self) -> str | None:
        """How its numbers or dates are read, where that is to be said."""
        try:
            return self.column.assumed
        except DataError:
            return None

    @property
    def is_list(self) -> bool:
        """Each row holds several numbers, all rows as many."""
        from pyarrow import compute

        kind = self.column.values.type
        if not is_kind(kind, "list", "large_list", "fixed_size_list"):
            return False
        lengths = compute.list_value_length(self.column.values)
        return is_kind(kind.value_type, "integer", "floating") and len(lengths.unique()) == 1

    @cached_property
    def written_lists(self) -> bool:
        """Whether most of its texts are lists as a program prints them, such as ``['Drama', 'Action']``."""
        return 2 * sum(_PRINTED.fullmatch(text.strip()) is not None for text in self.sample) > len(
            self.sample
        )

    @cached_property
    def is_headless(self) -> bool:
        """Whether its name is a value: one that its rows have, too, or a number of no counter."""
        if _NUMBER.fullmatch(self.name) is None or self.numbers is None:
            return self.name in self.distinct
        return self.name in self.distinct or float(self.name) % 1 != 0 or float(self.name) >= _EPOCH[0]

    @cached_property
    def not_a_time(self) -> str | None:
        """Why it holds no times; ``None`` where it does."""
        try:
            times = self.column.times()
        except DataError as error:
            return error.rule
        if self.numbers is None:
            return None
        low, high = _EPOCH
        scaled = times / (1e3 if len(times) and times.max() > 1e11 else 1.0)
        return None if (scaled >= low).all() and (scaled < high).all() else "its numbers are no times"

    @property
    def scale(self) -> str | None:
        """From where to where, if it may be a scale of ratings: few numbers that are small."""
        values = self.numbers
        if values is None or not 1 < len(found := np.unique(values)) <= _STEPS:
            return None
        return f"{found[0]:g} to {found[-1]:g}" if found[0] >= 0 and 3 <= found[-1] <= 10 else None

    @cached_property
    def foreign(self) -> str | None:
        """How its dates or numbers would have to be written; ``None`` where they are, or it has none."""
        for written, rule in _FOREIGN.items():
            if self.sample and all(written.fullmatch(text) or text.isdecimal() for text in self.sample):
                is_read = self.numbers is not None or self.not_a_time is None
                return None if is_read else f"{rule} (found {self.sample[0]!r})"
        return None

    @cached_property
    def sample(self) -> list[str]:
        """Some of the distinct texts, evenly from all."""
        step = max(1, len(self.distinct) // _SAMPLE)
        return [str(text) for text in self.distinct[::step]]

    @cached_property
    def words(self) -> float:
        """Words of a text, on average."""
        return float(np.mean([len(text.split()) for text in self.sample])) if self.sample else 0.0

    @cached_property
    def tag_separator(self) -> str | None:
        """What divides tags, where it holds tags: short names that come back in other rows.

        A column of one name a row is divided by the usual ``|``, too.
        """
        rows = len(self.texts) - self.missing if self.texts is not None else 0
        if not rows:
            return None
        for separator in ("|", ";", ", ", ","):
            names = [name for text in self.sample for name in text.split(separator) if name]
            if 10 * sum(separator in text for text in self.sample) < len(self.sample) or not names:
                continue
            if 2 * len(set(names)) <= len(names) and max(map(len, names)) <= _LONG:
                return separator
        few = 3 * len(self.distinct) <= rows and max(map(len, self.sample)) <= _LONG
        return "|" if few and self.words < 4 else None


def squashed(name: str) -> str:
    """The name's letters, without accents, and digits, in lower case."""
    return re.sub(r"[^0-9a-z]", "", unicodedata.normalize("NFKD", name).lower())


def stem_of(name: str) -> str:
    """The name without an ``id`` behind it."""
    return _SUFFIX.sub("", squashed(name))


def is_called(name: str, words: re.Pattern[str]) -> bool:
    """Whether a name is one of ``words``, perhaps with an ``id`` behind it."""
    return any(words.fullmatch(one) for one in (squashed(name), stem_of(name)))


def require_header(looks: Iterable[Look], file: Path | str, *values: str) -> None:
    """Refuse a table whose first line is no line of names, but one of values.

    Args:
        looks: of its columns.
        file: that holds it.
        values: names of columns that are known to be values, whatever is below them.

    Raises:
        DataError: most of the names are values, or one of them is known to be.
    """
    looks = list(looks)
    known = (USER, ITEM, TIME, RATING, TITLE, TAGS)
    words = {look.name for look in looks if any(look.is_called(one) for one in known)}
    if any(look.name in words and look.name not in look.distinct for look in looks):
        return
    found = [
        look.name for look in looks if look.name not in words and (look.is_headless or look.name in values)
    ]
    if any(look.name == "0" for look in looks):  # pandas counts the columns that have no names
        found = [name for name in found if not name.isdecimal() or int(name) >= len(looks)]
    if 2 * len(found) > len(looks) or set(values) & set(found):
        raise Place(file, "init").error(
            "the first line must name the columns; here it holds values. Put a line of names before it, such "
            "as user,item,time",
            listing(found),
        )


def looks_of(table: Table) -> Iterator[Look]:
    """Its columns."""
    for name in table.names:
        column = Column(table, name, "")
        try:
            yield Look(column=column, texts=column.coded())
        except DataError:
            yield Look(column=column, texts=None)
