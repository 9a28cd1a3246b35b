"""Columns of tables, as what they are asked for.

Ids, labels and titles are texts as they stand in the file; only numbers and times are parsed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID

import numpy as np

from painvrl.core.errors import DataError, listing
from painvrl.data.sources.messages import Place, first_line
from painvrl.data.sources.tabular import Table
from painvrl.data.sources.texts import Texts

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATES: Final = (datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC))
"""What a date must lie between: the years that nanoseconds since 1970 can count. Others mean "unknown"."""
DATE: Final = re.compile(r"(\d{1,2})([./])(\d{1,2})[./](\d{4})(?:[ T](\d{1,2}:\d{2}(?::\d{2})?))?")
"""A date whose year comes last, perhaps with a time of day."""
_CLOCK: Final = (631_152_000, 4_102_444_800)
"""Seconds since 1970 of the years 1990 to 2099."""
_UNITS: Final = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""By name, how many of them make a second; what is a time in one is none in another."""
_NEARLY_ALL: Final = 0.99
_PRINTED_DECIMALS: Final = 10
_COMMA_NUMBER: Final = re.compile(r"[+-]?\d+(,\d+)?")
_THOUSANDS: Final = r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$"
_FLAGS: Final = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}


Decimal: TypeAlias = Literal[",", "."]
DateOrder: TypeAlias = Literal["day_first", "month_first"]


@dataclass(frozen=True)
class Column:
    """A column of ``table`` that ``key`` of the configuration asks for by its ``name``.

    ``decimal``: what stands before the decimals, a comma or a point. ``dates``: what of a date stands first,
    ``day_first`` or ``month_first``. Without them a text column is read as all of it can only be read.

    Every method reads it as something else, and raises a ``DataError`` where there is no such column; that
    one names those that exist.
    """

    table: Table
    name: str
    key: str
    decimal: Decimal | None = None
    dates: DateOrder | None = None

    @property
    def place(self) -> Place:
        """For messages."""
        return Place(self.table.file, self.key, self.name)

    @cached_property
    def values(self) -> pa.ChunkedArray:
        """As the file has it, but decoded where it says each value once, and as what an extension stores."""
        import pyarrow as pa

        if self.name not in self.table.names:
            raise self.place.error(f"there is no such column; the file has {listing(self.table.names)}")
        values = self.table.data[self.name]
        if is_kind(values.type, "dictionary"):
            values = values.cast(values.type.value_type)
        if isinstance(values.type, pa.BaseExtensionType):
            kind = values.type
            values = pa.chunked_array([chunk.storage for chunk in values.chunks], kind.storage_type)
            values = _uuid_texts(values) if kind.extension_name == "arrow.uuid" else values
        # Few of Arrow's functions know views.
        return values.cast(pa.string()) if is_kind(values.type, "string_view") else values

    def ids(self) -> Texts:
        """Ids.

        Raises:
            DataError: an id is missing, or the column can hold no ids.
        """
        ids = self._texts(ids=True)
        require_ids(ids, self.place)
        return ids

    def distinct_ids(self, of: str) -> Texts:
        """Ids of users or items (``of``), none of which repeats.

        Raises:
            DataError: one does, or as :meth:`ids`.
        """
        ids = self.ids()
        require_distinct(ids, self.place, of=of)
        return ids

    def coded(self) -> Texts:
        """Texts, and which rows have none.

        Raises:
            DataError: the column can hold no texts.
        """
        return self._texts()

    def labels(self) -> np.ndarray:
        """``[rows]`` str objects; empty where one is missing."""
        return self._texts().rows

    def texts(self) -> list[str]:
        """Titles or descriptions, a text a row; empty where one is missing."""
        return self._texts().tolist()

    def numbers(self, *, narrow: bool = False) -> np.ndarray:
        """Finite numbers, ``[rows]`` float64; texts that are all true or false are 1 and 0.

        Args:
            narrow: whether they become float32 again, so that those of the file may stay as their bits are.
                Otherwise they are what they print as: 0.7 as float32 is 0.7, and not 0.699999988.

        Raises:
            DataError: a value is missing, infinite or no number; or a comma may divide thousands.
        """
        values = self._numbers() if narrow else self._as_printed
        if isinstance(values, int):
            raise self.place.error(
                f"the column must hold numbers; row {values + 1} has {self.values[values]}"
            )
        wrong = ~np.isfinite(values)
        if wrong.any():
            row = int(wrong.argmax())
            raise self.place.error(
                f"{wrong.sum()} values of the column are missing or infinite; "
                f"the first is {values[row]} in row {row + 1}"
            )
        return values

    def times(self) -> np.ndarray:
        """Times, ``[rows]`` float64: numbers as they are, dates in seconds since 1970.

        Dates are written as ISO 8601 says, or as 18.09.2024 or 09/18/2024. One without a zone is UTC.

        Raises:
            DataError: a value is missing, no time, or a date before 1678 or after 2261; or nothing tells
                days from months.
        """
        if is_kind(self.values.type, "timestamp", "date"):
            return self._typed_times()
        no_number = self._as_printed
        if not isinstance(no_number, int):
            return self.numbers()
        texts = self._texts()
        order = self._date_order(texts.distinct.tolist())
        every = np.array([*(_seconds(text, order) for text in texts.distinct.tolist()), np.nan])
        seconds: np.ndarray = every[texts.code]
        wrong = np.isnan(seconds)
        if wrong.any():
            row = int(wrong.argmax())
            if row < no_number and not texts.missing[row]:
                row = no_number  # all before it are numbers
            raise self._no_time(row, texts[row] or "nothing")
        return seconds

    @property
    def assumed(self) -> str | None:
        """How its numbers or dates are read, where that is not the usual way and no key says it.

        Raises:
            DataError: as :meth:`numbers` and :meth:`times`.
        """
        from pyarrow import compute

        values = self.values
        if not is_kind(values.type, *_TEXTUAL):
            return None
        if self.dates is None and compute.any(compute.match_substring_regex(values, DATE.pattern)).as_py():
            texts = self._texts().distinct.tolist()
            if (order := self._date_order(texts)) is not None:
                example = next(text for text in texts if DATE.fullmatch(text.strip()))
                return f"{self.name}: dates such as {example} are read with the {order.split('_')[0]} first"
        if self.decimal is None and compute.any(compute.match_substring(values, ",")).as_py():
            texts = self._texts().distinct.tolist()
            if self._has_decimal_commas(texts):
                example = next(text for text in texts if "," in text)
                return f"{self.name}: numbers such as {example} are read with a decimal comma"
        return None

    @property
    def doubts(self) -> tuple[str, ...]:
        """A sentence where its times are numbers, and some are in another unit, such as milliseconds, or 0.

        Numbers that only count, such as steps or years, are times like any others, and so are those before
        1970.
        """
        if is_kind(self.values.type, "timestamp", "date") or isinstance(self._as_printed, int):
            return ()
        times, (first, last) = self._as_printed, _CLOCK
        counts = {
            f"in {unit}": int(((times >= first * size) & (times < last * size)).sum())
            for unit, size in _UNITS.items()
        }
        counts["at 0"] = int((times == 0).sum())
        said = [f"{count:,} {what}" for what, count in counts.items() if count]
        # Of numbers that count, or that are spread evenly, more lie between the units.
        if len(said) < 2 or sum(counts.values()) < _NEARLY_ALL * len(times):
            return ()
        return (f"{self.key}: the times of {self.name} are of several kinds: {', '.join(said)}",)

    def _date_order(self, texts: Sequence[str]) -> DateOrder | None:
        """What of dates that are not ISO 8601 stands first; ``None`` where there is no such date."""
        if self.dates is not None:
            return self.dates
        found = [(DATE.fullmatch(text.strip()), text) for text in texts]
        dates = [date for date, _ in found if date is not None]
        if not dates or any(date is None and not math.isnan(_seconds(text, None)) for date, text in found):
            return None  # one column in two ways
        if all(date[2] == "." for date in dates):
            return "day_first"
        late = [any(int(date[place]) > 12 for date in dates) for place in (1, 3)]
        if late[0] != late[1]:
            return "day_first" if late[0] else "month_first"
        raise self.place.error(
            f"dates such as {dates[0][0]} may put the day or the month first"
            + (", and none has a day above 12" if not late[0] else ": one part and the other are above 12")
            + "; data.dates, day_first or month_first, says which"
        )

    def _has_decimal_commas(self, texts: Iterable[str | None]) -> bool:
        """Whether ``texts`` are numbers, some with a comma before the decimals."""
        written = {text.strip() for text in texts if text}
        commas = [text for text in written if "," in text]
        if not commas or not all(_COMMA_NUMBER.fullmatch(text) for text in written):
            return False
        if all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text) for text in commas):
            raise self.place.error(
                f"numbers such as {min(commas)} may have a decimal comma, or one that divides thousands; "
                "data.decimal, ',' or '.', says what is before decimals"
            )
        return True

    def _texts(self, *, ids: bool = False) -> Texts:
        """As text, whatever the type: whole numbers without a point, bytes decoded."""
        import pyarrow as pa
        from pyarrow import compute

        values = self.values
        kind = values.type
        if is_kind(kind, "floating"):
            return Texts.of(float_texts(values.to_numpy(zero_copy_only=False), self.place, ids=ids))
        if is_kind(kind, "decimal"):
            decimals = values.to_pylist()
            whole = all(value is None or value == int(value) for value in decimals)
            return Texts.of(
                None if value is None else str(int(value)) if whole else format(value, "f")
                for value in decimals
            )
        if is_kind(kind, "boolean"):
            return Texts.of(None if value is None else str(value) for value in values.to_pylist())
        if is_kind(kind, "integer", "temporal", "null"):
            try:
                values = values.cast(pa.string())
            except pa.ArrowInvalid as error:  # a time zone that no one knows
                raise self.place.error(f"cannot be read: {first_line(error)}") from error
        elif not is_kind(kind, *_TEXTUAL, "binary", "large_binary", "fixed_size_binary", "binary_view"):
            raise self.place.error("the column must hold texts or whole numbers", f"{self.name} ({kind})")
        coded = compute.dictionary_encode(values.cast(pa.large_binary())).unify_dictionaries()
        parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in coded.chunks]
        code = np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int64)
        texts = []
        for at, raw in enumerate(coded.chunk(0).dictionary.to_pylist() if coded.num_chunks else []):
            try:
                texts.append(raw.decode("utf-8"))
            except UnicodeDecodeError as error:
                row = int((code == at).argmax())
                raise self.place.error(f"row {row + 1} of the column is not UTF-8 text") from error
        return Texts.numbered(texts, code)

    def _numbers(self) -> np.ndarray | int:
        """``[rows]`` float64, NaN where one is missing; or the first row whose text is no number."""
        import pyarrow as pa
        from pyarrow import compute

        values = self.values
        kind = values.type
        if is_kind(kind, *_TEXTUAL):
            trimmed = compute.ascii_trim_whitespace(values.cast(pa.string()))
            trimmed = compute.if_else(compute.equal(trimmed, ""), None, trimmed)
            if self.decimal == ",":
                trimmed = _with_points(trimmed)
            if self.decimal == ".":
                trimmed = compute.if_else(
                    compute.match_substring_regex(trimmed, _THOUSANDS),
                    compute.replace_substring(trimmed, ",", ""),
                    trimmed,
                )
            try:
                values = trimmed.cast(pa.float64())
            except pa.ArrowInvalid:
                self._texts()  # names a row that is no UTF-8
                texts = trimmed.to_pylist()
                if all(text is None or text in _FLAGS for text in texts):
                    return np.array([_FLAGS.get(text, np.nan) for text in texts])
                if self.decimal is not None or not self._has_decimal_commas(texts):
                    return _first_that_is_no_number(trimmed)
                values = _with_points(trimmed).cast(pa.float64())
        elif is_kind(kind, "boolean"):
            values = values.cast(pa.int8())
        elif is_kind(kind, "decimal"):
            values = values.cast(pa.string())  # Arrow's own way to floats is off in the last digit
        elif not is_kind(kind, "integer", "floating", "null"):
            raise self.place.error("the column must hold numbers", f"{self.name} ({kind})")
        numbers = values.cast(pa.float64(), safe=False)
        result: np.ndarray = numbers.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        return result

    @cached_property
    def _as_printed(self) -> np.ndarray | int:
        """:meth:`_numbers`, where a fraction that is stored in few bits is the shortest text for it."""
        import pyarrow as pa

        values = self._numbers()
        narrow = {pa.float16(): np.float16, pa.float32(): np.float32}.get(self.values.type)
        if narrow is None or isinstance(values, int):
            return values
        exact = values.copy()
        left = np.flatnonzero(values != np.trunc(values))
        for decimals in range(1, _PRINTED_DECIMALS + 1):  # most have few, and texts are slow
            scaled = values[left] * 10.0**decimals
            rounded = np.rint(scaled) / 10.0**decimals
            same = (rounded.astype(narrow) == values[left].astype(narrow)) & (np.abs(scaled) < 2.0**53)
            exact[left[same]] = rounded[same]
            left = left[~same]
        exact[left] = values[left].astype(narrow).astype(str).astype(np.float64)
        return exact

    def _typed_times(self) -> np.ndarray:
        """Seconds of a Parquet column of dates; to the microsecond, as of texts."""
        import pyarrow as pa
        from pyarrow import compute

        values = self.values
        days = is_kind(values.type, "date32")
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[getattr(values.type, "unit", "ms")]
        # Looked at in the file's own unit: in a finer one, a far date can be a near one.
        plain = compute.fill_null(values.cast(pa.int32() if days else pa.int64()), 0)
        counts = plain.to_numpy().astype(np.int64)
        if per_second == 10**9:
            counts, per_second = counts // 1000, 10**6
        seconds: np.ndarray = counts * 86400.0 if days else counts / per_second
        missing = values.is_null().to_numpy()
        first, last = ((date - _EPOCH).total_seconds() for date in _DATES)
        wrong = missing | (seconds < first) | (seconds >= last)
        if wrong.any():
            row = int(wrong.argmax())
            raise self._no_time(row, "nothing" if missing[row] else _date(float(seconds[row])))
        return seconds

    def _no_time(self, row: int, value: str) -> DataError:
        return self.place.error(
            "the column must hold numbers, or ISO 8601 dates such as 2017-07-14T03:25:00 from the years 1678 "
            f"to 2261, or dates such as 14.07.2017; row {row + 1} has {value}"
        )


_TEXTUAL: Final = ("string", "large_string")


def is_kind(kind: pa.DataType, *names: str) -> bool:
    """Whether Arrow's type is of one of these kinds."""
    from pyarrow import types

    return any(getattr(types, f"is_{name}")(kind) for name in names)


def assumed_of(*columns: Column | None) -> tuple[str, ...]:
    """What was assumed of each of them that there is, if anything was."""
    return tuple(note for column in columns if column is not None and (note := column.assumed))


def float_texts(numbers: np.ndarray, place: Place, *, ids: bool) -> list[str | None]:
    """Texts for a column of floats: whole numbers without a point where all are whole; NaN is missing.

    Raises:
        DataError: ``ids``, and one of them is not whole or not below 2^53 (2^24 for float32): from there on,
            two whole numbers can be one float.
    """
    known = ~np.isnan(numbers)
    bits = np.finfo(numbers.dtype).nmant + 1
    whole = ~known | ((np.abs(numbers) < 2.0**bits) & (numbers == np.trunc(numbers)))
    if whole.all():
        return [
            str(int(number)) if has else None for number, has in zip(numbers.tolist(), known, strict=True)
        ]
    if ids:
        row = int((~whole).argmax())
        raise place.error(
            f"ids stored as floating-point numbers must be whole and below 2^{bits}, or two can be one; "
            f"row {row + 1} has {float(numbers[row])}. Store them as text"
        )
    # As the column's own type prints it: 0.7 as float32 is not 0.699999988079071.
    return [str(number) if has else None for number, has in zip(numbers, known, strict=True)]


def require_ids(ids: Texts, place: Place) -> None:
    """Refuse a column of ids some of which are missing.

    Raises:
        DataError: the first such row is named.
    """
    missing = ids.missing
    if missing.any():
        raise place.error(f"{missing.sum()} rows have no id; the first is row {int(missing.argmax()) + 1}")


def require_distinct(ids: Texts, place: Place, *, of: str = "item") -> None:
    """Refuse ids (of items, or of what ``of`` names) that repeat.

    Raises:
        DataError: the first such id is named, with its rows.
    """
    repeated = np.flatnonzero(np.bincount(ids.code, minlength=len(ids.distinct)) > 1)
    if len(repeated):
        first, second = np.flatnonzero(ids.code == repeated[0])[:2] + 1
        raise place.error(
            f"{len(repeated)} {of} ids occur more than once; the first is {ids.distinct[repeated[0]]} "
            f"in rows {first} and {second}"
        )


def _uuid_texts(stored: pa.ChunkedArray) -> pa.ChunkedArray:
    """UUIDs of 16 bytes each as everyone writes them."""
    import pyarrow as pa

    chunks = []
    for chunk in stored.chunks:
        each = chunk.dictionary_encode()
        texts = pa.array([str(UUID(bytes=raw)) for raw in each.dictionary.to_pylist()], pa.string())
        chunks.append(texts.take(each.indices))
    return pa.chunked_array(chunks, pa.string())


def _first_that_is_no_number(texts: pa.ChunkedArray) -> int:
    """The first row of ``texts``, some of which are no numbers: halves are parsed, not row by row."""
    import pyarrow as pa

    start, stop = 0, len(texts)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            texts.slice(start, middle - start).cast(pa.float64())
            start = middle
        except pa.ArrowInvalid:
            stop = middle
    return start


def _with_points(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers with decimal commas as numbers with points; one with a point is none any more."""
    from pyarrow import compute

    return compute.replace_substring(compute.replace_substring(texts, ".", "?"), ",", ".")


def _date(seconds: float) -> str:
    """The date for a message, whatever it is."""
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return f"{seconds:.0f} seconds since 1970"


def _seconds(text: str, order: DateOrder | None) -> float:
    """Seconds since 1970 of a date, ISO 8601 or in ``order``; NaN where it is none, or does not fit."""
    written = text.strip()
    if order is not None and (found := DATE.fullmatch(written)):
        first, _, second, year, clock = found.groups()
        day, month = (first, second) if order == "day_first" else (second, first)
        written = f"{year}-{int(month):02}-{int(day):02}" + (
            f" {clock.zfill(5 if clock.count(':') == 1 else 8)}" if clock else ""
        )
    try:
        date = datetime.fromisoformat(f"{written}-01" if re.fullmatch(r"\d{4}-\d{2}", written) else written)
    except ValueError:
        return float("nan")
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    # Compared before they are subtracted: near the years 1 and 9999 a zone leaves the calendar.
    return (date - _EPOCH) / timedelta(seconds=1) if 1678 <= date.year < 2262 else float("nan")
