from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from painvrl.core.errors import DataError
from painvrl.data.sources import values
from painvrl.data.sources.safe_npy import read_array
from painvrl.data.sources.texts import as_objects
from painvrl.data.sources.values import keyed_by_row

MATRIX = np.array([[1.0, 2.0], [0.0, 0.0], [-0.5, 0.0]], dtype=np.float32)
FILE = Path("f.npy")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the format before torch 1.6"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_a_tensor_file_holds_its_tensor(dtype, zipped):
    tensor = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.5, 8.0]]).to(dtype)
    torch.save(tensor, "t.pt", _use_new_zipfile_serialization=zipped)
    array = read_array(Path("t.pt"), key="k")
    np.testing.assert_array_equal(array, tensor.double().numpy())
    assert (array.dtype.kind == "i") == (dtype == torch.int64)


def test_a_parameter_is_read_without_its_gradient():
    torch.save(torch.nn.Parameter(torch.eye(2)), "t.pt")
    np.testing.assert_array_equal(read_array(Path("t.pt"), key="k"), np.eye(2))


def test_an_npy_file_holds_its_array():
    np.save(FILE, MATRIX)
    np.testing.assert_array_equal(read_array(FILE, key="k"), MATRIX)


class Touch:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_in_a_tensor_file_is_not_executed(zipped):
    torch.save([torch.eye(2), Touch()], "t.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"t\.pt: k: holds Python objects that are never loaded"):
        read_array(Path("t.pt"), key="k")
    assert not Path("executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("length", [0, 1, 20, 200, -30])
def test_a_truncated_tensor_file_is_an_error(zipped, length):
    torch.save(torch.eye(3), "t.pt", _use_new_zipfile_serialization=zipped)
    Path("t.pt").write_bytes(Path("t.pt").read_bytes()[:length])
    with pytest.raises(DataError, match=r"^t\.pt: k: "):
        read_array(Path("t.pt"), key="k")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.pt", {"a": torch.eye(2)}, r"t\.pt: k: must hold one tensor \(found 'dict'\)"),
        ("t.pt", 3, r"t\.pt: k: must hold one tensor \(found 'int'\)"),
        ("t.bin", torch.eye(2), r"t\.bin: k: the file's name must end in \.npy or \.pt \(found 't\.bin'\)"),
    ],
)
def test_what_is_no_tensor_is_an_error(name, content, message):
    torch.save(content, name)
    with pytest.raises(DataError, match=message):
        read_array(Path(name), key="k")


def test_a_row_of_zeros_is_an_item_without_features():
    keyed = keyed_by_row(MATRIX, file=FILE, key="k")
    assert keyed.ids.tolist() == ["0", "2"]
    assert keyed.values.tolist() == [[1.0, 2.0], [-0.5, 0.0]]
    assert keyed.values.dtype == np.float32
    assert (keyed.rows, keyed.findings) == (3, ())


def test_rows_may_belong_to_ids():
    ids = as_objects(["b", "a", "007"])
    assert keyed_by_row(MATRIX, file=FILE, key="k", ids=ids).ids.tolist() == ["b", "007"]


def test_a_matrix_that_needs_no_change_is_not_copied():
    matrix = MATRIX[[0, 2]]
    assert np.shares_memory(keyed_by_row(matrix, file=FILE, key="k").values, matrix)


def test_numbers_in_an_array_of_objects_are_numbers():
    keyed = keyed_by_row(MATRIX.astype(object), file=FILE, key="k")
    assert keyed.values.tolist() == [[1.0, 2.0], [-0.5, 0.0]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(3.0), r"must be a matrix \[items, features\] of real numbers \(found 'float64 \[3\]'\)"),
        (np.eye(2, dtype=complex), r"must be a matrix .* \(found 'complex128 \[2, 2\]'\)"),
        (np.array([["a", "b"]], dtype=object), r"must be a matrix .* \(found '<U1 \[1, 2\]'\)"),
        (np.array([["1", "1_0"]], dtype=object), r"must be a matrix .* \(found '<U3 \[1, 2\]'\)"),
        (np.array([[1.0], [1.0, 2.0]], dtype=object), r"must be a matrix .* \(found 'object \[2\]'\)"),
        (np.zeros((0, 3)), r"must be a matrix .* \(found 'float64 \[0, 3\]'\)"),
        (np.zeros((2, 3)), r"the features are all zero"),
        (
            np.array([[1.0, 2.0], [3.0, np.nan], [np.inf, 0.0]]),
            r"the feature 1 of row 1 is NaN or infinite \(found nan\)",
        ),
        (np.array([[1e39]]), r"the feature 0 of row 0 is too large to be scaled .*\(found 1e\+39\)"),
    ],
)
def test_what_is_no_matrix_of_finite_numbers_is_an_error(array, message):
    with pytest.raises(DataError, match=rf"^f\.npy: k: .*{message}"):
        keyed_by_row(array, file=FILE, key="k")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_in_an_npy_file_is_mapped_and_never_written(order):
    np.save(FILE, np.asarray(MATRIX, order=order))
    before = FILE.read_bytes()
    array = read_array(FILE, key="k")
    assert isinstance(array.base, np.memmap)
    np.testing.assert_array_equal(array, MATRIX)
    array[:] = 7
    assert FILE.read_bytes() == before


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the format before torch 1.6"])
def test_a_tensor_file_is_mapped_where_it_can_be(zipped, monkeypatch):
    torch.save(torch.eye(2), "t.pt", _use_new_zipfile_serialization=zipped)
    load, asked = torch.load, []
    monkeypatch.setattr(torch, "load", lambda *file, **how: asked.append(how["mmap"]) or load(*file, **how))
    read_array(Path("t.pt"), key="k")
    assert asked == [zipped]


def test_a_matrix_of_finite_float32_is_not_copied():
    matrix = MATRIX[[0, 2]]
    assert keyed_by_row(matrix, file=FILE, key="k").values is matrix


@pytest.mark.parametrize("row", range(5))
def test_a_wrong_number_is_found_in_every_block_of_rows(row, monkeypatch):
    monkeypatch.setattr(values, "_CHUNK_BYTES", 48)
    matrix = np.ones((5, 3))
    matrix[row, 1] = np.nan
    with pytest.raises(DataError, match=rf"the feature 1 of row {row} is NaN"):
        keyed_by_row(matrix, file=FILE, key="k")
