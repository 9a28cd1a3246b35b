"""Arrays in ``.npy`` files and PyTorch's ``.pt`` files, read without executing pickled code.

NumPy stores an array of objects (rows of unequal length, say) as a pickle, which
:mod:`painvrl.data.sources.safe_pickle` reads.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Final

import numpy as np
import torch
from numpy.lib import format as npy

from painvrl.core.memory import uncounted
from painvrl.data.cache import mapped
from painvrl.data.sources.messages import Place
from painvrl.data.sources.safe_pickle import Refused, unpickled

_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_PICKLE_STARTS: Final = (b"\x80", b"cnumpy")
"""Of protocols from 2 on, and of an array in those before."""


def read_npy(path: Path, *, key: str) -> np.ndarray:
    """The array in ``path``, which ``numpy.save`` or ``ndarray.dump`` of any version wrote.

    An array of objects comes back as one (dtype ``object``) whose elements are numbers, texts, bytes, lists,
    tuples, dicts or arrays of those. What Python 2 wrote as ``str`` comes back as bytes, because its file
    does not say which of the two it was.

    Raises:
        DataError: the file cannot be read, is damaged, or holds Python objects of another kind.
    """
    place = Place(path, key)
    with place.reading(), path.open("rb") as stream:
        return read_npy_stream(stream, place)


def map_npy(path: Path, *, key: str) -> np.ndarray:
    """The same array, but mapped where it is one of plain numbers: a page is read when it is touched.

    Who writes to it changes a copy of the page, never the file.

    Raises:
        DataError: as :func:`read_npy`.
    """
    try:
        with _no_hints():
            return mapped(path)
    except Exception:  # noqa: BLE001 (objects, or what reading will complain of)
        return read_npy(path, key=key)


def read_npy_stream(stream: IO[bytes], place: Place) -> np.ndarray:
    """The array in an open file that can seek, such as a member of an ``.npz`` file.

    Args:
        stream: at its beginning.
        place: for messages.

    Raises:
        DataError: as :func:`read_npy`.
    """
    try:
        with _no_hints():
            return _read(stream)
    except Refused as error:
        raise place.error(
            "holds Python objects that are never loaded, because loading them can run code; only numbers, "
            "texts, lists and arrays are",
            value=str(error),
        ) from None


@contextmanager
def _no_hints() -> Iterator[None]:
    """NumPy does not say that a header is of Python 2, and that saving again would make it a bit faster."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Reading `.npy` or `.npz` file", category=UserWarning)
        yield


def _read(stream: IO[bytes]) -> np.ndarray:
    start = stream.read(len(npy.MAGIC_PREFIX))
    stream.seek(0)
    if start.startswith(_PICKLE_STARTS):
        return unpickled(stream.read())
    version = npy.read_magic(stream)
    if version in _HEADERS:
        shape, _, dtype = _HEADERS[version](stream)
        if dtype.hasobject:
            return unpickled(stream.read()).reshape(shape)
    stream.seek(0)
    array: np.ndarray = npy.read_array(stream, allow_pickle=False)
    return array


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


def _is_compressed(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())


def _read_tensor(path: Path, place: Place) -> np.ndarray:
    # A tensor may be sparse, nested or of a kind that NumPy does not know.
    with place.reading():
        try:
            is_archive = zipfile.is_zipfile(path)  # what is none was written before PyTorch 1.6
            if is_archive and _is_compressed(path):
                raise place.error("is compressed, as PyTorch writes none; save it anew")
            with uncounted() if is_archive else nullcontext():
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
        except pickle.UnpicklingError as error:
            rule = "holds Python objects that are never loaded, or is damaged; save one plain tensor"
            raise place.error(rule) from error
        if not isinstance(content, torch.Tensor):
            raise place.error("must hold one tensor", value=type(content).__name__)
        tensor = content.detach()
        array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array
