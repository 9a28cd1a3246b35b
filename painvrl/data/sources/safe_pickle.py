"""Pickled arrays, read without executing what the pickle names.

Unpickling calls whatever the file names. Here nothing that a pickle names is imported or called. Its names
are looked up among the few stand-ins below, which make arrays, numbers and texts; every other is refused.

Which module a name of NumPy's stands in has changed many times (``numpy.core.multiarray``,
``numpy.core._multiarray_umath``, ``numpy._core.multiarray``), and will again. So only the last name counts: a
stand-in is the same function wherever NumPy keeps its own.

A pickle may also ask for far more memory than the file has bytes. So it is read by Python's own unpickler,
whose table of remembered objects is a dict (the one written in C allocates a table up to the highest number
that the file names), and the arrays of a file share a budget. Twice as slow as the one in C: half a second
for the 55,000 rows of the largest published file.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np

_CODE: Final = re.compile(r"[biufcSUO]\d{0,9}")
"""Numbers, bytes, texts and objects; no dates, and nothing with fields."""

_PLAIN: Final[Mapping[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch  # noqa: SLF001
"""How Python's own unpickler does what a pickle says."""

_DIMENSIONS: Final = 64
"""At most, in every version of NumPy."""

_BYTES_PER_BYTE: Final = 16
"""What arrays may take per byte of their file: 8 for an element of an object array, written in at least
one, and as much again for copies."""


def unpickled(content: bytes) -> np.ndarray:
    """The array in a pickle.

    An array of objects has numbers, texts, bytes, lists, tuples, dicts and arrays of those.

    Raises:
        Refused: the pickle names something else.
        Exception: it is damaged; a pickle can be in more ways than can be listed.
    """
    array = _Reader(content).load()
    if not isinstance(array, np.ndarray):
        raise TypeError("the pickle is not an array")
    _require_few(array, _BYTES_PER_BYTE * len(content))
    return array


_CONTAINERS: Final = (list, tuple, dict, np.ndarray)


def _require_few(array: np.ndarray, most: int) -> None:
    """Refuse what is more than ``most`` elements where each is counted as often as it is named.

    A list that holds another ten times, which holds a third ten times, takes no memory until someone looks.
    """
    sizes: dict[int, int] = {}
    left: list[tuple[Any, bool]] = [(array, False)]
    while left:
        thing, is_known_below = left.pop()
        if not is_known_below and id(thing) in sizes:
            if sizes[id(thing)] < 0:
                raise pickle.UnpicklingError("it holds a list that holds itself")
            continue
        below = _containers_in(thing)
        if is_known_below:
            size = sizes[id(thing)] = len(below[0]) + sum(sizes[id(one)] for one in below[1])
            if size > most:
                raise pickle.UnpicklingError(f"its lists name more than {most:,} elements")
            continue
        sizes[id(thing)] = -1
        left += [(thing, True), *((one, False) for one in below[1])]


def _containers_in(thing: Any) -> tuple[Any, list[Any]]:
    """The elements, and those of them that have elements."""
    if isinstance(thing, np.ndarray):
        if thing.dtype != object:
            return np.broadcast_to(0, thing.size), []
        thing = thing.ravel().tolist()
    elements = thing.values() if isinstance(thing, dict) else thing
    return elements, [one for one in elements if isinstance(one, _CONTAINERS)]


class Refused(pickle.UnpicklingError):
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
    """A stand-in for ``numpy.dtype`` that knows numbers, bytes, texts and objects."""

    def __init__(self, code: str | bytes, align: object = None, copy: object = None) -> None:
        code = _as_text(code)
        if not _CODE.fullmatch(code):
            raise Refused(f"numpy.dtype({code!r})")
        self.dtype = np.dtype(code)

    def fill(self, state: tuple[Any, ...]) -> None:
        # The number of the state's version is first, but for the oldest.
        order = _as_text(state[0] if isinstance(state[0], str | bytes) else state[1])
        if order in {"<", ">"}:
            self.dtype = self.dtype.newbyteorder(">" if order == ">" else "<")


class _Kind:
    """A stand-in for ``numpy.ndarray`` and the classes derived from it: all become plain arrays."""


def _reconstruct(kind: object, *_: object) -> np.ndarray:
    """An empty shell; its state follows."""
    if kind is not _Kind:
        raise TypeError("only arrays are read")
    return np.empty(0)


def _fill(budget: _Budget, array: np.ndarray, state: tuple[Any, ...]) -> None:
    """Make ``array`` what its state says: shape, type, whether columns come first, and content.

    NumPy's own code does it in place (a list that holds the array twice must get it twice), after all that
    it would take on trust has been checked.
    """
    shape, stand_in, fortran, content = state
    dtype: np.dtype[Any] = stand_in.dtype
    if len(shape) > _DIMENSIONS or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError("an array has no such shape")
    size = math.prod(shape)
    if dtype.kind == "O":
        if not isinstance(content, list):
            raise TypeError("an array of objects must be pickled as a list")
        budget.take(8 * len(content))
        fits = len(content) == size
    else:
        content = _as_bytes(content)
        budget.take(max(len(content), size))
        fits = len(content) == size * dtype.itemsize
    if not fits:
        raise ValueError("an array's content does not fit its shape")
    array.__setstate__((1, shape, dtype, bool(fortran), content))  # type: ignore[arg-type]


def _from_buffer(
    budget: _Budget,
    content: object,
    dtype: _Dtype,
    shape: tuple[int, ...],
    order: str,
    axes: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Arrays of numbers in pickles of protocol 5."""
    array = np.empty(0)
    if dtype.dtype.kind == "O":
        raise TypeError("an array of objects must be pickled as a list")
    _fill(budget, array, (shape, dtype, order == "F", content))
    return array if axes is None else array.transpose(axes)


def _scalar(budget: _Budget, dtype: _Dtype, content: object) -> object:
    if dtype.dtype.itemsize == 0:  # an empty text
        return dtype.dtype.type().item()
    budget.take(dtype.dtype.itemsize)
    return np.frombuffer(_as_bytes(content), dtype=dtype.dtype)[0].item()


def _encode(budget: _Budget, text: str, codec: str) -> bytes:
    """Pickles of protocols up to 2 write bytes as text, since Python 3.3."""
    if _as_text(codec) not in {"latin1", "latin-1"}:
        raise Refused(f"_codecs.encode to {codec}")
    budget.take(len(text))
    return text.encode("latin-1")


def _bytes(budget: _Budget, numbers: object = ()) -> bytes:
    """The same before Python 3.3, and no bytes at all ever since."""
    if not isinstance(numbers, list | tuple):
        raise TypeError("bytes must be pickled as numbers")
    budget.take(len(numbers))
    return bytes(numbers)


def _complex(real: float, imaginary: float) -> complex:
    return complex(float(real), float(imaginary))


def _known(budget: _Budget) -> dict[tuple[str, str], Callable[..., object]]:
    """All that a pickle may name, by package and last name."""
    return {
        **{("numpy", kind): _Kind for kind in ("ndarray", "memmap", "matrix", "chararray")},
        ("numpy", "dtype"): _Dtype,
        # NumPy 2's texts of any length: pickled as a list.
        ("numpy", "_convert_to_stringdtype_kwargs"): lambda *_: _Dtype("O"),
        ("numpy", "_reconstruct"): _reconstruct,
        ("numpy", "_frombuffer"): partial(_from_buffer, budget),
        ("numpy", "scalar"): partial(_scalar, budget),
        ("_codecs", "encode"): partial(_encode, budget),
        ("builtins", "bytes"): partial(_bytes, budget),
        ("builtins", "complex"): _complex,
    }


class _Reader(pickle._Unpickler):  # noqa: SLF001
    """An unpickler that finds the stand-ins and nothing else."""

    stack: list[Any]
    metastack: list[list[Any]]

    def __init__(self, content: bytes) -> None:
        # Not the stream: to be asked for more than there is must take no memory.
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._budget = _Budget(_BYTES_PER_BYTE * len(content))
        self._stand_ins = _known(self._budget)

    def find_class(self, module: str, name: str, /) -> Callable[..., object]:
        package = module.partition(".")[0].replace("__builtin__", "builtins")
        try:
            return self._stand_ins[package, name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def load_build(self) -> None:
        """Give a state to what is on top: arrays and their types have one, and nothing else."""
        thing, state = self.stack[-2], self.stack.pop()
        if isinstance(thing, np.ndarray):
            _fill(self._budget, thing, state[-4:])  # a version is first, but for the oldest
        elif isinstance(thing, _Dtype):
            thing.fill(state)
        else:
            raise TypeError(f"{type(thing).__name__} has no state")

    def load_setitem(self) -> None:
        """Items are set in dicts only: an index into an array can ask for any amount of memory."""
        _require_dict(self.stack[-3], self.stack[-2:-1])
        _PLAIN[pickle.SETITEM[0]](self)

    def load_setitems(self) -> None:
        """The same for several, whose dict lies below the mark."""
        _require_dict(self.metastack[-1][-1], self.stack[::2])
        _PLAIN[pickle.SETITEMS[0]](self)

    def load_dict(self) -> None:
        """A dict and its items at once."""
        _require_dict({}, self.stack[::2])
        _PLAIN[pickle.DICT[0]](self)

    def load_set(self) -> None:
        """None: its elements have no order, so no reader could say which is first."""
        raise Refused("builtins.set")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_PLAIN,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.EMPTY_SET[0]: load_set,
        pickle.FROZENSET[0]: load_set,
        # A bytearray is filled with zeros before it is read, however short the file; bytes are not.
        pickle.BYTEARRAY8[0]: _PLAIN[pickle.BINBYTES8[0]],
    }


def _require_dict(thing: object, keys: list[object]) -> None:
    """Keys are plain: to hash nested tuples can take any time, and overflow the stack of Python itself."""
    if not isinstance(thing, dict):
        raise TypeError(f"{type(thing).__name__} has no items that could be set")
    if not all(isinstance(key, str | bytes | int | float) for key in keys):
        raise TypeError("keys of a dict must be texts or numbers")


def _as_bytes(content: object) -> bytes:
    if not isinstance(content, bytes):
        raise TypeError("numbers must be pickled as bytes")
    return content


def _as_text(code: object) -> str:
    """The text of a code; Python 2 pickled it as bytes."""
    if not isinstance(code, str | bytes):  # no str() of it: lists in lists can make any length
        raise TypeError("a code must be a text")
    return code.decode("latin-1") if isinstance(code, bytes) else code
