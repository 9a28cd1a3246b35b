"""A modality from the user's own file, keyed by raw item ids."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from painvrl.core.errors import listing
from painvrl.core.settings import Settings
from painvrl.data.sources.columns import (
    Column,
    Decimal,
    assumed_of,
    float_texts,
    is_kind,
    require_distinct,
    require_ids,
)
from painvrl.data.sources.messages import Place, shown
from painvrl.data.sources.safe_npy import map_npy, read_npy, read_npy_stream
from painvrl.data.sources.tabular import lines_of, read_table, resolve
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

    The suffix of ``path`` decides how ``key`` and ``values`` are read:

    - ``.npz``: the names of the arrays with the raw item ids ``[M]`` and the features ``[M, F]``;
    - ``.csv``, ``.tsv``, ``.parquet``: the column with the raw item ids, and the feature columns (one name, a
      list of names, or nothing for all other columns, in the order of their names; a Parquet column of lists
      of equal length is as many features);
    - ``.npy``: the features ``[M, F]``; ``key`` is the ``.npy`` or ``.txt`` file (one id a line) with the raw
      item ids, relative to the folder of ``path``; no ``values``.

    Ids are texts as they stand in the file. Pickled code is never executed. A column that holds the number of
    the row is left out with a warning, unless ``values`` names it. Items that the file does not have get a
    row of zeros.
    """

    path: Path
    """The file with the features, relative to the current directory."""
    key: str
    """Array, column or file with the raw item ids."""
    values: str | tuple[str, ...] | None = None
    """Array or columns with the features; ``null`` takes all columns but the key."""
    at_least: float = Field(default=0.5, ge=0.0, le=1.0)
    """Smallest share of the items that the file must have."""

    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        path = self.path.expanduser()
        return (path, path.parent / self.key) if path.suffix.lower() == ".npy" else (path,)


def read_modality(source: ModalityFile, *, where: str, decimal: Decimal | None = None) -> KeyedValues:
    """Read and check one file.

    Args:
        source: the file.
        where: the key of ``source`` in the configuration, for messages.
        decimal: what stands before the decimals of a text table; without it, what a column can only be.

    Raises:
        DataError: the file, an array or a column is missing; the ids repeat or do not fit the
            features; a feature is not a finite number below 1e18.
    """
    names: tuple[str, ...] | None = None
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    of_ids, of_values = _places(source, where)
    match source.path.suffix.lower():
        case ".npz":
            ids, values = _read_npz(source, where)
        case ".npy":
            ids, values = _read_npy(source, where)
        case _:
            ids, values, names, findings, notes = _read_columns(source, where, decimal)
    require_ids(ids, of_ids)
    if values.ndim and len(values) != len(ids):
        rule = f"there must be one row of features for each of the {len(ids)} ids"
        raise of_values.error(rule, value=f"{len(values)} rows")
    require_distinct(ids, of_ids)
    matrix = checked_matrix(
        values[:, np.newaxis] if values.ndim == 1 else values,
        of_values,
        row_name=lambda row: f"item {ids[row]} (row {row + 1})",
        names=names,
    )
    if names is None or source.values is None:
        matrix, names, found = without_index_columns(matrix, names, key=of_values.key)
        findings += found
    return KeyedValues(
        ids=ids.rows, values=matrix, rows=len(ids), names=names, notes=notes, findings=findings
    )


def _places(source: ModalityFile, where: str) -> tuple[Place, Place]:
    """Where ``key`` and ``values`` stand, for messages."""
    return Place(source.path, f"{where}.key", source.key), Place(source.path, f"{where}.values")


def _read_npz(source: ModalityFile, where: str) -> tuple[Texts, np.ndarray]:
    of_ids, of_values = _places(source, where)
    if not isinstance(source.values, str):
        raise of_values.error("must name one array of the .npz file", value=source.values)
    path = resolve(source.path, key=f"{where}.path")
    arrays = []
    with Place(source.path, f"{where}.path").reading(), zipfile.ZipFile(path) as archive:
        there = {name.removesuffix(".npy"): name for name in archive.namelist()}
        for place, name in ((of_ids, source.key), (of_values, source.values)):
            if name not in there:
                rule = f"there is no such array; the file has {listing(list(there))}"
                raise place.error(rule, value=name)
            with archive.open(there[name]) as stream:
                arrays.append(read_npy_stream(stream, place))
    return ids_of(arrays[0], Place(path, of_ids.key, source.key)), arrays[1]


def _read_npy(source: ModalityFile, where: str) -> tuple[Texts, np.ndarray]:
    of_ids, of_values = _places(source, where)
    if source.values is not None:
        rule = "an .npy file holds one array, so leave this key out"
        raise of_values.error(rule, value=source.values)
    values = map_npy(resolve(source.path, key=f"{where}.path"), key=f"{where}.path")
    ids_path = resolve(source.files()[1], key=of_ids.key)
    place = Place(ids_path, of_ids.key, source.key)
    match ids_path.suffix.lower():
        case ".npy":
            return ids_of(read_npy(ids_path, key=of_ids.key), place), values
        case ".txt":  # one id a line, blanks included
            with Place(ids_path, of_ids.key).reading():
                return Texts.of(lines_of(ids_path.read_bytes().decode("utf-8-sig"))), values
        case _:
            raise of_ids.error("must name the .npy or .txt file with the item ids of the .npy features")


def ids_of(array: np.ndarray, place: Place) -> Texts:
    """The ids in an array of whole numbers, texts, bytes, or Python objects of these kinds."""
    if array.ndim != 1 or array.dtype.kind not in "iufUSO":
        found = f"{array.dtype} {list(array.shape)}"
        raise place.error("the ids must be one row of whole numbers or texts", value=found)
    if array.dtype.kind == "f":
        return Texts.of(float_texts(array, place, ids=True))
    elements = array.tolist()
    floats = np.array([element if isinstance(element, float) else 0.0 for element in elements])
    whole = float_texts(floats, place, ids=True)
    return Texts.of(
        whole[row] if isinstance(element, float) else _id_text(element, row, Place(place.file, place.key))
        for row, element in enumerate(elements)
    )


def _id_text(element: object, row: int, place: Place) -> str | None:
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
        raise place.error(f"the id in row {row + 1} is not UTF-8 text") from error
    raise place.error(f"ids must be whole numbers or texts; row {row + 1} has none", value=shown(element))


def _read_columns(
    source: ModalityFile, where: str, decimal: Decimal | None
) -> tuple[Texts, np.ndarray, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Ids, features, their names, a sentence for each saved index, which is not even parsed, and notes."""
    _, of_values = _places(source, where)
    # A comma that stands before decimals is looked for in the texts.
    texts = None if decimal == "," else {source.key}
    table = read_table(source.path, key=f"{where}.path", texts=texts)
    ids = Column(table, source.key, f"{where}.key").ids()
    saved: list[str] = []
    if source.values is None:
        others = [name for name in table.names if name != source.key]
        saved = [name for name in others if SAVED_INDEX.fullmatch(name)]
        names = natural_order(name for name in others if name not in saved)
    else:
        names = (source.values,) if isinstance(source.values, str) else source.values
    if not names:
        raise of_values.error("there is no column beside the ids")
    blocks: list[np.ndarray] = []
    called: list[str] = []
    assumed: list[str] = []
    for name in names:
        column = Column(table, name, of_values.key)
        if decimal is not None and _has_commas(column):  # a program's numbers have points all the same
            column = replace(column, decimal=decimal)
        block = _feature_block(column)
        assumed += assumed_of(column)
        width = 1 if block.ndim == 1 else block.shape[1]
        blocks.append(block.reshape(len(ids), -1))
        called += [name] if block.ndim == 1 else [f"{name}[{place}]" for place in range(width)]
    findings = tuple(index_finding(of_values.key, name) for name in saved)
    more = f"; so are {len(assumed) - 1:,} more columns" if len(assumed) > 1 else ""
    notes = [*table.notes, *([f"{of_values.key}: {assumed[0]}{more}"] if assumed else [])]
    return ids, np.concatenate(blocks, axis=1), tuple(called), findings, tuple(notes)


def _has_commas(column: Column) -> bool:
    """Whether it holds texts with commas."""
    from pyarrow import compute

    if not is_kind(column.values.type, "string", "large_string"):
        return False
    return bool(compute.any(compute.match_substring(column.values, ",")).as_py())


def _feature_block(column: Column) -> np.ndarray:
    """``[rows]`` or, of a column of lists, ``[rows, width]`` numbers."""
    import pyarrow as pa
    from pyarrow import compute

    values = column.values
    if not is_kind(values.type, "list", "large_list", "fixed_size_list"):
        return column.numbers(narrow=True)
    rule = "the column must hold numbers, or lists of numbers of one length"
    lengths = compute.fill_null(compute.list_value_length(values), -1).to_numpy()
    other = lengths != max(lengths[0], 0)
    if other.any():
        row = int(other.argmax())
        found = "none" if lengths[row] < 0 else f"{lengths[row]}, and row 1 {lengths[0]}"
        raise column.place.error(f"{rule}; row {row + 1} has {found}")
    flat = compute.list_flatten(values)
    if is_kind(flat.type, "boolean"):
        flat = flat.cast(pa.int8())
    elif not is_kind(flat.type, "floating", "integer", "decimal"):
        raise column.place.error(rule, value=f"{column.name} ({values.type})")
    if is_kind(flat.type, "decimal"):
        flat = flat.cast(pa.string())  # as for a column of them
    if not is_kind(flat.type, "floating"):
        flat = flat.cast(pa.float64(), safe=False)
    numbers: np.ndarray = flat.to_numpy().reshape(len(column.table), lengths[0])
    return numbers
