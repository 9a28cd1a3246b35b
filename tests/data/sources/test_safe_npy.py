from __future__ import annotations

import _codecs
import io
import pickle
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from painvrl.data.sources import safe_npy
from painvrl.data.sources.safe_npy import read_npy
from painvrl.errors import DataError


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
    objects(np.array([1, -2], dtype=">i8"), np.array([0.5], dtype=">f4"), np.asfortranarray(np.eye(3)[:2])),
    objects((1, 2), {"a": [1]}, None),
    objects(objects([1], [2, 3], "x"), 1.5, 7),
    objects([1, 2, 3], [4], [5, 6], [7]).reshape(2, 2),
]


@pytest.mark.parametrize("array", RAGGED)
@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_objects_are_read_as_numpy_reads_them(array, protocol):
    content = written(array, protocol=protocol, shape=array.shape)
    if protocol == 2:  # what NumPy below 2 wrote
        content = content.replace(b"numpy._core.", b"numpy.core.")
        assert b"numpy.core." in content
    assert_same(read(content), np.load(io.BytesIO(content), allow_pickle=True))


def test_what_numpy_saves_today_is_read():
    np.save("rows.npy", RAGGED[0], allow_pickle=True)
    assert_same(read_npy(Path("rows.npy"), key="k"), RAGGED[0])


def test_numbers_of_numpy_become_plain_ones():
    (row,) = read(written(objects([np.int64(7), np.int32(-1), np.float32(0.5), np.bool_(1)]), shape=(1,)))
    assert row == [7, -1, 0.5, True]
    assert [type(one) for one in row] == [int, int, float, bool]


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


def test_the_refused_name_is_told():
    with pytest.raises(DataError, match=r"never loaded, because loading them can run code.*'builtins\.eval'"):
        read(written(EVIL["eval"]))


def test_bytes_are_decoded_by_no_other_codec():
    with pytest.raises(DataError, match=r"\(found '_codecs\.encode to rot13'\)"):
        read(written(EVIL["another codec"]))


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


BLOB, NOTHING, TEXT = bytes(2**18), [None] * 2**18, "x" * 2**18
AGAIN = {
    "numbers": lambda: as_array("u1", len(BLOB), BLOB),
    "numbers of the other byte order": lambda: as_array(">i8", len(BLOB) // 8, BLOB),
    "objects": lambda: as_array("O", len(NOTHING), NOTHING),
    "text": lambda: Made(_codecs.encode, (TEXT, "latin-1")),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_one_content_does_not_fill_many_arrays(again):
    content = written(objects(*(again() for _ in range(200))), shape=(200,))
    assert len(content) < 2**19
    with at_most(32 * len(content)), pytest.raises(DataError, match="than 16 times the memory of the file"):
        read(content)


def test_many_arrays_of_their_own_content_are_read():
    rows = objects(*([None] * 300 for _ in range(40)), *(np.full(50, row, "u1") for row in range(40)))
    for array in (rows, objects(*(objects(*[None] * 300) for _ in range(40)))):
        assert_same(read(written(array, shape=array.shape)), array)


@pytest.mark.parametrize("state", [b"(dVx\nI1\ns", b"(N(dVx\nI1\nst"], ids=["dict", "slots"])
@pytest.mark.parametrize("name", ["numpy.core.multiarray\nscalar", "numpy\nndarray", "numpy\ndtype"])
def test_a_pickle_cannot_change_the_stand_ins(name, state, monkeypatch):
    stand_ins = safe_npy._known(safe_npy._Budget(1000))
    monkeypatch.setattr(safe_npy, "_known", lambda _: stand_ins)
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
        np.array(["a", "b", "c"]),
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
