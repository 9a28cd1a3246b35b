"""Feature matrices whose rows are numbered: ``.npy`` files and PyTorch's ``.pt`` files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from painvrl.data.sources.messages import Place
from painvrl.data.sources.safe_npy import map_npy
from painvrl.data.sources.texts import as_objects
from painvrl.data.sources.values import KeyedValues, checked_matrix, chunks, without_index_columns


def read_array(path: Path, *, key: str) -> np.ndarray:
    """The array in a ``.npy`` file, or the one tensor in a ``.pt`` or ``.pth`` file.

    Pickled code is executed for neither. Plain numbers are mapped, but for a tensor that PyTorch before
    1.6 wrote: a page is read when it is touched.

    Raises:
        DataError: the file cannot be read, or is of another kind.
    """
    match path.suffix.lower():
        case ".npy":
            return map_npy(path, key=key)
        case ".pt" | ".pth":
            return _read_tensor(path, Place(path, key))
        case _:
            raise Place(path, key).error("the file's name must end in .npy or .pt", value=path.name)


def _read_tensor(path: Path, place: Place) -> np.ndarray:
    # A tensor may be sparse, nested or of a kind that NumPy does not know.
    with place.reading():
        try:
            # What is no archive was written before PyTorch 1.6, and cannot be mapped.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            rule = "holds Python objects that are never loaded, or is damaged; save one plain tensor"
            raise place.error(rule) from error
        if not isinstance(content, torch.Tensor):
            raise place.error("must hold one tensor", value=type(content).__name__)
        tensor = content.detach()
        array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array


def keyed_by_row(array: np.ndarray, *, file: Path, key: str, ids: np.ndarray | None = None) -> KeyedValues:
    """A matrix whose row ``i`` belongs to the item ``ids[i]``; a row of zeros says that the item has none.

    Args:
        array: ``[I, F]`` real numbers.
        file: for messages.
        key: for messages.
        ids: ``[I]`` distinct ids; nothing where they are the numbers of the rows.

    Raises:
        DataError: it is no matrix of real numbers, or one of them is not finite or 1e18 and more.
    """
    place = Place(file, key)
    if array.dtype == object:
        try:
            array = np.array(array.tolist())
        except (TypeError, ValueError):
            array = array.reshape(-1)  # rows of unequal length, or no numbers: refused just below
    matrix = checked_matrix(array, place, row_name=lambda row: f"row {row}")
    matrix, _, findings = without_index_columns(matrix, None, key=key)
    has = np.concatenate([block.any(axis=1) for _, block in chunks(matrix)])
    if not has.any():
        raise place.error("the features are all zero")
    if ids is None:
        ids = as_objects([str(row) for row in range(len(matrix))])
    return KeyedValues(
        ids=ids[has], values=matrix if has.all() else matrix[has], rows=len(matrix), findings=findings
    )
