"""``.npy`` files, those with Python objects included, read without executing pickled code.

NumPy stores an array of objects (rows of unequal length, say) as a pickle, and unpickling calls whatever
the file names. Here a pickle may name only what an array of numbers and lists needs, and even that is not
NumPy's own code but the few stand-ins below; every other name is refused before anything is called.

A pickle may also ask for far more memory than the file has bytes. So it is read by Python's own unpickler,
whose table of remembered objects is a dict (the one written in C allocates a table up to the highest number
that the file names), and the arrays of a file share a budget. Twice as slow as the one in C: half a second
for the 55,000 rows of the largest published file.
"""

from __future__ import annotations

import pickle
import struct
import tokenize
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy

from painvrl.data.sources.tabular import first_line
from painvrl.errors import DataError

_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_NUMBERS: Final = "biuf"

_BYTES_PER_BYTE: Final = 16
"""What arrays may take per byte of their file: 8 for an element of an object array, written in at least
one, and as much again for copies."""


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
                    budget = _Budget(_BYTES_PER_BYTE * path.stat().st_size)
                    return _read_objects(_Reader(stream, budget), shape)
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
        *(SyntaxError, tokenize.TokenError, struct.error),
        *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    ) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=path, key=key) from error


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not on the list; the message is its name."""


class _Budget:
    """Bytes that the arrays of one file may still take: a pickle can name the same bytes again and again."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise pickle.UnpicklingError(
                f"its arrays would take more than {_BYTES_PER_BYTE} times the memory of the file"
            )


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

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget

    def __setstate__(
        self, state: tuple[object, tuple[int, ...], _Dtype, bool, bytes | str | list[object]]
    ) -> None:
        _, shape, dtype, fortran, content = state
        if dtype.dtype.kind == "O":
            if not isinstance(content, list):
                raise TypeError("an array of objects must be pickled as a list")
            self._budget.take(8 * len(content))
            flat = np.empty(len(content), dtype=object)
            for place, element in enumerate(content):
                flat[place] = element.array if isinstance(element, _Array) else element
        else:
            self._budget.take(len(content))
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


def _reconstruct(budget: _Budget, kind: object, *_: object) -> _Array:
    if kind is not _Array:
        raise TypeError("only plain arrays are read")
    return _Array(budget)


def _scalar(dtype: _Dtype, content: bytes | str) -> object:
    return np.frombuffer(_as_bytes(content), dtype=dtype.dtype)[0].item()


def _encode(budget: _Budget, text: str, codec: str) -> bytes:
    """Pickles of protocol 2 write bytes as text."""
    if codec not in {"latin1", "latin-1"}:
        raise _Refused(f"_codecs.encode to {codec}")
    budget.take(len(text))
    return text.encode("latin-1")


def _known(budget: _Budget) -> dict[tuple[str, str], Callable[..., object]]:
    """All that a pickle may name."""
    return {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy.core.multiarray", "_reconstruct"): _Function(partial(_reconstruct, budget)),
        ("numpy.core.multiarray", "scalar"): _Function(_scalar),
        ("_codecs", "encode"): _Function(partial(_encode, budget)),
    }


class _Reader(pickle._Unpickler):  # noqa: SLF001
    """An unpickler that finds the stand-ins and nothing else."""

    # A bytearray is filled with zeros before it is read, however short the file.
    dispatch = {  # noqa: RUF012
        code: load
        for code, load in pickle._Unpickler.dispatch.items()  # noqa: SLF001
        if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        super().__init__(stream, encoding="latin1")
        self._stand_ins = _known(budget)

    def find_class(self, module: str, name: str, /) -> Callable[..., object]:
        try:
            return self._stand_ins[module.replace("numpy._core", "numpy.core"), name]
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
