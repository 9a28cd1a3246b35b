"""Reading tables (CSV, TSV, Parquet): the only code that hands file content to Arrow.

No column's type is guessed: :mod:`painvrl.data.sources.columns` parses what is asked for. Rows are counted
from 1, without the header.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from painvrl.core.errors import listing
from painvrl.data.sources.messages import Place, files_in, first_line

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES: Final = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
"""What names of tables end in."""
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_MISFIT: Final = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)
"""What Arrow says. Its handler of such rows is not asked: of a row that is no UTF-8 it prints a traceback."""
_MARKS: Final = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""What texts of other encodings begin with; the longer ones first."""
_JSON: Final = re.compile(rb'(\xef\xbb\xbf)?\s*\[?\s*\{\s*"')
_BLOCK: Final = 1 << 24
"""Bytes parsed at a time; no row may be longer."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as it was read.

    Attributes:
        file: where it comes from, for messages.
        data: its columns; those of a text file are texts, unless they were asked for as numbers.
        notes: what was left out of it, a sentence each.
    """

    file: Path | str
    data: pa.Table
    notes: tuple[str, ...] = ()

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
        near = difflib.get_close_matches(path.name, files_in(expanded.parent), n=1)
        rule += f"; did you mean {path.parent / near[0]}?" if near else ""
        raise Place(path, key).error(rule)
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

    A ``.csv`` whose header holds no comma is divided by semicolons, as spreadsheets write it where the comma
    is the decimal point, or by tabs.

    Args:
        path: the file.
        key: for messages.
        kind: one of these suffixes, for a file whose name ends in something else.
        quotes: whether a text file knows them.
        texts: the columns of a text file that are texts, where all others are numbers; ``None``: all are.

    Raises:
        DataError: the file is missing, of another kind, unreadable or without a row.
    """
    file, place = resolve(path, key=key), Place(path, key)
    if kind is None:
        suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() != ".gz"]
        kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        return _read_parquet(file, place)
    if kind not in _SEPARATORS:
        raise place.error(
            "the file's name must end in .csv, .tsv (or .csv.gz, .tsv.gz) or .parquet", value=file.name
        )
    with place.reading():
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    separator = _SEPARATORS[kind]
    header = re.match(rb"[\r\n]*[^\r\n]*", content)
    if separator == "," and header is not None and b"," not in header[0]:
        separator = next((other for other in ";\t" if other.encode() in header[0]), separator)
    return parse_table(content, place, separator=separator, quotes=quotes, texts=texts)


def parse_table(
    content: bytes,
    place: Place,
    *,
    separator: str,
    quotes: bool = True,
    header: Sequence[str] | None = None,
    texts: Collection[str] | None = None,
) -> Table:
    """A table from the bytes of a text file.

    Args:
        content: UTF-8, with or without a byte order mark; lines end in any of the three ways.
        place: for messages.
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

    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding is not None:
        raise place.error(f"must be UTF-8 text; this is {encoding}")
    if _JSON.match(content):
        raise place.error("must be a table with a header; this looks like JSON lines")
    if quotes and b'"' in content:
        _check_quotes(content, separator, place)
    block = min(len(content) + 1, _BLOCK)

    def parse(types: dict[str, pa.DataType]) -> pa.Table:
        return arrow.read_csv(
            pa.BufferReader(content),
            # One thread: with several, rows that do not fit have no number.
            read_options=arrow.ReadOptions(use_threads=False, column_names=header, block_size=block),
            parse_options=arrow.ParseOptions(
                delimiter=separator,
                quote_char='"' if quotes else False,
                newlines_in_values=quotes,
            ),
            convert_options=arrow.ConvertOptions(
                column_types=types, strings_can_be_null=False, null_values=[""]
            ),
        )

    names = list(header) if header is not None else _header(content, separator, quotes, place)
    everything = {name: pa.string() for name in names}
    try:
        if texts is None:
            data = parse(everything)
        else:
            try:
                data = parse({name: pa.string() if name in texts else pa.float64() for name in names})
            except pa.ArrowInvalid:  # some cell is no number: whoever asks for that column names it
                data = parse(everything)
    except pa.ArrowInvalid as error:
        before = 1 if header is None else 0
        if fields := _MISFIT.search(str(error)):
            row, expected, actual = (int(fields[at]) for at in (1, 2, 3))
            raise place.error(
                f"row {row - before} has {actual} fields where the "
                f"{'header' if header is None else 'format'} has {expected}",
                value=fields[4][:80],
            ) from error
        found = re.search(r"column #(\d+): Row #(\d+)", str(error))
        if found:
            row, column = int(found[2]) - before, names[int(found[1])]
            raise place.error(f"row {row} of the column {column} is not UTF-8 text") from error
        empty = "Empty CSV" in str(error)
        raise place.error("holds no row" if empty else f"cannot be read: {first_line(error)}") from error
    return _checked(_without_empty_columns(Table(file=place.file, data=data)), place, text=header is None)


def _without_empty_columns(table: Table) -> Table:
    """``table`` without columns of neither a name nor a value: spreadsheets end lines with separators."""
    kept = [at for at, name in enumerate(table.names) if name or _has_a_value(table.data.column(at))]
    empty = len(table.names) - len(kept)
    if not empty or not kept:
        return table
    called = "1 column" if empty == 1 else f"{empty:,} columns"
    note = f"{Path(table.file).name}: {called} without a name or a value left out"
    return replace(table, data=table.data.select(kept), notes=(note,))


def _has_a_value(column: pa.ChunkedArray) -> bool:
    from pyarrow import compute

    return bool(compute.any(compute.not_equal(column.cast("string"), "")).as_py())


def _header(content: bytes, separator: str, quotes: bool, place: Place) -> list[str]:
    """The names in the first line that is not empty."""
    # Bytes of later rows are none of the header's business.
    start = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="", errors="surrogateescape")
    lines = csv.reader(start, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
    try:
        for names in lines:
            if names:
                "".join(names).encode()
                return names
    except (csv.Error, UnicodeEncodeError) as error:
        raise place.error(f"the header cannot be read: {first_line(error)}") from error
    raise place.error("holds no row")


def _check_quotes(content: bytes, separator: str, place: Place) -> None:
    """Refuse a field that continues after its closing quote, or whose quote is never closed.

    Arrow takes both without a word, and with them all rows up to the next quote.
    """
    row = 0
    limit = csv.field_size_limit(len(content) + 1)
    try:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="", errors="replace")
        for fields in csv.reader(lines, delimiter=separator, strict=True):
            row += bool(fields)
    except csv.Error as error:
        raise place.error(
            f"row {row} has a double quote that does not close the field it opens, or closes none; "
            "in a quoted field, a quote is written twice",
            value=first_line(error),
        ) from error
    finally:
        csv.field_size_limit(limit)


def _read_parquet(file: Path, place: Place) -> Table:
    from pyarrow import parquet

    # The file alone: `read_table` would make columns of folders called `name=value`. Spark's times, INT96,
    # can be beyond the nanoseconds that Arrow counts by default: the year 9999 would be 1816.
    with place.reading(), parquet.ParquetFile(file, coerce_int96_timestamp_unit="us") as opened:
        table = Table(file=place.file, data=opened.read())
    return _checked(table, place, text=False)


def _checked(table: Table, place: Place, *, text: bool) -> Table:
    """Refuse names that occur twice, a table without a row, and in a ``text`` file a repeated header."""
    import pyarrow as pa
    from pyarrow import compute

    names = table.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise place.error("two columns have one name", value=listing(twice))
    if len(table) == 0:
        raise place.error("holds no row")
    if not text:
        return table
    repeated = pa.scalar(text)  # true, until a name differs
    for at, name in enumerate(names):
        values = table.data[name]
        try:
            header = pa.scalar(name).cast(values.type)
        except pa.ArrowInvalid:
            return table  # it would not have passed for a number
        same = compute.equal(values, header)
        if at == 0 and values.type == pa.string():  # files with a byte order mark that were put together
            same = compute.or_(same, compute.equal(values, f"\ufeff{name}"))
        repeated = compute.and_(repeated, same)
        if not compute.any(repeated).as_py():
            return table
    row = compute.index(repeated, value=True).as_py()
    raise place.error(f"row {row + 1} repeats the header")


def lines_of(text: str) -> list[str]:
    """The lines of ``text``, which end in any of the three ways; the last one need not end.

    Not ``splitlines``, which also breaks at characters that ids and titles may hold.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def renamed(table: Table, rename: Callable[[str], str], *, key: str) -> Table:
    """The same table, its columns called by other names.

    Raises:
        DataError: two columns then have one name.
    """
    data = table.data.rename_columns([rename(name) for name in table.names])
    return _checked(replace(table, data=data), Place(table.file, key), text=False)
