"""A modality from the user's own file, keyed by raw item ids."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from painvrl.data.sources.tabular import (
    as_ids,
    column,
    id_column,
    listing,
    read_table,
    require_distinct,
    require_ids,
    resolve,
)
from painvrl.errors import DataError
from painvrl.settings import Settings


class ModalityFile(Settings):
    """Where a modality's features lie; one line of YAML.

    ``path``: relative to the current directory. The suffix decides how ``key`` and ``values`` are
    read:

    - ``.npz``: the names of the arrays with the raw item ids ``[M]`` and the features ``[M, F]``;
    - ``.csv``, ``.tsv``, ``.parquet``: the column with the raw item ids, and the feature columns
      (one name, a list of names, or nothing for all other columns; a Parquet column of lists of
      equal length is as many features);
    - ``.npy``: the features ``[M, F]``; ``key`` is the ``.npy`` or ``.txt`` file (one id a line)
      with the raw item ids, relative to the folder of ``path``; no ``values``.

    Pickled content is never loaded. Items that the file does not have get a row of zeros.
    """

    path: Path
    key: str
    values: str | tuple[str, ...] | None = None

    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        path = self.path.expanduser()
        return (path, path.parent / self.key) if path.suffix.lower() == ".npy" else (path,)


@dataclass(frozen=True, kw_only=True)
class KeyedValues:
    """Features of ``M`` items.

    Attributes:
        ids: ``[M]`` distinct raw item ids, int64 or text.
        values: ``[M, F]`` float32, finite.
    """

    ids: np.ndarray
    values: np.ndarray


def read_modality(source: ModalityFile, *, where: str) -> KeyedValues:
    """Read and check one file.

    Args:
        source: the file.
        where: the key of ``source`` in the configuration, for messages.

    Raises:
        DataError: the file, an array or a column is missing; the ids repeat or do not fit the
            features; a feature is not a finite number.
    """
    match source.path.suffix.lower():
        case ".npz":
            ids, values = _read_npz(source, where)
        case ".npy":
            ids, values = _read_npy(source, where)
        case _:
            ids, values = _read_columns(source, where)
    return _checked(ids, values, source, where)


def _read_npz(source: ModalityFile, where: str) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(source.values, str):
        raise DataError(
            "must name one array of the .npz file",
            file=source.path,
            key=f"{where}.values",
            value=source.values,
        )
    path = resolve(source.path, key=f"{where}.path")
    arrays = []
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for key, name in (("key", source.key), ("values", source.values)):
                if name not in archive.files:
                    raise DataError(
                        f"there is no such array; the file has {listing(archive.files)}",
                        file=source.path,
                        key=f"{where}.{key}",
                        value=name,
                    )
                arrays.append(archive[name])
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(_unreadable(error), file=source.path, key=f"{where}.path") from error
    return arrays[0], arrays[1]


def _read_npy(source: ModalityFile, where: str) -> tuple[np.ndarray, np.ndarray]:
    if source.values is not None:
        raise DataError(
            "an .npy file holds one array, so leave this key out",
            file=source.path,
            key=f"{where}.values",
            value=source.values,
        )
    values = _load_npy(resolve(source.path, key=f"{where}.path"), key=f"{where}.path")
    ids_path = resolve(source.files()[1], key=f"{where}.key")
    match ids_path.suffix.lower():
        case ".npy":
            return _load_npy(ids_path, key=f"{where}.key"), values
        case ".txt":
            try:
                lines = ids_path.read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError) as error:
                raise DataError(_unreadable(error), file=ids_path, key=f"{where}.key") from error
            return _parse_ids([line.strip() for line in lines if line.strip()]), values
        case _:
            raise DataError(
                "must name the .npy or .txt file with the item ids of the .npy features",
                file=source.path,
                key=f"{where}.key",
                value=source.key,
            )


def _load_npy(path: Path, *, key: str) -> np.ndarray:
    try:
        with path.open("rb") as stream:
            array = np.load(stream, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(_unreadable(error), file=path, key=key) from error
    if not isinstance(array, np.ndarray):
        raise DataError("must hold one array", file=path, key=key)
    return array


def _parse_ids(ids: list[str]) -> np.ndarray:
    """Whole numbers where all are, as a CSV column of them would be read."""
    try:
        return np.array([int(text) for text in ids], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(ids, dtype=np.str_)


def _read_columns(source: ModalityFile, where: str) -> tuple[np.ndarray, np.ndarray]:
    frame = read_table(source.path, key=f"{where}.path")
    ids = id_column(frame, source.key, file=source.path, key=f"{where}.key")
    if source.values is None:
        names = tuple(str(name) for name in frame.columns if name != source.key)
    else:
        names = (source.values,) if isinstance(source.values, str) else source.values
    blocks = []
    for name in names:
        block = column(frame, name, file=source.path, key=f"{where}.values").to_numpy()
        if block.dtype == object:  # a Parquet column of lists, or text, which does not stack
            try:
                block = np.stack([np.asarray(row, dtype=np.float64) for row in block])
            except (TypeError, ValueError) as error:
                raise DataError(
                    "the column must hold numbers, or lists of numbers of one length",
                    file=source.path,
                    key=f"{where}.values",
                    value=name,
                ) from error
        blocks.append(block.reshape(len(ids), -1))
    if not blocks:
        raise DataError("there is no column beside the ids", file=source.path, key=f"{where}.values")
    return ids, np.concatenate(blocks, axis=1)


def _checked(ids: np.ndarray, values: np.ndarray, source: ModalityFile, where: str) -> KeyedValues:
    """Ids and features as they must be, or a message about the first thing that is not."""
    if ids.ndim != 1 or ids.dtype.kind not in "iufUS":
        raise DataError(
            "the ids must be one row of whole numbers or texts",
            file=source.path,
            key=f"{where}.key",
            value=f"{ids.dtype} {list(ids.shape)}",
        )
    if values.ndim not in (1, 2) or values.dtype.kind not in "biuf" or values.size == 0:
        raise DataError(
            "the features must be a matrix [items, features] of real numbers",
            file=source.path,
            key=f"{where}.values",
            value=f"{values.dtype} {list(values.shape)}",
        )
    if len(values) != len(ids):
        raise DataError(
            f"there must be one row of features for each of the {len(ids)} ids",
            file=source.path,
            key=f"{where}.values",
            value=f"{len(values)} rows",
        )
    if ids.dtype.kind == "f":
        require_ids(~np.isfinite(ids), file=source.path, key=f"{where}.key", value=source.key)
    if ids.dtype.kind == "S":
        try:
            ids = np.char.decode(ids, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                "ids that are bytes must be UTF-8", file=source.path, key=f"{where}.key", value=source.key
            ) from error
    ids = as_ids(ids)
    require_distinct(ids, file=source.path, key=f"{where}.key", value=source.key)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf and is reported
        matrix = values.reshape(len(ids), -1).astype(np.float32)
    wrong = ~np.isfinite(matrix).all(axis=1)
    if wrong.any():
        first = int(wrong.argmax())
        feature = int((~np.isfinite(matrix[first])).argmax())
        raise DataError(
            f"the features of {int(wrong.sum())} items are NaN or infinite (or beyond float32); "
            f"the first is feature {feature} of item {ids[first]}",
            file=source.path,
            key=f"{where}.values",
            value=float(matrix[first, feature]),
        )
    return KeyedValues(ids=ids, values=matrix)


def _unreadable(error: Exception) -> str:
    if "allow_pickle" in str(error):
        return "holds Python objects, which are never loaded; save plain numbers or texts"
    return f"cannot be read: {error}"
