"""``.npy`` files, those with Python objects included, read without executing pickled code.

NumPy stores an array of objects (rows of unequal length, say) as a pickle, and unpickling calls whatever
the file names. Here a pickle may name only what an array of numbers and lists needs, and even that is not
NumPy's own code but the few stand-ins below; every other name is refused before anything is called.
"""

from __future__ import annotations

import pickle
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib import format as npy

from painvrl.data.sources.tabular import first_line
from painvrl.errors import DataError

_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_NUMBERS: Final = "biuf"


def read_npy(path: Path, *, key: str) -> np.ndarray:
    """The array in ``path``.

    An array of objects comes back as one (dtype ``object``) whose elements are numbers, texts, lists,
    tuples, dicts or arrays of numbers.

    Raises:
        DataError: the file cannot be read, is damaged, or holds Python objects of another kind.
    """
    try:
        with path.open("rb") as stream:
            version = npy.read_magic(stream)
            if version in _HEADERS:
                shape, _, dtype = _HEADERS[version](stream)
                if dtype.hasobject:
                    return _read_objects(_Reader(stream, encoding="latin1"), shape)
            stream.seek(0)
            array: np.ndarray = np.load(stream, allow_pickle=False)
            return array
    except _Refused as error:
        raise DataError(
            "holds Python objects that are never loaded, because loading them can run code; only numbers, "
            "lists and arrays are",
            file=path,
            key=key,
            value=str(error),
        ) from None
    except (
        *(OSError, EOFError, MemoryError, pickle.UnpicklingError),
        # What a damaged header makes NumPy stumble over, and a damaged pickle the stand-ins.
        *(SyntaxError, tokenize.TokenError),
        *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    ) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=path, key=key) from error


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not on the list; the message is its name."""


class _Dtype:
    """A stand-in for ``numpy.dtype`` that knows numbers and objects."""

    def __init__(self, code: str, align: object = None, copy: object = None) -> None:
        dtype = np.dtype(code)
        if dtype.kind not in f"{_NUMBERS}O":
            raise _Refused(f"numpy.dtype({code!r})")
        self.dtype = dtype

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]
        if order in {"<", ">"}:
            self.dtype = self.dtype.newbyteorder(">" if order == ">" else "<")


class _Array:
    """A stand-in for ``numpy.ndarray``: an empty shell first, then filled from the pickle."""

    array: np.ndarray

    def __setstate__(
        self, state: tuple[object, tuple[int, ...], _Dtype, bool, bytes | str | list[object]]
    ) -> None:
        _, shape, dtype, fortran, content = state
        if dtype.dtype.kind == "O":
            if not isinstance(content, list):
                raise TypeError("an array of objects must be pickled as a list")
            flat = np.empty(len(content), dtype=object)
            for place, element in enumerate(content):
                flat[place] = element.array if isinstance(element, _Array) else element
        else:
            numbers = np.frombuffer(_as_bytes(content), dtype=dtype.dtype)
            flat = numbers.astype(dtype.dtype.newbyteorder("="))
        self.array = flat.reshape(shape, order="F" if fortran else "C")


class _Function:
    """A function that a pickle can call, and that it can set no attribute of."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise TypeError("a function has no state")


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _Array:
        raise TypeError("only plain arrays are read")
    return _Array()


def _scalar(dtype: _Dtype, content: bytes | str) -> object:
    return np.frombuffer(_as_bytes(content), dtype=dtype.dtype)[0].item()


def _encode(text: str, codec: str) -> bytes:
    """Pickles of protocol 2 write bytes as text."""
    if codec not in {"latin1", "latin-1"}:
        raise _Refused(f"_codecs.encode to {codec}")
    return text.encode("latin-1")


_KNOWN: Final[dict[tuple[str, str], Callable[..., object]]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Function(_scalar),
    ("_codecs", "encode"): _Function(_encode),
}
"""All that a pickle may name."""


class _Reader(pickle.Unpickler):
    """An unpickler that finds the stand-ins and nothing else."""

    def find_class(self, module: str, name: str, /) -> Callable[..., object]:
        try:
            return _KNOWN[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def _read_objects(reader: _Reader, shape: tuple[int, ...]) -> np.ndarray:
    content = reader.load()
    if not isinstance(content, _Array):
        raise TypeError("the pickle is not an array")
    return content.array.reshape(shape)


def _as_bytes(content: object) -> bytes:
    """The bytes of numbers; Python 2 pickled them as text."""
    if isinstance(content, str):
        return content.encode("latin-1")
    if not isinstance(content, bytes):
        raise TypeError("numbers must be pickled as bytes")
    return content
