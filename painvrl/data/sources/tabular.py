"""Reading tables (CSV, TSV, Parquet): the only code that hands file content to Arrow.

No column's type is guessed. Ids, labels and titles are texts as they stand in the file; only what is asked
for as numbers or times is parsed. Rows are counted from 1, without the header.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np

from painvrl.data.sources.texts import Texts
from painvrl.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATES: Final = (datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC))
"""What a date must lie between: the years that nanoseconds since 1970 can count. Others mean "unknown"."""
_FLAGS: Final = {"true": 1.0, "True": 1.0, "false": 0.0, "False": 0.0}
_BLOCK: Final = 1 << 24
"""Bytes parsed at a time; no row may be longer."""
WHOLE: Final = 2.0**53
"""From here on, two whole numbers can be one float."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as it was read.

    Attributes:
        file: where it comes from, for messages.
        data: its columns; those of a text file are texts, unless they were asked for as numbers.
    """

    file: Path | str
    data: pa.Table

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in the order of the file."""
        return tuple(self.data.column_names)

    def __len__(self) -> int:
        rows: int = self.data.num_rows
        return rows


def resolve(path: Path, *, key: str) -> Path:
    """``path`` with ``~`` expanded, relative to the current directory.

    Raises:
        DataError: there is no such file.
    """
    expanded = path.expanduser()
    if not expanded.is_file():
        rule = "must be a file, not a folder" if expanded.is_dir() else "there is no such file"
        if not expanded.is_absolute():
            rule += f" under the current directory {Path.cwd()}"
        raise DataError(rule, file=path, key=key)
    return expanded


def read_table(
    path: Path,
    *,
    key: str,
    kind: str | None = None,
    quotes: bool = True,
    texts: Collection[str] | None = None,
) -> Table:
    """All columns of a ``.csv``, ``.tsv`` (also ``.gz``) or ``.parquet`` file.

    Args:
        path: the file.
        key: for messages.
        kind: one of these suffixes, for a file whose name ends in something else.
        quotes: whether a text file knows them.
        texts: the columns of a text file that are texts, where all others are numbers; ``None``: all are.

    Raises:
        DataError: the file is missing, of another kind, unreadable or without a row.
    """
    file = resolve(path, key=key)
    if kind is None:
        suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() != ".gz"]
        kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        return _read_parquet(file, path, key)
    if kind not in _SEPARATORS:
        raise DataError(
            "the file's name must end in .csv, .tsv (or .csv.gz, .tsv.gz) or .parquet",
            file=path,
            key=key,
            value=file.name,
        )
    try:
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=path, key=key) from error
    return parse_table(content, file=path, key=key, separator=_SEPARATORS[kind], quotes=quotes, texts=texts)


def parse_table(
    content: bytes,
    *,
    file: Path | str,
    key: str,
    separator: str,
    quotes: bool = True,
    header: Sequence[str] | None = None,
    texts: Collection[str] | None = None,
) -> Table:
    """A table from the bytes of a text file.

    Args:
        content: UTF-8, with or without a byte order mark; lines end in any of the three ways.
        file: for messages.
        key: for messages.
        separator: one character between the fields.
        quotes: whether a field may stand in double quotes.
        header: names of the columns, where the file has none.
        texts: as for :func:`read_table`.

    Raises:
        DataError: a row has too few or too many fields, repeats the header or is not UTF-8, a quote stands
            where it must not, two columns have one name, or there is no row.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    if quotes and b'"' in content:
        _check_quotes(content, separator, file, key)
    wrong: list[arrow.InvalidRow] = []
    block = min(len(content) + 1, _BLOCK)

    def note(row: arrow.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    def parse(types: dict[str, pa.DataType]) -> pa.Table:
        return arrow.read_csv(
            pa.BufferReader(content),
            # One thread: with several, rows that do not fit have no number.
            read_options=arrow.ReadOptions(use_threads=False, column_names=header, block_size=block),
            parse_options=arrow.ParseOptions(
                delimiter=separator,
                quote_char='"' if quotes else False,
                newlines_in_values=quotes,
                invalid_row_handler=note,
            ),
            convert_options=arrow.ConvertOptions(
                column_types=types, strings_can_be_null=False, null_values=[""]
            ),
        )

    names = list(header) if header is not None else _header(content, separator, quotes, file, key)
    everything = {name: pa.string() for name in names}
    try:
        if texts is None:
            data = parse(everything)
        else:
            try:
                data = parse({name: pa.string() if name in texts else pa.float64() for name in names})
            except pa.ArrowInvalid:  # some cell is no number: whoever asks for that column names it
                wrong.clear()
                data = parse(everything)
    except pa.ArrowInvalid as error:
        before = 1 if header is None else 0
        if wrong:
            row = wrong[0]
            raise DataError(
                f"row {row.number - before} has {row.actual_columns} fields where the "
                f"{'header' if header is None else 'format'} has {row.expected_columns}",
                file=file,
                key=key,
                value=row.text[:80],
            ) from error
        found = re.search(r"column #(\d+): Row #(\d+)", str(error))
        if found:
            raise DataError(
                f"row {int(found[2]) - before} of the column {names[int(found[1])]} is not UTF-8 text",
                file=file,
                key=key,
            ) from error
        empty = "Empty CSV" in str(error)
        rule = "holds no row" if empty else f"cannot be read: {first_line(error)}"
        raise DataError(rule, file=file, key=key) from error
    table = Table(file=file, data=data)
    _check_table(table, key, text=header is None)
    return table


def _header(content: bytes, separator: str, quotes: bool, file: Path | str, key: str) -> list[str]:
    """The names in the first line that is not empty."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError("must be UTF-8 text; this is UTF-16", file=file, key=key)
    # Bytes of later rows are none of the header's business.
    start = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="", errors="surrogateescape")
    lines = csv.reader(start, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
    try:
        for names in lines:
            if names:
                "".join(names).encode()
                return names
    except (csv.Error, UnicodeEncodeError) as error:
        raise DataError(f"the header cannot be read: {first_line(error)}", file=file, key=key) from error
    raise DataError("holds no row", file=file, key=key)


def _check_quotes(content: bytes, separator: str, file: Path | str, key: str) -> None:
    """Refuse a field that goes on after its closing quote, or whose quote is never closed.

    Arrow takes both without a word, and with them all rows up to the next quote.
    """
    row = 0
    limit = csv.field_size_limit(len(content) + 1)
    try:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="", errors="replace")
        for fields in csv.reader(lines, delimiter=separator, strict=True):
            row += bool(fields)
    except csv.Error as error:
        raise DataError(
            f"row {row} has a double quote that does not close the field it opens, or closes none; "
            "in a quoted field, a quote is written twice",
            file=file,
            key=key,
            value=first_line(error),
        ) from error
    finally:
        csv.field_size_limit(limit)


def _read_parquet(file: Path, path: Path, key: str) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # The file alone: `read_table` would make columns of folders called `name=value`.
        with parquet.ParquetFile(file) as opened:
            table = Table(file=path, data=opened.read())
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=path, key=key) from error
    _check_table(table, key, text=False)
    return table


def _check_table(table: Table, key: str, *, text: bool) -> None:
    """Refuse names that occur twice, a table without a row, and in a ``text`` file a repeated header."""
    import pyarrow as pa
    from pyarrow import compute

    names = table.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError("two columns have one name", file=table.file, key=key, value=listing(twice))
    if len(table) == 0:
        raise DataError("holds no row", file=table.file, key=key)
    if not text:
        return
    if any(field.type != pa.string() for field in table.data.schema):
        return  # a header would not have passed for a number
    repeated = None
    for name in names:
        same = compute.equal(table.data[name], name)
        repeated = same if repeated is None else compute.and_(repeated, same)
        if not compute.any(repeated).as_py():
            return
    row = compute.index(repeated, value=True).as_py()
    raise DataError(f"row {row + 1} repeats the header", file=table.file, key=key)


def renamed(table: Table, rename: Callable[[str], str], *, key: str) -> Table:
    """The same table, its columns called by other names.

    Raises:
        DataError: two columns then have one name.
    """
    result = Table(file=table.file, data=table.data.rename_columns([rename(name) for name in table.names]))
    _check_table(result, key, text=False)
    return result


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
    """A column of labels, ``[rows]`` text; empty where one is missing.

    Raises:
        DataError: there is no such column, or a text in it ends with a NUL character.
    """
    labels = _texts(table, name, key=key)
    for code, text in enumerate(labels.distinct.tolist()):
        if text.endswith("\0"):
            row = int((labels.code == code).argmax())
            raise DataError(
                f"the label in row {row + 1} ends with a NUL character", file=table.file, key=key, value=name
            )
    names: np.ndarray = np.array([*labels.distinct, ""], dtype=np.str_)
    result: np.ndarray = names[labels.code]
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
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return Texts.of(float_texts(numbers, file=table.file, key=key, value=name, ids=ids))
    if types.is_decimal(kind):
        return Texts.of(None if value is None else format(value, "f") for value in values.to_pylist())
    if types.is_boolean(kind):
        return Texts.of(None if value is None else str(value) for value in values.to_pylist())
    plain = types.is_integer(kind) or types.is_temporal(kind) or types.is_null(kind)
    textual = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    if plain:
        values = values.cast(pa.string())
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
        DataError: ``ids``, and one of them is not whole or not below 2^53.
    """
    known = ~np.isnan(numbers)
    whole = ~known | ((np.abs(numbers) < WHOLE) & (numbers == np.trunc(numbers)))
    if whole.all():
        return [
            str(int(number)) if has else None for number, has in zip(numbers.tolist(), known, strict=True)
        ]
    if ids:
        row = int((~whole).argmax())
        raise DataError(
            "ids stored as floating-point numbers must be whole and below 2^53, or two of them can be one; "
            f"row {row + 1} has {float(numbers[row])}. Store them as text",
            file=file,
            key=key,
            value=value,
        )
    return [repr(number) if has else None for number, has in zip(numbers.tolist(), known, strict=True)]


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
            if all(text in _FLAGS for text in texts):
                return np.array([_FLAGS[text] for text in texts])
            return next(row for row, text in enumerate(trimmed) if not _is_number(text))
    elif types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif not (
        types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    ):
        raise DataError("the column must hold numbers", file=table.file, key=key, value=f"{name} ({kind})")
    numbers = values.cast(pa.float64(), safe=False)
    result: np.ndarray = numbers.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return result


def _is_number(text: pa.Scalar) -> bool:
    import pyarrow as pa

    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


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
    if not isinstance(_numbers(table, name, key=key), int):
        return number_column(table, name, key=key)
    texts = _texts(table, name, key=key)
    every = np.array([*(_seconds(text) for text in texts.distinct.tolist()), np.nan])
    seconds: np.ndarray = every[texts.code]
    wrong = np.isnan(seconds)
    if wrong.any():
        _refuse_time(table, name, key, int(wrong.argmax()), texts[int(wrong.argmax())] or "nothing")
    return seconds


def _typed_times(table: Table, name: str, key: str) -> np.ndarray:
    """Seconds of a Parquet column of dates; to the microsecond, as of texts."""
    import pyarrow as pa

    try:
        times = table.data[name].cast(pa.timestamp("us"), safe=False)
        micros: np.ndarray = times.cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"cannot be read: {first_line(error)}", file=table.file, key=key, value=name
        ) from error
    seconds = micros / 1e6
    first, last = ((date - _EPOCH).total_seconds() for date in _DATES)
    wrong = ~((seconds >= first) & (seconds < last))
    if wrong.any():
        row = int(wrong.argmax())
        _refuse_time(
            table, name, key, row, str(table.data[name][row]) if np.isfinite(seconds[row]) else "nothing"
        )
    return seconds


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


def listing(names: Sequence[object], limit: int = 12) -> str:
    """The first ``limit`` names, for a message."""
    shown = ", ".join(str(name) or "(no name)" for name in list(names)[:limit])
    more = len(names) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
