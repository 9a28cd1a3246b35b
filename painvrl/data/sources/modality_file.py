"""A modality from the user's own file, keyed by raw item ids."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from pydantic import Field

from painvrl.core.errors import DataError
from painvrl.core.settings import Settings
from painvrl.data.sources.columns import (
    column,
    float_texts,
    id_column,
    number_column,
    require_distinct,
    require_ids,
)
from painvrl.data.sources.safe_npy import map_npy, read_npy, read_npy_stream, shown
from painvrl.data.sources.tabular import (
    Table,
    first_line,
    lines_of,
    listing,
    read_table,
    resolve,
)
from painvrl.data.sources.texts import Texts
from painvrl.data.sources.values import (
    SAVED_INDEX,
    KeyedValues,
    checked_matrix,
    index_finding,
    natural_order,
    without_index_columns,
)


class ModalityFile(Settings):
    """Where a modality's features lie; one line of YAML.

    ``path``: relative to the current directory. The suffix decides how ``key`` and ``values`` are
    read:

    - ``.npz``: the names of the arrays with the raw item ids ``[M]`` and the features ``[M, F]``;
    - ``.csv``, ``.tsv``, ``.parquet``: the column with the raw item ids, and the feature columns
      (one name, a list of names, or nothing for all other columns, in the order of their names; a Parquet
      column of lists of equal length is as many features);
    - ``.npy``: the features ``[M, F]``; ``key`` is the ``.npy`` or ``.txt`` file (one id a line)
      with the raw item ids, relative to the folder of ``path``; no ``values``.

    Ids are texts as they stand in the file. Pickled code is never executed. A column that holds the number
    of the row is left out with a warning, unless ``values`` names it. Items that the file does not have get
    a row of zeros; ``at_least``: the smallest share of the items that it must have.
    """

    path: Path
    key: str
    values: str | tuple[str, ...] | None = None
    at_least: float = Field(default=0.5, ge=0.0, le=1.0)

    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        path = self.path.expanduser()
        return (path, path.parent / self.key) if path.suffix.lower() == ".npy" else (path,)


def read_modality(source: ModalityFile, *, where: str) -> KeyedValues:
    """Read and check one file.

    Args:
        source: the file.
        where: the key of ``source`` in the configuration, for messages.

    Raises:
        DataError: the file, an array or a column is missing; the ids repeat or do not fit the
            features; a feature is not a finite number below 1e18.
    """
    names: tuple[str, ...] | None = None
    findings: tuple[str, ...] = ()
    match source.path.suffix.lower():
        case ".npz":
            ids, values = _read_npz(source, where)
        case ".npy":
            ids, values = _read_npy(source, where)
        case _:
            ids, values, names, findings = _read_columns(source, where)
    key = f"{where}.values"
    require_ids(ids, file=source.path, key=f"{where}.key", value=source.key)
    if values.ndim and len(values) != len(ids):
        raise DataError(
            f"there must be one row of features for each of the {len(ids)} ids",
            file=source.path,
            key=key,
            value=f"{len(values)} rows",
        )
    require_distinct(ids, file=source.path, key=f"{where}.key", value=source.key)
    matrix = checked_matrix(
        values[:, np.newaxis] if values.ndim == 1 else values,
        row_name=lambda row: f"item {ids[row]} (row {row + 1})",
        file=source.path,
        key=key,
        names=names,
    )
    if names is None or source.values is None:
        matrix, names, found = without_index_columns(matrix, names, key=key)
        findings += found
    return KeyedValues(
        ids=ids.distinct[ids.code], values=matrix, rows=len(ids), names=names, findings=findings
    )


def _read_npz(source: ModalityFile, where: str) -> tuple[Texts, np.ndarray]:
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
        with zipfile.ZipFile(path) as archive:
            there = {name.removesuffix(".npy"): name for name in archive.namelist()}
            for key, name in (("key", source.key), ("values", source.values)):
                if name not in there:
                    raise DataError(
                        f"there is no such array; the file has {listing(list(there))}",
                        file=source.path,
                        key=f"{where}.{key}",
                        value=name,
                    )
                with archive.open(there[name]) as stream:
                    arrays.append(read_npy_stream(stream, file=source.path, key=f"{where}.{key}"))
    # An encrypted archive is a RuntimeError, an unknown compression a NotImplementedError, which is one.
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"cannot be read: {first_line(error)}", file=source.path, key=f"{where}.path"
        ) from error
    return _ids_of(arrays[0], file=path, key=f"{where}.key", value=source.key), arrays[1]


def _read_npy(source: ModalityFile, where: str) -> tuple[Texts, np.ndarray]:
    if source.values is not None:
        raise DataError(
            "an .npy file holds one array, so leave this key out",
            file=source.path,
            key=f"{where}.values",
            value=source.values,
        )
    values = map_npy(resolve(source.path, key=f"{where}.path"), key=f"{where}.path")
    ids_path = resolve(source.files()[1], key=f"{where}.key")
    match ids_path.suffix.lower():
        case ".npy":
            ids = read_npy(ids_path, key=f"{where}.key")
            return _ids_of(ids, file=ids_path, key=f"{where}.key", value=source.key), values
        case ".txt":
            return _id_lines(ids_path, key=f"{where}.key"), values
        case _:
            raise DataError(
                "must name the .npy or .txt file with the item ids of the .npy features",
                file=source.path,
                key=f"{where}.key",
                value=source.key,
            )


def _id_lines(path: Path, *, key: str) -> Texts:
    """One id a line, blanks included; lines end in any of the three ways."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=path, key=key) from error
    return Texts.of(lines_of(text))


def _ids_of(array: np.ndarray, *, file: Path, key: str, value: str) -> Texts:
    """The ids in an array of whole numbers, texts, bytes, or Python objects of these kinds."""
    if array.ndim != 1 or array.dtype.kind not in "iufUSO":
        raise DataError(
            "the ids must be one row of whole numbers or texts",
            file=file,
            key=key,
            value=f"{array.dtype} {list(array.shape)}",
        )
    if array.dtype.kind == "f":
        return Texts.of(float_texts(array, file=file, key=key, value=value, ids=True))
    elements = array.tolist()
    floats = np.array([element if isinstance(element, float) else 0.0 for element in elements])
    whole = float_texts(floats, file=file, key=key, value=value, ids=True)
    return Texts.of(
        whole[row] if isinstance(element, float) else _id_text(element, row, file, key)
        for row, element in enumerate(elements)
    )


def _id_text(element: object, row: int, file: Path, key: str) -> str | None:
    try:
        match element:
            case None:
                return None
            case str():
                element.encode("utf-8")  # a lone surrogate has no UTF-8, and no file but this can hold it
                return element
            case bytes():
                return element.decode("utf-8")
            case int() if not isinstance(element, bool):
                return str(element)
    except UnicodeError as error:
        raise DataError(f"the id in row {row + 1} is not UTF-8 text", file=file, key=key) from error
    raise DataError(
        f"ids must be whole numbers or texts; row {row + 1} has none",
        file=file,
        key=key,
        value=shown(element),
    )


def _read_columns(
    source: ModalityFile, where: str
) -> tuple[Texts, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Ids, features, the features' names, and a sentence for each saved index, which is not even parsed."""
    table = read_table(source.path, key=f"{where}.path", texts={source.key})
    ids = id_column(table, source.key, key=f"{where}.key")
    saved: list[str] = []
    if source.values is None:
        others = [name for name in table.names if name != source.key]
        saved = [name for name in others if SAVED_INDEX.fullmatch(name)]
        others = [name for name in others if name not in saved]
        names = tuple(others[place] for place in natural_order(others))
    else:
        names = (source.values,) if isinstance(source.values, str) else source.values
    if not names:
        raise DataError("there is no column beside the ids", file=source.path, key=f"{where}.values")
    blocks: list[np.ndarray] = []
    called: list[str] = []
    for name in names:
        block = _feature_block(table, name, key=f"{where}.values")
        width = 1 if block.ndim == 1 else block.shape[1]
        blocks.append(block.reshape(len(ids), -1))
        called += [name] if block.ndim == 1 else [f"{name}[{place}]" for place in range(width)]
    findings = tuple(index_finding(f"{where}.values", name) for name in saved)
    return ids, np.concatenate(blocks, axis=1), tuple(called), findings


def _feature_block(table: Table, name: str, *, key: str) -> np.ndarray:
    """``[rows]`` or, of a column of lists, ``[rows, width]`` numbers."""
    import pyarrow as pa
    from pyarrow import compute, types

    values = column(table, name, key=key)
    if not (
        types.is_list(values.type)
        or types.is_large_list(values.type)
        or types.is_fixed_size_list(values.type)
    ):
        return number_column(table, name, key=key)
    rule = "the column must hold numbers, or lists of numbers of one length"
    lengths = compute.fill_null(compute.list_value_length(values), -1).to_numpy()
    other = lengths != max(lengths[0], 0)
    if other.any():
        row = int(other.argmax())
        found = "none" if lengths[row] < 0 else f"{lengths[row]}, and row 1 {lengths[0]}"
        raise DataError(f"{rule}; row {row + 1} has {found}", file=table.file, key=key, value=name)
    flat = compute.list_flatten(values)
    kind = flat.type
    if not (types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind)):
        if not types.is_boolean(kind):
            raise DataError(rule, file=table.file, key=key, value=f"{name} ({values.type})")
        flat = flat.cast(pa.int8())
    if not types.is_floating(kind):
        flat = flat.cast(pa.float64(), safe=False)
    numbers: np.ndarray = flat.to_numpy().reshape(len(table), lengths[0])
    return numbers
