"""Small inputs that once went wrong: one law a fault."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.sources.columns import Column
from painvrl.data.sources.items import ItemTable
from painvrl.data.sources.mmrec import MmrecConfig
from painvrl.data.sources.modality_file import ModalityFile, read_modality
from painvrl.data.sources.movielens import read_movielens_files
from painvrl.data.sources.safe_npy import read_array
from painvrl.data.sources.table import TableConfig
from painvrl.data.sources.tabular import Table, read_table
from painvrl.data.sources.values import KeyedValues


def table(**columns: object) -> Table:
    return Table(file="some.csv", data=pa.table(columns))


@pytest.mark.parametrize(
    ("count", "kind", "shown"),
    [
        (2**31 - 1, pa.date32(), "185542587100800 seconds"),  # what databases write for "infinity"
        (316_516_204_800, pa.timestamp("s"), "316516204800 seconds"),
        (2**63 - 1, pa.timestamp("us"), "9223372036855 seconds"),
        (2**64 // 10**6 + 1_500_000_000, pa.timestamp("s"), "18448244073709 seconds"),
        (2**64 // 10**3 + 1_500_000_000_000, pa.timestamp("ms"), "18448244073710 seconds"),
        (2**60, pa.timestamp("us", tz="No/Where"), "1152921504607 seconds"),
        (253_402_300_799, pa.timestamp("s"), "9999-12-31T23:59:59"),
    ],
)
def test_a_typed_date_of_a_far_year_is_reported_with_its_row(count, kind, shown):
    plain = pa.int32() if kind == pa.date32() else pa.int64()
    dates = pa.array([0, count], plain).cast(kind)
    with pytest.raises(DataError, match=rf"; row 2 has {shown}"):
        Column(table(t=dates), "t", "k").times()


@pytest.mark.parametrize("int96", [True, False])
def test_a_far_year_is_refused_in_whatever_way_parquet_counts_times(tmp_path, int96):
    dates = pa.array(["2017-07-14T02:40:00.25", "9999-12-31"]).cast(pa.timestamp("us"))
    pq.write_table(pa.table({"t": dates}), tmp_path / "t.parquet", use_deprecated_int96_timestamps=int96)
    read = read_table(tmp_path / "t.parquet", key="k")
    with pytest.raises(DataError, match="row 2 has 9999-12-31T00:00:00"):
        Column(read, "t", "k").times()
    near = Table(file="t", data=read.data.slice(0, 1))
    assert Column(near, "t", "k").times().tolist() == [1_500_000_000.25]


def test_a_typed_date_is_the_second_that_its_text_is():
    texts = ["1969-12-31T23:59:59.999999", "2017-07-14T02:40:00.123456", "1678-01-01T00:00:00"]
    seconds = Column(table(t=texts), "t", "k").times().tolist()
    for unit in ("us", "ns"):
        dates = pa.array(texts).cast(pa.timestamp(unit))
        assert Column(table(t=dates), "t", "k").times().tolist() == seconds
    assert Column(table(t=pa.array([-1, 2], pa.int32()).cast(pa.date32())), "t", "k").times().tolist() == [
        -86400.0,
        172800.0,
    ]


@pytest.mark.parametrize("bad", ["07/14/2017 03:25", "2020-01-01"])
def test_among_times_that_are_numbers_the_other_one_is_reported(bad):
    with pytest.raises(DataError, match=rf"row 4 has {bad}"):
        Column(table(t=["7", "8", "9", bad, "10"]), "t", "k").times()


@pytest.mark.parametrize("row", [0, 1, 77_777, 99_999])
def test_a_bad_number_is_found_among_many_by_parsing_few_times(row, monkeypatch):
    texts = [*map(str, range(row)), "oops", *map(str, range(row + 1, 100_000))]
    casts = []
    monkeypatch.setattr(pa, "float64", lambda real=pa.float64: casts.append(0) or real())
    with pytest.raises(DataError, match=rf"row {row + 1} has oops"):
        Column(table(n=texts), "n", "k").numbers()
    assert len(casts) < 50


def read_lists(tmp_path, lists: pa.Array) -> KeyedValues:
    pq.write_table(pa.table({"id": ["a", "b", "c"], "look": lists}), tmp_path / "f.parquet")
    return read_modality(ModalityFile(path=tmp_path / "f.parquet", key="id"), where="data.files.image")


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.int16()), pa.list_(pa.float64(), 2)]
)
def test_lists_of_numbers_of_any_kind_are_features(tmp_path, kind):
    lists = pa.array([[1, 5], [7, 3], [2, 9]], kind)
    assert read_lists(tmp_path, lists).values.tolist() == [[1, 5], [7, 3], [2, 9]]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (pa.array([[1.0, 2.0], [3.0], [4.0, 5.0]]), r"row 2 has 1, and row 1 2 \(found 'look'\)"),
        (pa.array([[1.0, 2.0], [4.0, 5.0], None]), r"row 3 has none"),
        (pa.array([None, [4.0, 5.0], None]), r"row 1 has none"),
        (pa.array([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]), r"of one length \(found 'look \(list<.*list<"),
        (pa.array([["1_0"], ["2"], ["3"]]), r"of one length \(found 'look \(list<.*string"),
        (
            pa.array([[1.0, 2.0], [3.0, None], [4.0, 5.0]]),
            r"the feature look\[1\] of item b \(row 2\) is NaN",
        ),
    ],
)
def test_lists_that_are_no_features_are_reported_with_their_row(tmp_path, lists, message):
    with pytest.raises(DataError, match=message):
        read_lists(tmp_path, lists)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.eye(3).to(torch.float8_e4m3fn),
        torch.ones(3, 3, dtype=torch.complex64).conj(),
        torch.ones(3, 3, device="meta"),
    ],
)
def test_a_tensor_that_is_no_plain_matrix_is_reported(tmp_path, tensor):
    torch.save(tensor, tmp_path / "v.pt")
    with pytest.raises(DataError, match=r"v\.pt: data\.features\.image: cannot be read: "):
        read_array(tmp_path / "v.pt", key="data.features.image")


def test_labels_and_ids_are_read_in_the_width_of_their_floats():
    tenths = np.array([0.7, 0.1, 2.0], dtype=np.float32)
    assert Column(table(x=tenths), "x", "k").labels().tolist() == ["0.7", "0.1", "2.0"]
    assert Column(table(x=np.array([2**24 - 1.0], np.float32)), "x", "k").ids().tolist() == ["16777215"]
    with pytest.raises(DataError, match=r"below 2\^24, .*; row 2 has 16777216\.0"):
        Column(table(x=np.array([7, 16777217], np.float32)), "x", "k").ids()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([1.0, 2.0, 3.5], dtype=object), r"row 3 has 3\.5"),
        (np.array(["a", "", "c"], dtype=object), r"1 rows have no id; the first is row 2"),
        (np.array(["a", "", "c", "d"]), r"1 rows have no id; the first is row 2"),  # before the counts differ
    ],
)
def test_a_wrong_id_of_an_array_is_named_with_its_row(tmp_path, ids, message):
    np.savez(tmp_path / "f.npz", ids=ids, look=np.ones((3, 2)))
    source = ModalityFile(path=tmp_path / "f.npz", key="ids", values="look")
    with pytest.raises(DataError, match=message):
        read_modality(source, where="data.files.image")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("\ufeffid,x\na,1\n\ufeffid,x\nb,2\n", None),  # two files of a spreadsheet, put together
        ("id,0,1\na,5,6\nid,0,1\nb,7,8\n", {"id"}),  # such a header passes for numbers
        ("id,0,1\na,5,6\nid,0,1\nb,7,oops\n", {"id"}),
    ],
)
def test_a_header_that_comes_again_is_seen_whatever_it_looks_like(tmp_path, content, texts):
    (tmp_path / "x.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2 repeats the header$"):
        read_table(tmp_path / "x.csv", key="data.path", texts=texts)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("names", "ratings", "films"),
    [
        (("ratings.dat", "movies.dat"), ["1::7::5::9"], ["7::Ash::Drama", "8::Elm::Crime|War"]),
        (
            ("u.data", "u.item"),
            ["1\t7\t5\t9"],
            [f"{film}|Ash|||{'|0' * 8}|1{'|0' * 10}" for film in (7, 8)],
        ),
    ],
)
def test_lines_of_movielens_end_in_any_of_the_three_ways(tmp_path, end, names, ratings, films):
    for name, lines in zip(names, (ratings, films), strict=True):
        (tmp_path / name).write_bytes(end.join([*lines, ""]).encode())
    _, found = read_movielens_files(tmp_path)
    assert [film.id for film in found] == ["7", "8"]
    assert found[0].title == "Ash"
    assert found[0].genres == ("Drama",)


def test_an_id_of_thousands_of_digits_is_no_number_of_a_row(tmp_path):
    (tmp_path / "s.inter").write_text(f"userID\titemID\n0\t0\n1\t{'9' * 5000}\n")
    np.save(tmp_path / "image_feat.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match=r"item ids must be the numbers of the rows of features \(found '9"):
        MmrecConfig(path=tmp_path, core=1).read(ArrayCache(tmp_path / "cache"), 0)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 12", "Unnamed: 0.1", "__index_level_0__"])
@pytest.mark.parametrize("index", [["x", "y", "z"], [30, 50, 90], [0.5, None, 1.5]])
def test_a_saved_index_is_left_out_whatever_it_holds(tmp_path, name, index):
    pq.write_table(
        pa.table({name: index, "id": ["a", "b", "c"], "look": [0.5, 0.1, 2.0]}), tmp_path / "f.parquet"
    )
    found = read_modality(ModalityFile(path=tmp_path / "f.parquet", key="id"), where="data.files.image")
    assert found.names == ("look",)
    assert len(found.findings) == 1


def test_nobody_is_reported_to_name_the_column_of_a_matrix(tmp_path):
    np.savez(tmp_path / "f.npz", ids=["a", "b", "c"], look=[[0, 0.5], [1, 0.1], [2, 2.0]])
    found = read_modality(
        ModalityFile(path=tmp_path / "f.npz", key="ids", values="look"), where="data.files.image"
    )
    assert found.findings == (
        "data.files.image.values: the column 0 is the number of the row, so it is left out",
    )


def test_a_column_of_titles_that_is_empty_is_a_warning(tmp_path):
    (tmp_path / "x.csv").write_text("user,item\nu,a\nu,b\n")
    (tmp_path / "i.csv").write_text("id,name,kind\na,,p\nb,,q\n")
    items = ItemTable(path=tmp_path / "i.csv", key="id", title="name", categories="kind")
    config = TableConfig(path=tmp_path / "x.csv", core=1, item_table=items)
    read = config.read(ArrayCache(tmp_path / "cache"), 0)
    assert any("titles describes 0 of 2 items" in text for text in read.provenance.warnings)
    assert read.titles == ("a", "b")


def test_of_rows_with_two_labels_the_advice_fits_the_column(tmp_path):
    (tmp_path / "x.csv").write_text("user,item,device\nu,a,tv\nu,a,phone\n")
    items = ItemTable(path=tmp_path / "i.csv", key="id", categories="kind")
    (tmp_path / "i.csv").write_text("id,kind\na,p\n")
    config = TableConfig(path=tmp_path / "x.csv", core=1, item_table=items, columns=("device",))
    with pytest.raises(DataError, match=r"another device; .*leave the column out of data\.columns"):
        config.read(ArrayCache(tmp_path / "cache"), 0)


def test_whole_decimals_print_as_whole_numbers_and_others_as_they_stand():
    whole = pa.array(["7.00", "12345678901234567890.00"]).cast(pa.decimal128(30, 2))
    assert Column(table(i=whole), "i", "k").ids().tolist() == ["7", "12345678901234567890"]
    others = pa.array(["7.00", "7.50"]).cast(pa.decimal128(30, 2))
    assert Column(table(i=others), "i", "k").ids().tolist() == ["7.00", "7.50"]


def test_flags_are_numbers_in_any_of_their_spellings_and_an_empty_one_is_missing():
    assert Column(table(n=["TRUE", "False", "true"]), "n", "k").numbers().tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(DataError, match="missing or infinite; the first is nan in row 2"):
        Column(table(n=["true", "", "false"]), "n", "k").numbers()


def test_a_message_is_one_line_whatever_the_file_holds():
    with pytest.raises(DataError) as error:
        Column(table(n=["1", "a\nb\x1b[31m"]), "n", "k").numbers()
    assert "row 2 has a\\nb\\x1b[31m" in str(error.value)
    assert str(error.value).isprintable()


def test_a_label_in_an_unknown_zone_is_an_error_of_the_data():
    times = pa.array([0], pa.int64()).cast(pa.timestamp("us", tz="No/Where"))
    with pytest.raises(DataError, match="cannot be read"):
        Column(table(t=times), "t", "k").labels()
