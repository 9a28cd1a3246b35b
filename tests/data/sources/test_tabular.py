from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from painvrl.core.errors import DataError
from painvrl.data.sources.columns import Column
from painvrl.data.sources.tabular import Table, read_table

CONTENT = {"id": ["3", "1"], "x": [0.5, 1.5], "name": ["a", "b"]}
FRAME = pd.DataFrame({"id": [3, 1], "x": [0.5, 1.5], "name": ["a", "b"]})
GZIPPED = gzip.compress("".join(f"{i},{i * i}\n" for i in range(2000)).encode(), mtime=0)


def content(read: Table) -> dict[str, list[object]]:
    return {
        "id": Column(read, "id", "k").ids().tolist(),
        "x": Column(read, "x", "k").numbers().tolist(),
        "name": Column(read, "name", "k").texts(),
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
    assert content(read) == CONTENT


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\r\n"])
def test_a_csv_whose_header_has_semicolons_or_tabs_and_no_comma_is_divided_by_them(read, start):
    assert content(read(start + b'id;x;name\r\n3;0.5;a\r\n1;1.5;"b"\r\n')) == CONTENT
    assert read(start + b"id;x;name\n3;0.5;a, b\n").data["name"].to_pylist() == ["a, b"]
    assert content(read(start + b'id\tx\tname\r\n3\t0.5\ta\r\n1\t1.5\t"b"\r\n')) == CONTENT
    assert read(start + b"id;x,name\n3;0.5,a\n").names == ("id;x", "name"), "one comma, and it is that"


@pytest.mark.parametrize("texts", [None, {"id"}])
@pytest.mark.parametrize(
    ("ends", "said"),
    [("", ()), (";", ("t.csv: 1 column without a name or a value left out",)),
     (";;", ("t.csv: 2 columns without a name or a value left out",))],
)  # fmt: skip
def test_empty_columns_at_the_end_of_every_line_are_left_out_and_counted(read, texts, ends, said):
    table = read(
        "\r\n".join(f"{row}{ends}" for row in ("id;x", "3;1", "1;2", "")).removesuffix(ends), texts=texts
    )
    assert (table.names, table.notes, len(table)) == (("id", "x"), said, 2)


def test_a_column_without_a_name_but_with_a_value_is_kept(read):
    assert read("id;x;\n3;1;\n1;2;7\n").names == ("id", "x", "")


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
        ("t.csv", "a,b\n1,2\n".encode("utf-32"), "must be UTF-8 text; this is UTF-32$"),
        ("t.csv", 'a,b\n"1",2\n'.encode("utf-16"), "must be UTF-8 text; this is UTF-16$"),
        ("t.csv", b'{"user":"a","item":"b"}\n', "must be a table .* this looks like JSON lines$"),
        ("t.csv", b'\xef\xbb\xbf{ "user": "a", "item": 1}\n{ "user": "b", "item": 1}', ".* JSON lines$"),
        ("t.csv", b'[\n  {"user": "a"},\n  {"user": "b"}\n]\n', ".* looks like JSON lines$"),
        ("t.csv", b"a;;\n1;3;2\n", r"two columns have one name \(found '\(no name\)'\)$"),
        ("t.csv", b";;\n;;\n", r"two columns have one name \(found '\(no name\)'\)$"),
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


def test_a_file_of_another_name_is_read_as_the_kind_that_is_reported(read):
    table = read(FRAME.to_csv(index=False, sep="\t"), "t.inter", kind=".tsv")
    assert content(table) == CONTENT


def test_a_file_that_knows_no_quotes_keeps_them(read):
    table = read('id\tname\n"7\tsay "hi"\n', "t.inter", kind=".tsv", quotes=False)
    assert Column(table, "id", "k").ids().tolist() == ['"7']
    assert Column(table, "name", "k").texts() == ['say "hi"']
