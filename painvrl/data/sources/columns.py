"""Columns of tables, as what they are asked for.

Ids, labels and titles are texts as they stand in the file; only numbers and times are parsed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np

from painvrl.core.errors import DataError
from painvrl.data.sources.tabular import Table, first_line, listing
from painvrl.data.sources.texts import Texts, as_objects

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATES: Final = (datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC))
"""What a date must lie between: the years that nanoseconds since 1970 can count. Others mean "unknown"."""
_FLAGS: Final = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}


def column(table: Table, name: str, *, key: str) -> pa.ChunkedArray:
    """One column.

    Raises:
        DataError: there is no such column; the message names those that exist.
    """
    if name not in table.names:
        raise DataError(
            f"there is no such column; the file has {listing(table.names)}",
            file=table.file,
            key=key,
            value=name,
        )
    return table.data[name]


def id_column(table: Table, name: str, *, key: str) -> Texts:
    """A column of ids.

    Raises:
        DataError: there is no such column, an id is missing, or the column can hold no ids.
    """
    ids = _texts(table, name, key=key, ids=True)
    require_ids(ids, file=table.file, key=key, value=name)
    return ids


def label_column(table: Table, name: str, *, key: str) -> np.ndarray:
    """A column of labels, ``[rows]`` str objects; empty where one is missing.

    Raises:
        DataError: there is no such column.
    """
    labels = _texts(table, name, key=key)
    result: np.ndarray = as_objects([*labels.distinct, ""])[labels.code]
    return result


def text_column(table: Table, name: str, *, key: str) -> list[str]:
    """A column of titles or descriptions, a text a row; empty where one is missing.

    Raises:
        DataError: there is no such column.
    """
    return _texts(table, name, key=key).tolist()


def _texts(table: Table, name: str, *, key: str, ids: bool = False) -> Texts:
    """A column as text, whatever its type: whole numbers without a point, bytes decoded."""
    import pyarrow as pa
    from pyarrow import compute, types

    values = column(table, name, key=key)
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if types.is_floating(kind):
        numbers = values.to_numpy(zero_copy_only=False)
        return Texts.of(float_texts(numbers, file=table.file, key=key, value=name, ids=ids))
    if types.is_decimal(kind):
        decimals = values.to_pylist()
        whole = all(value is None or value == int(value) for value in decimals)
        return Texts.of(
            None if value is None else str(int(value)) if whole else format(value, "f") for value in decimals
        )
    if types.is_boolean(kind):
        return Texts.of(None if value is None else str(value) for value in values.to_pylist())
    plain = types.is_integer(kind) or types.is_temporal(kind) or types.is_null(kind)
    textual = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    if plain:
        try:
            values = values.cast(pa.string())
        except pa.ArrowInvalid as error:  # a time zone that nobody knows
            raise DataError(
                f"cannot be read: {first_line(error)}", file=table.file, key=key, value=name
            ) from error
    elif not (textual or binary or types.is_binary_view(kind)):
        raise DataError(
            "the column must hold texts or whole numbers", file=table.file, key=key, value=f"{name} ({kind})"
        )
    coded = compute.dictionary_encode(values.cast(pa.large_binary())).unify_dictionaries()
    parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in coded.chunks]
    code = np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int64)
    raw = coded.chunk(0).dictionary.to_pylist() if coded.num_chunks else []
    return Texts.numbered(
        [_decoded(text, at, code, table.file, key, name) for at, text in enumerate(raw)], code
    )


def _decoded(text: bytes, at: int, code: np.ndarray, file: Path | str, key: str, name: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        row = int((code == at).argmax())
        raise DataError(
            f"row {row + 1} of the column is not UTF-8 text", file=file, key=key, value=name
        ) from error


def float_texts(
    numbers: np.ndarray, *, file: Path | str, key: str, value: str, ids: bool
) -> list[str | None]:
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
        raise DataError(
            f"ids stored as floating-point numbers must be whole and below 2^{bits}, or two can be one; "
            f"row {row + 1} has {float(numbers[row])}. Store them as text",
            file=file,
            key=key,
            value=value,
        )
    # As the column's own type prints it: 0.7 as float32 is not 0.699999988079071.
    return [str(number) if has else None for number, has in zip(numbers, known, strict=True)]


def require_ids(ids: Texts, *, file: Path | str, key: str, value: str) -> None:
    """Refuse a column of ids some of which are missing.

    Raises:
        DataError: the first such row is named.
    """
    missing = ids.missing
    if missing.any():
        raise DataError(
            f"{missing.sum()} rows have no id; the first is row {int(missing.argmax()) + 1}",
            file=file,
            key=key,
            value=value,
        )


def require_distinct(ids: Texts, *, file: Path | str, key: str, value: str, of: str = "item") -> None:
    """Refuse ids (of items, or of what ``of`` names) that repeat.

    Raises:
        DataError: the first such id is named, with its rows.
    """
    repeated = np.flatnonzero(np.bincount(ids.code, minlength=len(ids.distinct)) > 1)
    if len(repeated):
        first, second = np.flatnonzero(ids.code == repeated[0])[:2] + 1
        raise DataError(
            f"{len(repeated)} {of} ids occur more than once; the first is {ids.distinct[repeated[0]]} "
            f"in rows {first} and {second}",
            file=file,
            key=key,
            value=value,
        )


def number_column(table: Table, name: str, *, key: str) -> np.ndarray:
    """A column of finite numbers, ``[rows]`` float64; texts that are all true or false are 1 and 0.

    Raises:
        DataError: there is no such column, or a value is missing, infinite or no number.
    """
    values = _numbers(table, name, key=key)
    if isinstance(values, int):
        raise DataError(
            f"the column must hold numbers; row {values + 1} has {column(table, name, key=key)[values]}",
            file=table.file,
            key=key,
            value=name,
        )
    wrong = ~np.isfinite(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{wrong.sum()} values of the column are missing or infinite; "
            f"the first is {values[row]} in row {row + 1}",
            file=table.file,
            key=key,
            value=name,
        )
    return values


def _numbers(table: Table, name: str, *, key: str) -> np.ndarray | int:
    """``[rows]`` float64, NaN where one is missing; or the first row whose text is no number."""
    import pyarrow as pa
    from pyarrow import compute, types

    values = column(table, name, key=key)
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        trimmed = compute.ascii_trim_whitespace(values.cast(pa.string()))
        trimmed = compute.if_else(compute.equal(trimmed, ""), None, trimmed)
        try:
            values = trimmed.cast(pa.float64())
        except pa.ArrowInvalid:
            texts = trimmed.to_pylist()
            if all(text is None or text in _FLAGS for text in texts):
                return np.array([_FLAGS.get(text, np.nan) for text in texts])
            return _first_that_is_no_number(trimmed)
    elif types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif not (
        types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    ):
        raise DataError("the column must hold numbers", file=table.file, key=key, value=f"{name} ({kind})")
    numbers = values.cast(pa.float64(), safe=False)
    result: np.ndarray = numbers.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return result


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


def time_column(table: Table, name: str, *, key: str) -> np.ndarray:
    """A column of times, ``[rows]`` float64: numbers as they are, ISO 8601 dates in seconds since 1970.

    A date without a zone is UTC.

    Raises:
        DataError: there is no such column, or a value is missing, no time, or a date before 1678 or after
            2261.
    """
    from pyarrow import types

    values = column(table, name, key=key)
    if types.is_timestamp(values.type) or types.is_date(values.type):
        return _typed_times(table, name, key)
    no_number = _numbers(table, name, key=key)
    if not isinstance(no_number, int):
        return number_column(table, name, key=key)
    texts = _texts(table, name, key=key)
    every = np.array([*(_seconds(text) for text in texts.distinct.tolist()), np.nan])
    seconds: np.ndarray = every[texts.code]
    wrong = np.isnan(seconds)
    if wrong.any():
        row = int(wrong.argmax())
        if row < no_number and not texts.missing[row]:
            row = no_number  # all before it are numbers
        _refuse_time(table, name, key, row, texts[row] or "nothing")
    return seconds


def _typed_times(table: Table, name: str, key: str) -> np.ndarray:
    """Seconds of a Parquet column of dates; to the microsecond, as of texts."""
    import pyarrow as pa
    from pyarrow import compute, types

    values = table.data[name]
    days = types.is_date32(values.type)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[getattr(values.type, "unit", "ms")]
    # Looked at in the file's own unit: in a finer one, a far date can be a near one.
    counts = compute.fill_null(values.cast(pa.int32() if days else pa.int64()), 0).to_numpy().astype(np.int64)
    if per_second == 10**9:
        counts, per_second = counts // 1000, 10**6
    seconds: np.ndarray = counts * 86400.0 if days else counts / per_second
    missing = values.is_null().to_numpy()
    first, last = ((date - _EPOCH).total_seconds() for date in _DATES)
    wrong = missing | (seconds < first) | (seconds >= last)
    if wrong.any():
        row = int(wrong.argmax())
        _refuse_time(table, name, key, row, "nothing" if missing[row] else _date(float(seconds[row])))
    return seconds


def _date(seconds: float) -> str:
    """The date for a message, whatever it is."""
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return f"{seconds:.0f} seconds since 1970"


def _seconds(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 date; NaN where it is none, or does not fit."""
    written = text.strip()
    try:
        date = datetime.fromisoformat(f"{written}-01" if re.fullmatch(r"\d{4}-\d{2}", written) else written)
    except ValueError:
        return float("nan")
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    # Compared before they are subtracted: near the years 1 and 9999 a zone leaves the calendar.
    return (date - _EPOCH) / timedelta(seconds=1) if 1678 <= date.year < 2262 else float("nan")


def _refuse_time(table: Table, name: str, key: str, row: int, value: str) -> NoReturn:
    raise DataError(
        "the column must hold numbers, or ISO 8601 dates such as 2017-07-14T03:25:00 from the years 1678 to "
        f"2261; row {row + 1} has {value}",
        file=table.file,
        key=key,
        value=name,
    )
