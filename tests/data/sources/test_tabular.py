from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from painvrl.data.sources.tabular import (
    Table,
    id_column,
    label_column,
    number_column,
    read_table,
    require_distinct,
    text_column,
    time_column,
)
from painvrl.data.sources.texts import Texts
from painvrl.errors import DataError

FRAME = pd.DataFrame({"id": [3, 1], "x": [0.5, 1.5], "name": ["a", "b"]})
GZIPPED = gzip.compress("".join(f"{i},{i * i}\n" for i in range(2000)).encode(), mtime=0)


def table(**columns: object) -> Table:
    """One with types, as a Parquet file's."""
    return Table(file=Path("some.csv"), data=pa.table(columns))


SMALL = table(id=[3, 1], x=[0.5, 1.5], name=["a", "b"])


def content(read: Table) -> dict[str, list[object]]:
    return {
        "id": id_column(read, "id", key="k").tolist(),
        "x": number_column(read, "x", key="k").tolist(),
        "name": text_column(read, "name", key="k"),
    }


@pytest.fixture
def read(tmp_path):
    """Read a text, or bytes, as a table."""

    def read(text: str | bytes, name: str = "t.csv", **settings: object) -> Table:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_table(path, key="data.path", **settings)  # type: ignore[arg-type]

    return read


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "T.CSV"])
def test_every_kind_of_table_reads_the_same(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".parquet":
        FRAME.to_parquet(path)
    else:
        FRAME.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    read = read_table(path, key="k")
    assert read.names == ("id", "x", "name")
    assert len(read) == 2
    assert content(read) == {"id": ["3", "1"], "x": [0.5, 1.5], "name": ["a", "b"]}


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
    ("name", "content", "rule"),
    [
        ("t.parquet", b"no parquet", "cannot be read: "),
        ("t.csv", b"", "holds no row$"),
        ("t.csv", b"\n\n", "holds no row$"),
        ("t.csv", b"a,b\n", "holds no row$"),
        ("t.csv", b'a,b\n1,2\n"3,4\n', "row 2 has a double quote that does not close the field it opens"),
        ("t.csv", b'a,b\n1,2\n"3"x,4\n', "row 2 has a double quote that does not close the field it opens"),
        ("t.csv", b"a,b\n1,2\n3,\xff\xfe\n", "row 2 of the column b is not UTF-8 text$"),
        ("t.csv", b"a,\xff\n1,2\n", "the header cannot be read: "),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "must be UTF-8 text; this is UTF-16$"),
        ("t.csv", b"a,a\n1,2\n", r"two columns have one name \(found 'a'\)$"),
        ("t.csv", b"a,b\n1,2\na,b\n", "row 2 repeats the header$"),
        ("t.csv.gz", b"no gzip", "holds no row$"),
        ("t.csv.gz", GZIPPED[: len(GZIPPED) // 2], "cannot be read: "),
        ("t.csv.gz", GZIPPED[:20] + bytes(20) + GZIPPED[40:], "cannot be read: "),
        ("t.xlsx", b"x", r"the file's name must end in .*\(found 't\.xlsx'\)$"),
    ],
)
def test_an_unreadable_file_is_reported_in_one_line(read, tmp_path, name, content, rule):
    with pytest.raises(DataError, match=rf"data\.path: {rule}") as caught:
        read(content, name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_column_is_reported_with_those_that_exist():
    with pytest.raises(
        DataError, match=r"^some\.csv: data\.user: there is no such column; .* id, x, name \(found 'usr'\)$"
    ):
        id_column(SMALL, "usr", key="data.user")


def test_of_many_columns_the_first_are_listed():
    wide = table(**{f"c{index}": [0] for index in range(40)})
    with pytest.raises(DataError, match=r"c0, c1, .* c11 and 28 more"):
        number_column(wide, "x", key="k")


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (pa.array([1, 2], type=pa.int32()), ["1", "2"]),
        ([2**63 - 1, -(2**63)], [str(2**63 - 1), str(-(2**63))]),
        (pa.array([2**64 - 1, 7], type=pa.uint64()), [str(2**64 - 1), "7"]),
        ([1.0, 2.0**53 - 1], ["1", "9007199254740991"]),
        (["a", " b"], ["a", " b"]),
        (["00003", "1E1"], ["00003", "1E1"]),
        (pa.array(["u", "v"]).dictionary_encode(), ["u", "v"]),
        ([b"u1", "é".encode()], ["u1", "é"]),
        ([True, False], ["True", "False"]),
    ],
)
def test_ids_are_texts_and_whole_numbers_have_no_point(values, ids):
    assert id_column(table(id=values), "id", key="k").tolist() == ids


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None, "c", ""], r"2 rows have no id; the first is row 2 \(found 'id'\)$"),
        ([1.0, 2.5], r"ids stored as floating-point .*; row 2 has 2\.5\. Store them as text \(found 'id'\)$"),
        ([1.0, 2.0**53], r"ids stored as .* below 2\^53, .*; row 2 has 9007199254740992\.0\. Store"),
        ([b"a", b"\xff"], r"row 2 of the column is not UTF-8 text \(found 'id'\)$"),
        ([[1], [2]], r"the column must hold texts or whole numbers \(found 'id \(list<"),
    ],
)
def test_what_can_be_no_id_is_reported_with_its_row(values, message):
    with pytest.raises(DataError, match=rf"^some\.csv: data\.user: {message}"):
        id_column(table(id=values), "id", key="data.user")


def test_ids_that_repeat_are_named_with_their_rows():
    with pytest.raises(
        DataError, match=r"^t: k: 2 user ids occur more than once; the first is 3 in rows 2 and 5 "
    ):
        require_distinct(Texts.of(["u", "3", "u", "9", "3", "3"]), file="t", key="k", value="id", of="user")
    require_distinct(Texts.of(["u", "3"]), file="t", key="k", value="id")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_reported_with_its_row(bad):
    with pytest.raises(DataError, match=rf"data\.rating: 1 values .* {bad} in row 3 \(found 'r'\)"):
        number_column(table(r=[1.0, 2.0, bad]), "r", key="data.rating")


def test_an_empty_number_is_missing():
    with pytest.raises(DataError, match=r"k: 2 values .* missing .* nan in row 2 \(found 'r'\)"):
        number_column(table(r=["1", "", " "]), "r", key="k")
    with pytest.raises(DataError, match=r"k: 1 values .* missing .* nan in row 1 \(found 'r'\)"):
        number_column(table(r=[None, 1]), "r", key="k")


@pytest.mark.parametrize("text", ["b", "1_0", "0x1F", "1,5", "\u0661", "NA"])
def test_a_text_is_no_number(text):
    with pytest.raises(
        DataError, match=rf"data\.rating: the column must hold numbers; row 2 has '{text}' \(found 'r'\)"
    ):
        number_column(table(r=["1", text, "x"]), "r", key="data.rating")


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["1", " -2.5e1 ", "+3"], [1.0, -25.0, 3.0]),
        (["true", "False"], [1.0, 0.0]),
        ([True, False], [1.0, 0.0]),
        (pa.array([7, 2**53], type=pa.uint64()), [7.0, 2.0**53]),
    ],
)
def test_numbers_are_parsed_where_they_are_asked_for(values, numbers):
    assert number_column(table(r=values), "r", key="k").tolist() == numbers


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", None, " a ", "b"], ["b", "", " a ", "b"]),
        ([1, 2, 1], ["1", "2", "1"]),
        ([1990.0, float("nan"), 2.5], ["1990.0", "", "2.5"]),
        ([1990.0, float("nan")], ["1990", ""]),
        ([True, False], ["True", "False"]),
    ],
)
def test_labels_are_texts_as_they_stand_and_empty_where_one_is_missing(values, labels):
    found = label_column(table(x=values), "x", key="data.columns")
    assert found.tolist() == labels
    assert found.dtype.kind == "U"


def test_a_label_that_numpy_would_shorten_is_refused():
    with pytest.raises(DataError, match=r"k: the label in row 2 ends with a NUL character \(found 'x'\)"):
        label_column(table(x=["a", "a\0"]), "x", key="k")


def test_times_are_numbers_or_dates():
    dates = ["1970-01-02T00:00:00Z", "1970-01-01 00:00:30", "1970-01-01T01:00:01+01:00", "1970-02"]
    times = table(n=[5, 3, 4, 1], d=dates, typed=pa.array([1, 2, 3, 4], type=pa.timestamp("ms")))
    assert time_column(times, "n", key="k").tolist() == [5.0, 3.0, 4.0, 1.0]
    assert time_column(times, "d", key="k").tolist() == [86400.0, 30.0, 1.0, 31 * 86400.0]
    assert time_column(times, "typed", key="k").tolist() == [0.001, 0.002, 0.003, 0.004]


@pytest.mark.parametrize("bad", ["soon", "07/14/2017 03:25", "9999-12-31", "0001-01-01", ""])
def test_a_date_that_does_not_fit_is_reported_with_its_row(bad):
    with pytest.raises(
        DataError,
        match=r"^some\.csv: data\.time: the column must hold numbers, or ISO 8601 dates such as .*; "
        rf"row 2 has {bad or 'nothing'} \(found 'd'\)$",
    ):
        time_column(table(d=["1970-01-02", bad]), "d", key="data.time")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("3,0.5\n1,1.5,\n", r"row 2 has 3 fields where the header has 2 \(found '1,1\.5,'\)"),
        ("3,0.5,9\n1,1.5,8\n", r"row 1 has 3 fields where the header has 2 \(found '3,0\.5,9'\)"),
        ("3,0.5\n\n1\n", r"row 2 has 1 fields where the header has 2 \(found '1'\)"),
    ],
)
def test_rows_of_more_or_fewer_fields_are_refused_with_their_row(read, tmp_path, rows, message):
    with pytest.raises(DataError, match=rf"^{tmp_path / 't.csv'}: data\.path: {message}$"):
        read(f"id,x\n{rows}")


def test_a_file_of_another_name_is_read_as_the_kind_that_is_told(read):
    table = read(FRAME.to_csv(index=False, sep="\t"), "t.inter", kind=".tsv")
    assert content(table) == content(SMALL)


def test_a_file_that_knows_no_quotes_keeps_them(read):
    table = read('id\tname\n"7\tsay "hi"\n', "t.inter", kind=".tsv", quotes=False)
    assert id_column(table, "id", key="k").tolist() == ['"7']
    assert text_column(table, "name", key="k") == ['say "hi"']
