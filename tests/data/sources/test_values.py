from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core.errors import DataError
from painvrl.data.sources import values as module
from painvrl.data.sources.messages import Place
from painvrl.data.sources.values import checked_matrix, column_facts, natural_order, without_index_columns


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Every matrix of more than a row or two is looked at in several blocks."""
    monkeypatch.setattr(module, "_CHUNK_BYTES", 64)


def check(values, names=None):
    return checked_matrix(np.asarray(values), Place("f", "k"), row_name="row {}".format, names=names)


def test_columns_are_ordered_by_the_numbers_in_their_names():
    names = ["f10", "f2", "a", "f1", "f01", "b2c10", "b2c9"]
    assert natural_order(names) == ("a", "b2c9", "b2c10", "f01", "f1", "f2", "f10")


@given(st.permutations([f"f{at}" for at in range(12)] + ["x", "F1", "", "9"]))
def test_the_order_of_columns_does_not_depend_on_the_files(names):
    assert natural_order(names) == natural_order(sorted(names))


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        (1e18, "too large to be scaled"),
        (-1e30, "too large to be scaled"),
        (np.inf, "NaN or infinite"),
        (np.nan, "NaN or infinite"),
    ],
)
def test_a_feature_that_cannot_be_scaled_is_named_by_column_and_row(number, rule):
    matrix = np.ones((9, 3))
    matrix[7, 1] = number
    with pytest.raises(DataError, match=f"f: k: the feature b of row 7 is {rule}"):
        check(matrix, names=["a", "b", "c"])
    with pytest.raises(DataError, match="the feature 1 of row 7"):
        check(matrix)


def test_numbers_below_the_limit_and_flags_pass():
    assert check([[9e17, -9e17]]).dtype == np.float32
    assert check(np.array([[True, False]])).tolist() == [[1.0, 0.0]]


def test_a_matrix_of_float32_is_not_copied():
    matrix = np.ones((4, 3), dtype=np.float32)
    assert np.shares_memory(check(matrix), matrix)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_a_column_of_row_numbers_is_left_out_with_a_warning(first, order):
    numbers = np.array(order) + first
    matrix = np.stack([[1.0, 1.0, 2.0, 5.0], numbers, [0.0, 1.0, 2.0, 4.0]], axis=1)
    left, names, findings = without_index_columns(matrix, ["a", "n", "b"], key="k")
    assert left.tolist() == matrix[:, [0, 2]].tolist()
    assert names == ("a", "b")
    assert findings == (
        "k: the column n is the number of the row, so it is left out; name it in values to keep it",
    )


@pytest.mark.parametrize(
    "column", [[0, 1, 2, 4], [2, 3, 4, 5], [0, 1, 1, 3], [0, 0.5, 1, 3], [-1, 0, 1, 2], [0, 1, 1, 2]]
)
def test_other_columns_stay(column):
    matrix = np.stack([column, [1.0, 1.0, 2.0, 5.0]], axis=1)
    left, _, findings = without_index_columns(matrix, ["a", "b"], key="k")
    assert left.shape == (4, 2)
    assert findings == ()


def test_the_only_column_stays():
    assert without_index_columns(np.arange(5.0)[:, None], None, key="k")[0].shape == (5, 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4))
def test_facts_of_columns_match_a_plain_computation(seed, rows, columns):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-2, 3, (rows + 3, columns)) * rng.choice([0.0, 1.0, 30.0], (rows + 3, columns))
    chosen = rng.choice(rows + 3, rows, replace=False)
    facts = column_facts(matrix.astype(np.float32), chosen)
    block = matrix[chosen]
    squares = (block**2).sum(axis=0)
    assert facts.largest == squares.argmax()
    assert facts.share == pytest.approx(squares.max() / squares.sum() if squares.sum() else 0.0)
    same = [at for at in range(columns) if rows > 1 and len(set(block[:, at])) == 1]
    assert list(facts.zero) == [at for at in range(columns) if not block[:, at].any()]
    assert list(facts.constant) == [at for at in same if block[0, at] != 0]
    assert facts.zero_rows == sum(not row.any() for row in block)
    assert list(facts.outlier) == [
        at
        for at in range(columns)
        if rows > 2 and at not in same and 2 * (block[:, at] ** 2).max() > squares[at]
    ]
    if facts.outlier:
        first = facts.outlier[0]
        assert matrix[facts.outlier_row, first] ** 2 == (block[:, first] ** 2).max()


def test_a_bit_pattern_that_is_no_number_is_refused_without_a_warning() -> None:
    signalling = np.array([[0x7FF0000000000001]], dtype=np.uint64).view(np.float64)
    with pytest.raises(DataError, match="is NaN or infinite"):
        checked_matrix(signalling, Place("a.npy", "data.files.x"), row_name=lambda row: f"row {row}")
