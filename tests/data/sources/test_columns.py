from __future__ import annotations

from datetime import datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from painvrl.core.errors import DataError
from painvrl.data.sources.columns import Column, require_distinct
from painvrl.data.sources.messages import Place
from painvrl.data.sources.tabular import Table, read_table
from painvrl.data.sources.texts import Texts


def table(**columns: object) -> Table:
    """One with types, as a Parquet file's."""
    return Table(file=Path("some.csv"), data=pa.table(columns))


SMALL = table(id=[3, 1], x=[0.5, 1.5], name=["a", "b"])


def test_a_wrong_column_is_reported_with_those_that_exist():
    with pytest.raises(
        DataError, match=r"^some\.csv: data\.user: there is no such column; .* id, x, name \(found 'usr'\)$"
    ):
        Column(SMALL, "usr", "data.user").ids()


def test_of_many_columns_the_first_are_listed():
    wide = table(**{f"c{index}": [0] for index in range(40)})
    with pytest.raises(DataError, match=r"c0, c1, .* c11 and 28 more"):
        Column(wide, "x", "k").numbers()


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
    assert Column(table(id=values), "id", "k").ids().tolist() == ids


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
        Column(table(id=values), "id", "data.user").ids()


def test_ids_that_repeat_are_named_with_their_rows():
    with pytest.raises(
        DataError, match=r"^t: k: 2 user ids occur more than once; the first is 3 in rows 2 and 5 "
    ):
        require_distinct(Texts.of(["u", "3", "u", "9", "3", "3"]), Place("t", "k", "id"), of="user")
    require_distinct(Texts.of(["u", "3"]), Place("t", "k", "id"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_reported_with_its_row(bad):
    with pytest.raises(DataError, match=rf"data\.rating: 1 values .* {bad} in row 3 \(found 'r'\)"):
        Column(table(r=[1.0, 2.0, bad]), "r", "data.rating").numbers()


def test_an_empty_number_is_missing():
    with pytest.raises(DataError, match=r"k: 2 values .* missing .* nan in row 2 \(found 'r'\)"):
        Column(table(r=["1", "", " "]), "r", "k").numbers()
    with pytest.raises(DataError, match=r"k: 1 values .* missing .* nan in row 1 \(found 'r'\)"):
        Column(table(r=[None, 1]), "r", "k").numbers()


@pytest.mark.parametrize("text", ["b", "1_0", "0x1F", "1,5", "\u0661", "NA"])
def test_a_text_is_no_number(text):
    with pytest.raises(
        DataError, match=rf"data\.rating: the column must hold numbers; row 2 has {text} \(found 'r'\)"
    ):
        Column(table(r=["1", text, "x"]), "r", "data.rating").numbers()


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
    assert Column(table(r=values), "r", "k").numbers().tolist() == numbers


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
    found = Column(table(x=values), "x", "data.columns").labels()
    assert found.tolist() == labels


def test_a_label_may_end_with_a_nul_character():
    assert Column(table(x=["a", "a\0"]), "x", "k").labels().tolist() == ["a", "a\0"]


def test_one_long_label_takes_no_room_from_the_others():
    assert Column(table(x=["a" * 10_000, *"b" * 1_000]), "x", "k").labels().nbytes < 20_000


def test_times_are_numbers_or_dates():
    dates = ["1970-01-02T00:00:00Z", "1970-01-01 00:00:30", "1970-01-01T01:00:01+01:00", "1970-02"]
    times = table(n=[5, 3, 4, 1], d=dates, typed=pa.array([1, 2, 3, 4], type=pa.timestamp("ms")))
    assert Column(times, "n", "k").times().tolist() == [5.0, 3.0, 4.0, 1.0]
    assert Column(times, "d", "k").times().tolist() == [86400.0, 30.0, 1.0, 31 * 86400.0]
    assert Column(times, "typed", "k").times().tolist() == [0.001, 0.002, 0.003, 0.004]


@pytest.mark.parametrize("bad", ["soon", "07/14/2017 03:25", "9999-12-31", "0001-01-01", ""])
def test_a_date_that_does_not_fit_is_reported_with_its_row(bad):
    with pytest.raises(
        DataError,
        match=r"^some\.csv: data\.time: the column must hold numbers, or ISO 8601 dates such as .*; "
        rf"row 2 has {bad or 'nothing'} \(found 'd'\)$",
    ):
        Column(table(d=["1970-01-02", bad]), "d", "data.time").times()


def seconds(*days: str) -> list[float]:
    return [datetime.fromisoformat(f"{day}+00:00").timestamp() for day in days]


@pytest.mark.parametrize(
    ("texts", "dates", "days"),
    [
        (["18.09.2024", "1.2.2023 9:05"], None, ["2024-09-18", "2023-02-01T09:05"]),
        (["18.09.2024 9:05:30"], None, ["2024-09-18T09:05:30"]),
        (["01.02.2024", "03.04.2024"], None, ["2024-02-01", "2024-04-03"]),  # points: the day stands first
        (["18/09/2024", "01/02/2023"], None, ["2024-09-18", "2023-02-01"]),
        (["09/18/2024", "01/02/2023 10:30:01"], None, ["2024-09-18", "2023-01-02T10:30:01"]),
        (["01/02/2024", "03/04/2024"], "day_first", ["2024-02-01", "2024-04-03"]),
        (["01/02/2024", "03/04/2024"], "month_first", ["2024-01-02", "2024-03-04"]),
        (["01/02/2024", "2024-03-04"], "month_first", ["2024-01-02", "2024-03-04"]),
    ],
)
def test_a_date_whose_year_comes_last_is_read_as_the_column_or_the_key_says(texts, dates, days):
    column = Column(table(d=texts), "d", "data.time", dates=dates)
    assert column.times().tolist() == seconds(*days)
    assert (column.assumed is None) == (dates is not None)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["01/02/2024", "12/12/2024"], "may put the day or the month first, and none has a day above 12"),
        (
            ["13/02/2024", "02/13/2024"],
            "may put the day or the month first: one part and the other are above",
        ),
    ],
)
def test_dates_that_may_mean_two_days_are_refused_and_the_key_is_named(texts, words):
    with pytest.raises(DataError, match=rf"{words}.*; data\.dates, day_first or month_first, says which"):
        Column(table(d=texts), "d", "data.time").times()


@pytest.mark.parametrize(
    ("texts", "decimal", "numbers"),
    [
        (["4,5", " 3 ", "-0,25"], None, [4.5, 3.0, -0.25]),
        (["0,125", "1,250"], None, [0.125, 1.25]),  # no thousands begin with 0
        (["1,250", "2,000"], ",", [1.25, 2.0]),
        (["1.250", "2"], ".", [1.25, 2.0]),
        (["1,250", "-22,000,000.5"], ".", [1250.0, -22000000.5]),
    ],
)
def test_a_decimal_comma_is_read_as_the_column_or_the_key_says(texts, decimal, numbers):
    column = Column(table(r=texts), "r", "data.rating", decimal=decimal)
    assert column.numbers().tolist() == numbers
    assert (column.assumed is None) == (decimal is not None)


def test_a_comma_that_may_divide_thousands_is_refused_and_the_key_is_named():
    with pytest.raises(DataError, match=r"such as 1,250 may have a decimal comma.*data\.decimal"):
        Column(table(r=["1,250", "17", "22,000"]), "r", "data.rating").numbers()
    for decimal, text in ((".", "1,25"), (".", "1250,000"), (",", "1.250")):
        with pytest.raises(DataError, match=rf"must hold numbers; row 2 has {text}"):
            Column(table(r=["17", text]), "r", "data.rating", decimal=decimal).numbers()


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.float32(), pa.float16(), pa.decimal128(5, 1), pa.string(), pa.decimal256(40, 1)]
)
def test_a_number_is_what_it_prints_as_in_whatever_type_it_is_stored(kind):
    tenths = [f"{tenth / 10:.1f}" for tenth in range(100)]
    typed = pa.array(np.array(tenths, np.float16)) if kind == pa.float16() else pa.array(tenths).cast(kind)
    numbers = Column(table(r=typed), "r", "data.rating").numbers()
    assert numbers.tolist() == [float(text) for text in tenths]
    assert (numbers >= 0.7).sum() == 93


def test_a_whole_number_of_few_bits_keeps_its_digits():
    times = np.array([1_500_000_128, -0.0, 16_777_217], np.float32)
    assert Column(table(t=times), "t", "data.time").times().tolist() == [1_500_000_128, 0, 16_777_216]
    assert Column(table(t=np.array([65504], np.float16)), "t", "k").numbers().tolist() == [65504]


NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([NOW, NOW * 1000, NOW + 5], "2 in seconds, 1 in milliseconds"),
        ([str(NOW), "0", str(NOW)], "2 in seconds, 1 at 0"),
        (
            [NOW * 10**6, NOW * 10**9],
            "1 in microseconds, 1 in nanoseconds",
        ),
        ([0, NOW * 1000, 0], "1 in milliseconds, 2 at 0"),
    ],
)
def test_times_in_two_units_are_doubted_with_their_counts(times, said):
    column = Column(table(when=times), "when", "data.time")
    assert column.doubts == (f"data.time: the times of when are of several kinds: {said}",)


@pytest.mark.parametrize(
    "times",
    [
        [NOW, NOW + 1],
        [-157_680_000, NOW, NOW + 1],  # of 1965
        [0, 1, 2],
        [1999, 2024],
        np.linspace(0, 4e12, 1000),  # milliseconds of a clock that began at 0
        np.geomspace(1, 1e18, 1000),
        [20240131, 20231201],
        ["2024-01-31", "1970-01-01"],
        ["20240131", "1970-01-01"],
        pa.array([0, NOW], pa.timestamp("s")),
    ],
)
def test_times_in_one_unit_counters_and_dates_are_not_doubted(times):
    assert Column(table(when=times), "when", "data.time").doubts == ()


def broken(kind: pa.DataType) -> pa.Array:
    """Texts the second of which is no UTF-8, as only a typed file can hold them."""
    return pa.array([b"1", b"\xff", b"3"]).view(pa.string()).cast(kind)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("decimal", [None, ",", "."])
def test_a_number_or_time_that_is_no_utf_8_is_reported_with_its_row(kind, decimal):
    column = Column(table(x=broken(kind)), "x", "data.rating", decimal=decimal)
    for read in (column.numbers, column.times):
        with pytest.raises(DataError, match=r"^some\.csv: data\.rating: row 2 of the column is not UTF-8"):
            read()


def test_a_view_of_texts_reads_like_texts():
    views = table(
        r=pa.array(["4,5", "3"], pa.string_view()), t=pa.array(["13/02/2024"] * 2, pa.string_view())
    )
    rating, time = Column(views, "r", "k"), Column(views, "t", "k")
    assert rating.numbers().tolist() == [4.5, 3]
    assert time.times().tolist() == seconds("2024-02-13") * 2
    assert time.ids().tolist() == ["13/02/2024"] * 2
    assert None not in (rating.assumed, time.assumed)


UUIDS = ["00112233-4455-6677-8899-aabbccddeeff", "ffffffff-0000-0000-0000-000000000001"]


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (pa.array([UUID(text).bytes for text in UUIDS], pa.uuid()), UUIDS),
        (pa.array(['{"a": 1}', "7"], pa.json_()), ['{"a": 1}', "7"]),
        (pa.array([1, 0], pa.bool8()), ["1", "0"]),
    ],
)
def test_an_extension_is_what_it_stores_and_a_uuid_its_text(tmp_path, values, ids):
    parquet.write_table(pa.table({"x": values}), tmp_path / "x.parquet")
    assert Column(read_table(tmp_path / "x.parquet", key="k"), "x", "k").ids().tolist() == ids


def test_a_missing_uuid_is_missing():
    with pytest.raises(DataError, match="1 rows have no id; the first is row 2"):
        Column(table(x=pa.array([UUID(UUIDS[0]).bytes, None], pa.uuid())), "x", "k").ids()
