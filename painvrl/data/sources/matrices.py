"""Feature matrices whose rows are numbered: ``.npy`` files and PyTorch's ``.pt`` files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from painvrl.data.sources.modality_file import KeyedValues
from painvrl.data.sources.safe_npy import map_npy
from painvrl.data.sources.tabular import first_line
from painvrl.errors import DataError

_BLOCK_ROWS = 8192


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
            return _read_tensor(path, key)
        case _:
            raise DataError("the file's name must end in .npy or .pt", file=path, key=key, value=path.name)


def _read_tensor(path: Path, key: str) -> np.ndarray:
    try:
        # What is no archive was written before PyTorch 1.6, and cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise DataError(
            "holds Python objects that are never loaded, or is damaged; save one plain tensor",
            file=path,
            key=key,
        ) from error
    # A file that is no archive, or only half of one, fails in one of these ways.
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=path, key=key) from error
    if not isinstance(content, torch.Tensor):
        raise DataError("must hold one tensor", file=path, key=key, value=type(content).__name__)
    tensor = content.detach()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def keyed_by_row(array: np.ndarray, *, file: Path, key: str) -> KeyedValues:
    """A matrix whose row ``i`` belongs to item ``i``; a row of zeros says that the item has none.

    Args:
        array: ``[I, F]`` real numbers.
        file: for messages.
        key: for messages.

    Raises:
        DataError: it is no matrix of real numbers, or one of them is not finite.
    """
    if array.dtype == object:
        try:
            array = np.array(array.tolist(), dtype=np.float64)
        except (TypeError, ValueError):
            array = array.reshape(-1)  # rows of unequal length, or no numbers: refused just below
    if array.ndim != 2 or array.dtype.kind not in "biuf" or array.size == 0:
        raise DataError(
            "the features must be a matrix [items, features] of real numbers",
            file=file,
            key=key,
            value=f"{array.dtype} {list(array.shape)}",
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf and is reported
        matrix = array.astype(np.float32, copy=False)
    wrong = ~finite_rows(matrix)
    if wrong.any():
        row = int(wrong.argmax())
        feature = int((~np.isfinite(matrix[row])).argmax())
        raise DataError(
            f"the features of {int(wrong.sum())} items are NaN or infinite (or beyond float32); "
            f"the first is feature {feature} in row {row}",
            file=file,
            key=key,
            value=float(matrix[row, feature]),
        )
    has = matrix.any(axis=1)
    if not has.any():
        raise DataError("the features are all zero", file=file, key=key)
    ids = np.flatnonzero(has)
    return KeyedValues(ids=ids, values=matrix if len(ids) == len(matrix) else matrix[ids])


def finite_rows(matrix: np.ndarray) -> np.ndarray:
    """``[M]`` bool: no number in the row is NaN or infinite."""
    # A block at a time: a flag a number would take a quarter of the matrix.
    blocks = np.array_split(matrix, len(matrix) // _BLOCK_ROWS + 1)
    return np.concatenate([np.isfinite(block).all(axis=1) for block in blocks])
