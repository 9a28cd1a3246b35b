"""Reading tables (CSV or Parquet): the only code that hands file content to pandas."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from painvrl.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_CSV_SEPARATORS = {".csv": ",", ".tsv": "\t"}


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


def read_table(path: Path, *, key: str, kind: str | None = None) -> pd.DataFrame:
    """All columns of a ``.csv``, ``.tsv`` (also ``.gz``) or ``.parquet`` file.

    Args:
        path: the file.
        key: for messages.
        kind: one of these suffixes, for a file whose name ends in something else.

    Raises:
        DataError: the file is missing, of another kind, unreadable or without a row.
    """
    import pandas as pd

    file = resolve(path, key=key)
    if kind is None:
        suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() != ".gz"]
        kind = suffixes[-1] if suffixes else ""
    try:
        if kind in _CSV_SEPARATORS:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                # index_col: else the first column of rows with a field too many becomes the index.
                frame = pd.read_csv(file, sep=_CSV_SEPARATORS[kind], index_col=False, low_memory=False)
        elif kind == ".parquet":
            frame = pd.read_parquet(file)
        else:
            raise DataError(
                "the file's name must end in .csv, .tsv (or .csv.gz, .tsv.gz) or .parquet",
                file=path,
                key=key,
                value=file.name,
            )
    except pd.errors.ParserWarning as error:
        raise DataError("the rows must not have more fields than the header", file=path, key=key) from error
    # Parser, encoding and Arrow errors are ValueErrors; the other two come from a damaged .gz.
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=path, key=key) from error
    if frame.empty:
        raise DataError("holds no row", file=path, key=key)
    return frame


def column(frame: pd.DataFrame, name: str, *, file: Path, key: str) -> pd.Series:
    """One column.

    Raises:
        DataError: there is no such column; the message names those that exist.
    """
    if name not in frame.columns:
        raise DataError(
            f"there is no such column; the file has {listing(frame.columns)}",
            file=file,
            key=key,
            value=name,
        )
    series: pd.Series = frame[name]
    return series


def id_column(frame: pd.DataFrame, name: str, *, file: Path, key: str) -> np.ndarray:
    """A column of raw ids: ``[rows]`` int64, or text where one of them is no whole number.

    Raises:
        DataError: there is no such column, or an id is missing.
    """
    series = column(frame, name, file=file, key=key)
    require_ids(series.isna().to_numpy(), file=file, key=key, value=name)
    return as_ids(series.to_numpy())


def require_ids(missing: np.ndarray, *, file: Path, key: str, value: str) -> None:
    """Refuse a column of ids some of which are ``missing`` (``[rows]`` bool).

    Raises:
        DataError: the first such row is named.
    """
    if missing.any():
        raise DataError(
            f"{missing.sum()} rows have no id; the first is row {int(missing.argmax()) + 1}",
            file=file,
            key=key,
            value=value,
        )


def require_distinct(ids: np.ndarray, *, file: Path, key: str, value: str, of: str = "item") -> None:
    """Refuse ids (of items, or of what ``of`` names) that repeat.

    Raises:
        DataError: the first such id is named.
    """
    distinct, counts = np.unique(ids, return_counts=True)
    repeated = distinct[counts > 1]
    if len(repeated):
        raise DataError(
            f"{len(repeated)} {of} ids occur more than once; the first is {repeated[0]}",
            file=file,
            key=key,
            value=value,
        )


def number_column(frame: pd.DataFrame, name: str, *, file: Path, key: str) -> np.ndarray:
    """A column of finite numbers, ``[rows]`` float64.

    Raises:
        DataError: there is no such column, or a value is missing, infinite or no number.
    """
    series = column(frame, name, file=file, key=key)
    try:
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the column must hold numbers: {first_line(error)}", file=file, key=key, value=name
        ) from error
    wrong = ~np.isfinite(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{wrong.sum()} values of the column are missing or infinite; "
            f"the first is {values[row]} in row {row + 1}",
            file=file,
            key=key,
            value=name,
        )
    return values


def time_column(frame: pd.DataFrame, name: str, *, file: Path, key: str) -> np.ndarray:
    """A column of times, ``[rows]`` float64: numbers as they are, ISO 8601 dates in seconds since 1970.

    Raises:
        DataError: there is no such column, or a value is missing or no time.
    """
    import pandas as pd

    series = column(frame, name, file=file, key=key)
    if pd.api.types.is_numeric_dtype(series):
        return number_column(frame, name, file=file, key=key)
    try:
        dates = pd.to_datetime(series, utc=True, format="ISO8601")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the column must hold numbers or ISO 8601 dates: {first_line(error)}",
            file=file,
            key=key,
            value=name,
        ) from error
    seconds = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return number_column(pd.DataFrame({name: seconds}), name, file=file, key=key)


def label_column(frame: pd.DataFrame, name: str, *, file: Path, key: str) -> np.ndarray:
    """A column of labels, ``[rows]`` text: whole numbers without a point, and empty where one is missing.

    Raises:
        DataError: there is no such column.
    """
    codes, distinct = column(frame, name, file=file, key=key).factorize()
    names = np.array([*(_label(value) for value in distinct.tolist()), ""], dtype=np.str_)
    labels: np.ndarray = names[codes]  # missing values have the code -1: the last name
    return labels


def _label(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()  # type: ignore[call-overload]


def as_ids(values: np.ndarray) -> np.ndarray:
    """Raw ids as int64 where all are whole numbers, else as text."""
    if values.dtype.kind in "iu" and (values.size == 0 or values.max() <= np.iinfo(np.int64).max):
        return values.astype(np.int64)
    if values.dtype.kind == "f" and bool((np.abs(values) < 2**53).all()):
        whole = values.astype(np.int64)
        if bool((whole == values).all()):
            return whole
    return np.array([str(value) for value in values.tolist()], dtype=np.str_)


def listing(names: Sequence[object] | pd.Index, limit: int = 12) -> str:
    """The first ``limit`` names, for a message."""
    shown = ", ".join(str(name) for name in list(names)[:limit])
    more = len(names) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
