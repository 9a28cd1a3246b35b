from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from painvrl.data.sources.tabular import (
    as_ids,
    id_column,
    label_column,
    number_column,
    read_table,
    time_column,
)
from painvrl.errors import DataError

FRAME = pd.DataFrame({"id": [3, 1], "x": [0.5, 1.5], "name": ["a", "b"]})
FILE = Path("some.csv")
GZIPPED = gzip.compress("".join(f"{i},{i * i}\n" for i in range(2000)).encode(), mtime=0)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "T.CSV"])
def test_every_kind_of_table_reads_the_same(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".parquet":
        FRAME.to_parquet(path)
    else:
        FRAME.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    pd.testing.assert_frame_equal(read_table(path, key="k"), FRAME)


def test_a_relative_path_is_taken_from_the_current_directory(tmp_path, monkeypatch):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert len(read_table(Path("t.csv"), key="k")) == 2


def test_a_missing_file_is_named_with_key_and_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"^gone\.csv: data\.path: there is no such file .*{tmp_path.name}"):
        read_table(Path("gone.csv"), key="data.path")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        read_table(tmp_path, key="data.path")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.parquet", b"no parquet"),
        ("t.csv", b""),
        ("t.csv", b'a,b\n1,2\n1,2,3\n"'),
        ("t.csv", b"a,b\n\xff\xfe,1\n"),
        ("t.csv.gz", b"no gzip"),
        ("t.csv.gz", GZIPPED[: len(GZIPPED) // 2]),
        ("t.csv.gz", GZIPPED[:20] + bytes(20) + GZIPPED[40:]),
    ],
)
def test_an_unreadable_file_is_reported_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.path: cannot be read") as caught:
        read_table(path, key="data.path")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_rows_or_of_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="holds no row"):
        read_table(tmp_path / "t.csv", key="k")
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"must end in .*\(found 't\.xlsx'\)"):
        read_table(tmp_path / "t.xlsx", key="k")


def test_a_wrong_column_is_reported_with_those_that_exist():
    with pytest.raises(
        DataError, match=r"^some\.csv: data\.user: there is no such column; .* id, x, name \(found 'usr'\)$"
    ):
        id_column(FRAME, "usr", file=FILE, key="data.user")


def test_of_many_columns_the_first_are_listed():
    wide = pd.DataFrame({f"c{index}": [0] for index in range(40)})
    with pytest.raises(DataError, match=r"c0, c1, .* c11 and 28 more"):
        number_column(wide, "x", file=FILE, key="k")


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (np.array([1, 2], dtype=np.int32), [1, 2]),
        (np.array([1.0, 2.0]), [1, 2]),
        (np.array([1.5, 2.0]), ["1.5", "2.0"]),
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
        (np.array([1, "b"], dtype=object), ["1", "b"]),
        (np.array([2**63], dtype=np.uint64), [str(2**63)]),
    ],
)
def test_ids_are_whole_numbers_or_texts(values, ids):
    result = as_ids(values)
    assert result.tolist() == ids
    assert result.dtype.kind in "iU"


def test_a_missing_id_is_reported_with_its_row():
    frame = pd.DataFrame({"id": ["a", None, "c", None]})
    with pytest.raises(DataError, match=r"2 rows have no id; the first is row 2 \(found 'id'\)"):
        id_column(frame, "id", file=FILE, key="data.user")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_reported_with_its_row(bad):
    frame = pd.DataFrame({"r": [1.0, 2.0, bad]})
    with pytest.raises(DataError, match=rf"data\.rating: 1 values .* {bad} in row 3 \(found 'r'\)"):
        number_column(frame, "r", file=FILE, key="data.rating")


def test_a_text_is_no_number():
    with pytest.raises(DataError, match=r"data\.rating: the column must hold numbers.*\(found 'name'\)"):
        number_column(FRAME, "name", file=FILE, key="data.rating")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", None, " a ", "b"], ["b", "", "a", "b"]),
        ([1, 2, 1], ["1", "2", "1"]),
        ([1990.0, float("nan"), 2.5], ["1990", "", "2.5"]),
        ([True, False], ["True", "False"]),
    ],
)
def test_labels_are_texts_and_empty_where_one_is_missing(values, labels):
    frame = pd.DataFrame({"x": values})
    found = label_column(frame, "x", file=Path("t.csv"), key="data.columns")
    assert found.tolist() == labels
    assert found.dtype.kind == "U"


def test_times_are_numbers_or_dates():
    frame = pd.DataFrame(
        {"n": [5, 3], "d": ["1970-01-02T00:00:00Z", "1970-01-01 00:00:30"], "bad": ["1970-01-02", "soon"]}
    )
    assert time_column(frame, "n", file=FILE, key="k").tolist() == [5.0, 3.0]
    assert time_column(frame, "d", file=FILE, key="k").tolist() == [86400.0, 30.0]
    with pytest.raises(DataError, match=r"data\.time: the column must hold numbers or ISO 8601 dates"):
        time_column(frame, "bad", file=FILE, key="data.time")


def test_a_comma_at_the_end_of_every_row_shifts_no_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,x\n3,0.5,\n1,1.5,\n")
    pd.testing.assert_frame_equal(read_table(path, key="k"), FRAME[["id", "x"]])


@pytest.mark.parametrize("rows", ["3,0.5,9\n1,1.5,8\n", "3,0.5,9\n1,1.5\n"])
def test_a_field_too_many_is_refused_with_file_and_rule(tmp_path, rows):
    path = tmp_path / "t.csv"
    path.write_text(f"id,x\n{rows}")
    with pytest.raises(DataError) as caught:
        read_table(path, key="data.path")
    assert str(caught.value) == f"{path}: data.path: the rows must not have more fields than the header"


def test_a_file_of_another_name_is_read_as_the_kind_that_is_told(tmp_path):
    FRAME.to_csv(tmp_path / "t.inter", index=False, sep="\t")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.inter", key="k", kind=".tsv"), FRAME)
