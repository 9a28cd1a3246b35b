from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from painvrl.core.errors import DataError
from painvrl.data.sources.modality_file import ModalityFile, read_modality

IDS = np.array([7, 3, 5])
VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)


def source(path: Path, key: str = "ids", values: object = "look") -> ModalityFile:
    return ModalityFile.model_validate({"path": path, "key": key, "values": values})


def read(*args: object, **kwargs: object):
    return read_modality(source(*args, **kwargs), where="data.files.look")


def write(folder: Path, kind: str) -> ModalityFile:
    path = folder / f"look.{kind}"
    frame = pd.DataFrame({"ids": IDS, "a": VALUES[:, 0], "b": VALUES[:, 1]})
    match kind:
        case "npz":
            np.savez(path, ids=IDS, look=VALUES)
            return source(path)
        case "csv":
            frame.to_csv(path, index=False)
            return source(path, values=("a", "b"))
        case "tsv":
            frame.to_csv(path, index=False, sep="\t")
            return source(path, values=None)
        case "parquet":
            pd.DataFrame({"ids": IDS, "look": list(VALUES)}).to_parquet(path)
            return source(path)
        case _:
            np.save(path, VALUES)
            np.save(folder / "ids.npy", IDS)
            (folder / "ids.txt").write_text("7\n3\n5\n")
            return source(path, key="ids.npy", values=None)


@pytest.mark.parametrize("kind", ["npz", "csv", "tsv", "parquet", "npy"])
def test_every_kind_of_file_reads_the_same(tmp_path, kind):
    read = read_modality(write(tmp_path, kind), where="data.files.look")
    assert read.ids.tolist() == ["7", "3", "5"]
    assert read.values.tolist() == VALUES.tolist()
    assert read.values.dtype == np.float32
    assert (read.rows, read.findings) == (3, ())
    assert read.names == {"csv": ("a", "b"), "tsv": ("a", "b"), "parquet": ("look[0]", "look[1]")}.get(kind)


def test_ids_of_an_npy_file_may_be_lines_of_text(tmp_path):
    write(tmp_path, "npy")
    assert read(tmp_path / "look.npy", key="ids.txt", values=None).ids.tolist() == ["7", "3", "5"]
    (tmp_path / "ids.txt").write_text("7\r\n tt3\r\n05")
    assert read(tmp_path / "look.npy", key="ids.txt", values=None).ids.tolist() == ["7", " tt3", "05"]
    (tmp_path / "ids.txt").write_text("7\n\n5\n")
    fails(
        r"look\.npy: data\.files\.look\.key: 1 rows have no id; the first is row 2 \(found 'ids\.txt'\)",
        tmp_path / "look.npy",
        key="ids.txt",
        values=None,
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, bool])
def test_real_numbers_of_any_width_become_float32(tmp_path, dtype):
    np.savez(tmp_path / "l.npz", ids=IDS, look=np.array([[1, 0], [0, 1], [1, 1]], dtype=dtype))
    result = read(tmp_path / "l.npz").values
    assert result.dtype == np.float32
    assert result.tolist() == [[1, 0], [0, 1], [1, 1]]


def test_one_row_of_values_is_one_feature(tmp_path):
    np.savez(tmp_path / "l.npz", ids=IDS, look=np.array([1.0, 2.0, 3.0]))
    assert read(tmp_path / "l.npz").values.tolist() == [[1.0], [2.0], [3.0]]


def test_ids_may_be_bytes_texts_or_whole_floats(tmp_path):
    np.savez(
        tmp_path / "l.npz",
        a=np.array([b"x", b"y", b"z"]),
        b=np.array(["x", "y", "z"]),
        c=IDS + 0.0,
        look=VALUES,
    )
    assert read(tmp_path / "l.npz", key="a").ids.tolist() == ["x", "y", "z"]
    assert read(tmp_path / "l.npz", key="b").ids.tolist() == ["x", "y", "z"]
    assert read(tmp_path / "l.npz", key="c").ids.tolist() == ["7", "3", "5"]


def test_one_line_of_configuration_is_enough(tmp_path):
    write(tmp_path, "npz")
    config = ModalityFile.model_validate({"path": str(tmp_path / "look.npz"), "key": "ids", "values": "look"})
    assert config.files() == (tmp_path / "look.npz",)
    assert source(tmp_path / "x.npy", key="ids.txt", values=None).files() == (
        tmp_path / "x.npy",
        tmp_path / "ids.txt",
    )


# ----------------------------------------------------------------------------------- bad input


def fails(match: str, *args: object, **kwargs: object) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read(*args, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "parquet"])
def test_a_missing_file_is_named(tmp_path, kind):
    fails(
        rf"gone\.{kind}: data\.files\.look\.path: there is no such file",
        tmp_path / f"gone.{kind}",
        values=None if kind == "npy" else "look",
    )


def test_a_wrong_array_is_reported_with_those_that_exist(tmp_path):
    write(tmp_path, "npz")
    path = tmp_path / "look.npz"
    fails(r"look\.npz: data\.files\.look\.key: .* ids, look \(found 'id'\)", path, key="id")
    fails(r"look\.npz: data\.files\.look\.values: .* ids, look \(found 'lok'\)", path, values="lok")
    fails(r"data\.files\.look\.values: must name one array", path, values=None)
    fails(r"data\.files\.look\.values: must name one array.*'a', 'b'", path, values=("a", "b"))


def test_a_wrong_column_is_reported_with_those_that_exist(tmp_path):
    write(tmp_path, "csv")
    path = tmp_path / "look.csv"
    fails(r"look\.csv: data\.files\.look\.key: .* ids, a, b \(found 'id'\)", path, key="id", values="a")
    fails(r"data\.files\.look\.values: .* ids, a, b \(found 'c'\)", path, values=("a", "c"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_reported_with_their_item(tmp_path, bad):
    values = VALUES.copy()
    values[1, 1] = bad
    np.savez(tmp_path / "l.npz", ids=IDS, look=values)
    fails(
        rf"values: the feature 1 of item 3 \(row 2\) is NaN or infinite \(found {bad}\)$",
        tmp_path / "l.npz",
    )


@pytest.mark.parametrize("scale", [1e300, 1e18])
def test_a_number_whose_square_leaves_float32_is_reported(tmp_path, scale):
    np.savez(tmp_path / "l.npz", ids=IDS, look=VALUES.astype(np.float64) * scale)
    fails(
        r"the feature 0 of item 7 \(row 1\) is too large to be scaled \(1e18 and more\)",
        tmp_path / "l.npz",
    )


def test_an_empty_cell_of_a_table_is_no_feature(tmp_path):
    (tmp_path / "l.csv").write_text("ids,a\n7,1.0\n3,\n")
    fails(r"l\.csv: .*values: 1 values .* missing .* in row 2 \(found 'a'\)", tmp_path / "l.csv", values="a")


def test_repeated_ids_are_reported(tmp_path):
    np.savez(tmp_path / "l.npz", ids=np.array([7, 3, 7]), look=VALUES)
    fails(
        r"data\.files\.look\.key: 1 item ids occur more than once; the first is 7 in rows 1 and 3",
        tmp_path / "l.npz",
    )


def test_ids_and_features_must_fit_each_other(tmp_path):
    np.savez(tmp_path / "l.npz", ids=IDS[:2], look=VALUES)
    fails(r"data\.files\.look\.values: .* each of the 2 ids \(found '3 rows'\)", tmp_path / "l.npz")


def test_features_must_be_a_matrix_of_real_numbers(tmp_path):
    np.savez(
        tmp_path / "l.npz",
        ids=IDS,
        cube=np.zeros((3, 2, 2)),
        words=np.array(["a", "b", "c"]),
        none=VALUES[:, :0],
    )
    fails(r"must be a matrix.*float64 \[3, 2, 2\]", tmp_path / "l.npz", values="cube")
    fails("must be a matrix", tmp_path / "l.npz", values="words")
    fails(r"must be a matrix.*\[3, 0\]", tmp_path / "l.npz", values="none")
    fails("ids must be one row", tmp_path / "l.npz", key="cube", values="none")


class Harm:
    """An object that would run code where it is unpickled."""

    def __reduce__(self):
        return print, ("loaded",)


def test_pickled_code_is_never_run(tmp_path, capsys):
    np.savez(tmp_path / "l.npz", ids=IDS, look=np.array([Harm(), 1, 2], dtype=object))
    np.save(tmp_path / "l.npy", np.array([Harm(), 1, 2], dtype=object))
    (tmp_path / "ids.txt").write_text("7\n3\n5\n")
    fails("holds Python objects that are never loaded", tmp_path / "l.npz")
    fails("holds Python objects that are never loaded", tmp_path / "l.npy", key="ids.txt", values=None)
    assert capsys.readouterr().out == ""


def test_pickled_ids_are_read_as_what_they_are(tmp_path):
    ids = np.array(["07", 7, b"x", np.int64(2**60), "1.0"], dtype=object)
    np.savez(tmp_path / "l.npz", ids=ids, look=np.ones((5, 2)))
    keyed = read_modality(ModalityFile(path=tmp_path / "l.npz", key="ids", values="look"), where="w")
    assert keyed.ids.tolist() == ["07", "7", "x", "1152921504606846976", "1.0"]


@pytest.mark.parametrize("wrong", [1.5, None, "", "\ud800", b"\xff", (1,), True])
def test_pickled_ids_that_are_none_are_named_with_their_row(tmp_path, wrong):
    ids = np.empty(2, dtype=object)
    ids[:] = ["a", wrong]
    np.savez(tmp_path / "l.npz", ids=ids, look=np.ones((2, 2)))
    fails("row 2", tmp_path / "l.npz")


@pytest.mark.parametrize("name", ["l.npz", "l.npy"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage"])
def test_a_damaged_file_is_reported(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    fails(
        rf"{name}: data\.files\.look\.path: (cannot be read|holds Python objects)",
        tmp_path / name,
        values="look" if name == "l.npz" else None,
    )


def test_an_archive_is_no_npy_and_an_array_no_npz(tmp_path):
    np.savez(tmp_path / "a.npz", ids=IDS, look=VALUES)
    (tmp_path / "a.npz").rename(tmp_path / "l.npy")
    fails(r"l\.npy: data\.files\.look\.path: ", tmp_path / "l.npy", values=None)
    np.save(tmp_path / "b.npy", VALUES)
    (tmp_path / "b.npy").rename(tmp_path / "l.npz")
    fails("cannot be read", tmp_path / "l.npz")


def test_an_npy_file_needs_a_file_of_ids_and_no_values(tmp_path):
    write(tmp_path, "npy")
    path = tmp_path / "look.npy"
    fails(r"data\.files\.look\.values: .*leave this key out \(found 'look'\)", path, key="ids.npy")
    fails(r"gone\.txt: data\.files\.look\.key: there is no such file", path, key="gone.txt", values=None)
    (tmp_path / "ids.json").write_text("[]")
    fails(r"data\.files\.look\.key: .*\(found 'ids\.json'\)", path, key="ids.json", values=None)
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe")
    fails(r"ids\.txt: data\.files\.look\.key: cannot be read", path, key="ids.txt", values=None)


def test_texts_and_ragged_lists_are_no_features(tmp_path):
    pd.DataFrame({"ids": IDS, "word": ["a", "b", "c"], "look": [[1.0], [1.0, 2.0], [1.0]]}).to_parquet(
        tmp_path / "l.parquet"
    )
    ragged = ", or lists of numbers of one length; row 2 has 2, and row 1 1"
    for name, rule in (("word", "; row 1 has a"), ("look", ragged)):
        fails(
            rf"data\.files\.look\.values: the column must hold numbers{rule} \(found '{name}'\)",
            tmp_path / "l.parquet",
            values=name,
        )


def test_a_table_of_ids_alone_has_no_features(tmp_path):
    (tmp_path / "l.csv").write_text("ids\n7\n")
    fails("no column beside the ids", tmp_path / "l.csv", values=None)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (np.nan, "1 rows have no id; the first is row 3"),
        (np.inf, r"ids stored as .* must be whole and below 2\^53, .*; row 3 has inf\. Store them as text"),
        (2.5, r"ids stored as .*; row 3 has 2\.5\. Store"),
        (2.0**53, r"ids stored as .*; row 3 has 9007199254740992\.0\. Store"),
    ],
)
def test_a_float_that_is_no_id_is_reported_with_its_row(tmp_path, number, message):
    np.savez(tmp_path / "l.npz", ids=np.array([7.0, 3.0, number]), look=VALUES)
    fails(rf"l\.npz: data\.files\.look\.key: {message}.* \(found 'ids'\)$", tmp_path / "l.npz")


def test_ids_that_are_bytes_of_another_encoding_are_refused(tmp_path):
    np.savez(tmp_path / "l.npz", ids=np.array([b"a", b"\xff\xfe", b"c"]), look=VALUES)
    fails(
        r"l\.npz: data\.files\.look\.key: the id in row 2 is not UTF-8 text$",
        tmp_path / "l.npz",
    )


@pytest.mark.parametrize(
    ("head", "more"),
    [("ids;a;b", ""), ("ids;a;b;c", "; so are 1 more columns"), ("ids;a;b;c;d", "; so are 2 more")],
)
def test_decimal_commas_of_features_are_noted_with_the_count_of_columns(tmp_path, head, more):
    width = head.count(";") - 1
    rows = [f"{item};{'0,25;' * width}{item}" for item in IDS]
    (tmp_path / "l.csv").write_text("\n".join((head, *rows)))
    found = read(tmp_path / "l.csv", values=None)
    assert found.values[:, :width].tolist() == [[0.25] * width] * 3
    (note,) = found.notes
    assert note.startswith(
        f"data.files.look.values: a: numbers such as 0,25 are read with a decimal comma{more}"
    )


@pytest.mark.parametrize(("decimal", "number"), [(",", 6.57), (".", 6570)])
def test_what_a_comma_of_features_means_can_be_said(tmp_path, decimal, number):
    (tmp_path / "l.csv").write_text("ids;a\n7;6,570\n3;2\n")
    with pytest.raises(DataError, match=r"l\.csv: data\.files\.look\.values: .*; data\.decimal, ',' or"):
        read(tmp_path / "l.csv", values="a")
    found = read_modality(source(tmp_path / "l.csv", values="a"), where="w", decimal=decimal)
    assert found.values[:, 0].tolist() == [np.float32(number), 2]
    assert found.notes == ()


def test_features_are_what_their_bits_say(tmp_path):
    from pyarrow import parquet

    narrow = pa.array(np.array([0.7, 1.1], np.float16))
    tenths = pa.array([[Decimal("1.5")], [Decimal("0.7")]], pa.list_(pa.decimal128(5, 1)))
    parquet.write_table(pa.table({"ids": ["7", "3"], "a": narrow, "b": tenths}), tmp_path / "f.parquet")
    read = read_modality(source(tmp_path / "f.parquet", values=["a", "b"]), where="w")
    wanted = np.array([[np.float16(0.7), 1.5], [np.float16(1.1), 0.7]], np.float32)
    np.testing.assert_array_equal(read.values, wanted)


def test_a_column_has_points_or_the_comma_that_stands_before_decimals(tmp_path):
    (tmp_path / "l.csv").write_text("ids;a;b\n7;6.570;1.5\n3;2;0,5\n")
    read = read_modality(source(tmp_path / "l.csv", values="a"), where="w", decimal=",")
    assert read.values.ravel().tolist() == [pytest.approx(6.57), 2]
    with pytest.raises(DataError, match=r"must hold numbers; row 1 has 1\.5"):
        read_modality(source(tmp_path / "l.csv", values="b"), where="w", decimal=",")
