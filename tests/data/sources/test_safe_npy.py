from __future__ import annotations

import _codecs
import io
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from numpy.lib import format as npy

from painvrl.core.errors import DataError
from painvrl.data.sources import safe_pickle
from painvrl.data.sources.messages import Place, shown
from painvrl.data.sources.safe_npy import map_npy, read_npy, read_npy_stream


def objects(*elements: object) -> np.ndarray:
    array = np.empty(len(elements), dtype=object)
    for place, element in enumerate(elements):
        array[place] = element
    return array


def written(content: object, *, protocol: int = 4, shape: tuple[int, ...] = (3,)) -> bytes:
    """An ``.npy`` file of objects with any content in the place of the array."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": shape})
    stream.write(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    Path("file.npy").write_bytes(content)
    return read_npy(Path("file.npy"), key="data.path")


def assert_same(one: np.ndarray, two: np.ndarray) -> None:
    assert (one.dtype, one.shape) == (two.dtype, two.shape)
    for mine, other in zip(one.reshape(-1).tolist(), two.reshape(-1).tolist(), strict=True):
        assert type(mine) is type(other)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


RAGGED = [
    objects([1, 2, 3], [4], [5, 6]),
    objects(np.array([1, 2]), np.array([3], dtype=np.int32), np.zeros((2, 3))),
]
BIG = np.arange(24).reshape(2, 3, 4)
WRITTEN = {
    "lists of whole numbers": objects([0, 94334, -1], [2**40], [2**70], []),
    "other numbers": objects([0.5, -1e300, float("inf")], [True, False], 1 + 2j),
    "texts": objects("a", "\xe4\u2713\U0001f600", "", "00003"),
    "bytes": objects(b"u1", b"", b"\xff\x00"),
    "of each": objects("a", 7, 1.5, None),
    "tuples": objects((), (1,), (1, 2), (1, 2, 3), (1, (2,), 3, 4)),
    "dicts": objects({"a": [1], 2: {}}, {}),
    "NumPy's whole numbers": objects([np.int64(7), np.int8(-1), np.uint64(2**63), np.bool_(1)]),
    "NumPy's other numbers": objects([np.float32(0.5), np.float64(2.5), np.float16(1), np.complex64(1j)]),
    "NumPy's texts": objects([np.str_("\xe4bc"), np.str_(""), np.bytes_(b"ab"), np.bytes_(b"")]),
    "arrays": objects(np.array([1, 2]), np.array([3], dtype=np.int32), np.zeros((2, 3)), np.array(5)),
    "an empty array": objects(np.zeros((0, 3), dtype=np.int8)),
    "arrays of the other byte order": objects(np.array([1, -2], dtype=">i8"), np.array([0.5], dtype=">f4")),
    "arrays in another order": objects(np.asfortranarray(BIG[0]), BIG.transpose(1, 0, 2), BIG[..., ::2]),
    "arrays of texts": objects(np.array(["ab", "\xe4"]), np.array([b"x", b"yz"]), np.array(["q"], ">U2")),
    "arrays in lists": objects([np.arange(2), [np.arange(3)]], {"k": np.eye(2)}, (np.arange(1),)),
    "arrays of objects": objects(objects([1], [2, 3], "x"), 1.5, 7),
    "a matrix of lists": objects([1], [2], [3], [4]).reshape(2, 2),
    "one dict": np.array({"a": [1, 2]}, dtype=object),
    "nothing": objects(),
}
SPELLINGS = [
    f"numpy.{core}.{module}" for core in ("core", "_core") for module in ("multiarray", "_multiarray_umath")
]


class Writer(pickle._Pickler):
    """Pickles as another NumPy or Python would: its names are elsewhere, or its texts are bytes."""

    def __init__(self, stream: IO[bytes], protocol: int, module: str, *, python2: bool = False) -> None:
        super().__init__(stream, protocol, fix_imports=True)
        self.module = module
        self.python2 = python2

    def save_global(self, obj: object, name: str | None = None) -> None:
        name = name or obj.__qualname__
        module = pickle.whichmodule(obj, name)
        if module.startswith("numpy."):
            module = self.module
        if module == "builtins" and self.proto < 3:
            module = "__builtin__"
        if self.proto < 4:
            self.write(f"c{module}\n{name}\n".encode())
        else:
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    def save_text(self, text: str | bytes) -> None:
        if isinstance(text, str):
            text = text.encode("latin-1")
        if self.proto == 0:
            self.write(b"S" + repr(text)[1:].encode() + b"\n")
        else:
            self.write(pickle.BINSTRING + len(text).to_bytes(4, "little") + text)

    def save(self, obj: object, *arguments: object, **options: object) -> None:
        if self.python2 and type(obj) in (str, bytes):
            self.save_text(obj)
        else:
            super().save(obj, *arguments, **options)


def rewritten(array: np.ndarray, protocol: int, module: str, *, python2: bool = False) -> bytes:
    stream = io.BytesIO()
    Writer(stream, protocol, module, python2=python2).dump(array)
    return stream.getvalue()


def plain(value: object, *, texts_as_bytes: bool = False) -> object:
    """``value`` as it should come back: numbers of Python's own, and arrays as their type and lists."""
    again = partial(plain, texts_as_bytes=texts_as_bytes)
    match value:
        case np.ndarray():
            return ["array", value.dtype.kind, value.dtype.itemsize, value.shape, again(value.tolist())]
        case np.generic():
            return again(value.item())
        case list() | tuple():
            return [type(value).__name__, *map(again, value)]
        case dict():
            return {again(key): again(one) for key, one in value.items()}
        case str() if texts_as_bytes:
            return "bytes", value.encode("latin-1")
    return type(value).__name__, value


@pytest.mark.parametrize("array", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", SPELLINGS)
def test_what_any_numpy_wrote_is_read(array, protocol, module):
    content = rewritten(array, protocol, module)
    assert module.encode() in content
    assert plain(read(written(content, shape=array.shape))) == plain(array)
    assert plain(read(content)) == plain(array)  # as ndarray.dump writes it


PYTHON_2 = {name: array for name, array in WRITTEN.items() if "texts" not in name}


@pytest.mark.parametrize("array", PYTHON_2.values(), ids=PYTHON_2)
@pytest.mark.parametrize("protocol", range(3))
def test_what_python_2_wrote_is_read_with_its_texts_as_bytes(array, protocol):
    content = rewritten(array, protocol, SPELLINGS[0], python2=True)
    assert b"latin1" not in content
    result = read(written(content, shape=array.shape))
    assert plain(result) == plain(array, texts_as_bytes=True)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_every_plain_array_is_one_of_numpy_and_in_every_place_the_same():
    array = np.arange(4)
    one, (two, three) = read(written(objects(array, [array, np.matrix([[1]])]), shape=(2,)))
    assert one is two
    assert type(one) is type(three) is np.ndarray


def test_texts_of_any_length_are_read():
    texts = ["a", "longer than sixteen bytes", "\xe4", ""]
    with pytest.warns(UserWarning, match="saved as python objects"):
        np.save("texts.npy", np.array(texts, dtype=np.dtypes.StringDType()))
    assert read_npy(Path("texts.npy"), key="k").tolist() == texts


def test_states_of_the_first_numpy_have_no_version():
    dtype = b"cnumpy\ndtype\n(S'i2'\nI0\nI1\ntR(S'>'\nNNI-1\nI-1\ntb"
    shell = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    array = read(shell + b"((I2\nt" + dtype + b"I0\nS'\\x00\\x01\\x01\\x00'\ntb.")
    assert (array.dtype, array.tolist()) == (np.int16, [1, 256])


def test_bytes_of_python_before_3_3_are_read():
    two_bytes = b"c__builtin__\nbytes\n((lI1\naI2\natR"
    number = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vi2\nI0\nI1\ntR" + two_bytes + b"tR"
    array = pickle.dumps(objects(12345), protocol=0)
    assert read(array.replace(b"I12345\n", number)).tolist() == [513]


def test_the_header_of_python_2_is_read_without_a_word():
    content = written(RAGGED[0])
    assert_same(read(content.replace(b"(3,), }  ", b"(3L,), } ")), RAGGED[0])


def test_a_member_of_an_archive_is_read():
    np.savez("a.npz", rows=np.eye(2), ids=objects("a", 7))
    with zipfile.ZipFile("a.npz") as archive:
        for name, expected in (("rows", np.eye(2)), ("ids", objects("a", 7))):
            with archive.open(f"{name}.npy") as stream:
                assert_same(read_npy_stream(stream, Place("a.npz", "k")), expected)


TIKTOK_FOLDER = os.environ.get("PAINVRL_TIKTOK")  # holds val_full.npy as it is published with InvRL


@pytest.mark.skipif(TIKTOK_FOLDER is None, reason="PAINVRL_TIKTOK names no folder of the published file")
def test_the_published_file_is_read():
    rows = read_npy(Path(TIKTOK_FOLDER, "val_full.npy"), key="data.path")
    assert len(rows) == 22_595
    assert rows[0][:3] == [0, 94_334, 97_414]


def test_plain_arrays_are_read(tmp_path):
    for array in (np.arange(6).reshape(3, 2), np.asfortranarray(np.eye(3)), np.array(["a", "bc"])):
        np.save("plain.npy", array)
        np.testing.assert_array_equal(read_npy(Path("plain.npy"), key="k"), array)


class Touch:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


EVIL = {
    "in the place of the array": Touch(),
    "in a row": objects([1], Touch(), [2]),
    "in a list in a row": objects([1, Touch()], [2], [3]),
    "a function of NumPy's": b"cnumpy\nload\n(S'x'\ntR.",
    "one that looks like NumPy": b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
    "eval": b"cbuiltins\neval\n(Vopen('executed', 'w')\ntR.",
    "the same in Python 2": b"c__builtin__\neval\n(Vopen('executed', 'w')\ntR.",
    "an attribute of a name": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "instance opcode": b"(Vopen('executed', 'w')\nibuiltins\neval\n.",
    "another codec": b"c_codecs\nencode\n(VcHdk\nVrot13\ntR.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pexecuted\n.",
}


@pytest.mark.parametrize("content", EVIL.values(), ids=EVIL)
def test_pickled_code_is_not_executed(content):
    with pytest.raises(DataError, match=r"^file\.npy: data\.path: (holds Python objects|cannot be read: )"):
        read(written(content))
    assert not Path("executed").exists()


def test_the_pickles_above_are_dangerous():
    # Or the test above would prove nothing.
    np.load(io.BytesIO(written(EVIL["in a row"])), allow_pickle=True)
    assert Path("executed").exists()


def test_the_refused_name_is_reported():
    with pytest.raises(DataError, match=r"never loaded, because loading them can run code.*'builtins\.eval'"):
        read(written(EVIL["eval"]))


def test_bytes_are_decoded_by_no_other_codec():
    with pytest.raises(DataError, match=r"\(found '_codecs\.encode to rot13'\)"):
        read(written(EVIL["another codec"]))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_refused_because_none_of_its_elements_is_first(kind, protocol):
    with pytest.raises(DataError, match=r"never loaded.*set'"):
        read(written(objects([1], kind([2, 3]), [4]), protocol=protocol))


@pytest.mark.parametrize("setting", [b"I0\nI1\ns", b"(I0\nI1\nu"], ids=["one item", "several"])
def test_items_are_set_in_no_array(setting):
    array = pickle.dumps(np.arange(3), protocol=2)[:-1]
    with pytest.raises(DataError, match="ndarray has no items that could be set"):
        read(array + setting + b".")


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Fails if more than ``size`` bytes were taken at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= size


@pytest.mark.parametrize("number", [2**25, 2**32 - 1])
def test_the_number_of_a_remembered_object_takes_no_memory(number):
    remembered = b"Nr" + number.to_bytes(4, "little") + b"0"
    content = written(remembered + pickle.dumps(RAGGED[0], protocol=2))
    with at_most(2**20):
        assert_same(read(content), RAGGED[0])


def test_a_bytearray_is_refused_before_its_size_is_filled_with_zeros():
    with at_most(2**20), pytest.raises(DataError, match="cannot be read"):
        read(written(pickle.BYTEARRAY8 + (2**25).to_bytes(8, "little") + b"."))


class Made:
    """Pickled as a call, and a state for its result."""

    def __init__(self, *how: object) -> None:
        self.how = how

    def __reduce__(self):
        return self.how


def as_array(dtype: str, length: int, content: object) -> Made:
    reconstruct, shell, _ = np.empty(0).__reduce__()
    return Made(reconstruct, shell, (1, (length,), np.dtype(dtype), False, content))


BLOB, NOTHING, TEXT, ONES = bytes(2**18), [None] * 2**18, "x" * 2**18, [1] * 2**17
AGAIN = {
    "numbers": lambda: as_array("u1", len(BLOB), BLOB),
    "numbers of the other byte order": lambda: as_array(">i8", len(BLOB) // 8, BLOB),
    "objects": lambda: as_array("O", len(NOTHING), NOTHING),
    "text": lambda: Made(_codecs.encode, (TEXT, "latin-1")),
    "numbers of protocol 5": lambda: Made(
        np.empty(0).__reduce_ex__(5)[0], (BLOB, np.dtype("u1"), (len(BLOB),), "C")
    ),
    "numbers as bytes": lambda: Made(bytes, (ONES,)),
    "one number": lambda: Made(np.bytes_().__reduce__()[0], (np.dtype(f"S{len(BLOB)}"), BLOB)),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_one_content_does_not_fill_many_arrays(again):
    content = written(objects(*(again() for _ in range(200))), shape=(200,))
    assert len(content) < 2**19
    with at_most(32 * len(content)), pytest.raises(DataError, match="than 16 times the memory of the file"):
        read(content)


def nested(depth: int) -> bytes:
    """A tuple in a tuple in a tuple: to print or hash one overflows the stack, or takes forever."""
    return pickle.EMPTY_TUPLE + depth * pickle.TUPLE1


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\ndtype\n" + nested(5000) + b"\x85R.",
        b"c_codecs\nencode\nVa\n" + nested(5000) + b"\x86R.",
        b"cnumpy\n_reconstruct\ncnumpy\nndarray\n\x85R(("
        + 2 * nested(5000)
        + b"tcnumpy\ndtype\nVi8\n\x85R\x89Ntb.",
        b"}" + nested(5000) + b"Ns.",
        b"}(" + nested(5000) + b"Nu.",
        b"(" + nested(5000) + b"Nd.",
    ],
    ids=["dtype", "codec", "shape", "key", "one of several keys", "key of a dict at once"],
)
def test_what_is_nested_is_neither_printed_nor_hashed(content):
    with pytest.raises(DataError, match=r"a code must be a text|texts or numbers|no such shape"):
        read(written(content))


def test_many_arrays_of_their_own_content_are_read():
    rows = objects(*([None] * 300 for _ in range(40)), *(np.full(50, row, "u1") for row in range(40)))
    for array in (rows, objects(*(objects(*[None] * 300) for _ in range(40)))):
        assert_same(read(written(array, shape=array.shape)), array)


@pytest.mark.parametrize("state", [b"(dVx\nI1\ns", b"(N(dVx\nI1\nst"], ids=["dict", "slots"])
@pytest.mark.parametrize("name", ["numpy\nscalar", "numpy\n_frombuffer", "numpy\nndarray", "numpy\ndtype"])
def test_a_pickle_cannot_change_the_stand_ins(name, state, monkeypatch):
    stand_ins = safe_pickle._known(safe_pickle._Budget(1000))
    monkeypatch.setattr(safe_pickle, "_known", lambda _: stand_ins)
    known = stand_ins[tuple(name.split("\n"))]
    before = dict(vars(known))
    with pytest.raises(DataError, match="cannot be read"):
        read(written(b"c" + name.encode() + b"\n" + state + b"b."))
    assert dict(vars(known)) == before


# An object array whose content is bytes: they would be taken for addresses.
OBJECTS_FROM_BYTES = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I1\ntcnumpy\ndtype\n(VO8\n"
    b"I00\nI01\ntRI00\nVA\ntb."
)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2, 3],
        objects([1], [2]),
        np.array([1, 2, 3], dtype="M8[s]"),
        OBJECTS_FROM_BYTES,
        # Numbers with an index that lies outside of them.
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vi8\nI00\nI01\ntRV\ntR.",
    ],
)
def test_what_is_no_array_of_that_shape_is_an_error(content):
    shape = (1,) if content is OBJECTS_FROM_BYTES else (3,)
    with pytest.raises(DataError, match=r"file\.npy: data\.path: "):
        read(written(content, shape=shape))


@pytest.mark.parametrize("code", ["O", "i2", "U1"])
@pytest.mark.parametrize("shape", [(1000,), (-1, -1), (1,) * 65, (2**40, 2**40), (0, -1)])
def test_a_state_whose_content_does_not_fill_its_shape_is_an_error(shape, code):
    reconstruct, shell, _ = np.empty(0).__reduce__()
    content = [None] if code == "O" else bytes(np.dtype(code).itemsize)
    with pytest.raises(DataError, match=r"an array('s content does not fit its| has no such) shape|16 times"):
        read(pickle.dumps(Made(reconstruct, shell, (1, shape, np.dtype(code), False, content))))


@pytest.mark.parametrize("array", [RAGGED[0], RAGGED[1], np.arange(12).reshape(6, 2)])
def test_a_truncated_file_is_an_error(array):
    np.save("whole.npy", array, allow_pickle=True)
    content = Path("whole.npy").read_bytes()
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"file\.npy: data\.path: "):
            read(content[:length])


def test_a_damaged_file_is_an_error_or_another_array():
    content = bytearray(written(RAGGED[1]))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        try:
            assert isinstance(read(bytes(damaged)), np.ndarray)
        except DataError:
            continue


def test_a_missing_file_is_an_error():
    with pytest.raises(DataError, match=r"gone\.npy: data\.path: cannot be read: .*No such file"):
        read_npy(Path("gone.npy"), key="data.path")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'shape': (3",
        "{[]: 3}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30},)}}",
    ],
)
def test_a_damaged_header_is_an_error_of_mapping_too(header):
    content = npy.magic(1, 0) + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n" + bytes(12)
    Path("damaged.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged\.npy: k: cannot be read"):
        map_npy(Path("damaged.npy"), key="k")


def test_an_element_is_short_in_a_message_whatever_is_nested_in_it():
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep, deep]
    assert shown([0, 4.5]) == "[0, 4.5]"
    assert len(shown(deep)) <= 80
    assert shown([0, 10**5000]) == "a number of thousands of digits"
