"""What a file says is what the data set has: ids, titles and labels as they stand, in every format alike."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from painvrl.core.errors import DataError
from painvrl.data.dataset import Dataset
from painvrl.data.digest import digest_for_all_seeds
from painvrl.data.sources import DataConfig, load

WORDS = (
    *(
        "00003",
        "3",
        "1.10",
        "1.1",
        "1E1",
        "10",
        "NA",
        "None",
        "null",
        "nan",
        "N/A",
        "inf",
        "-inf",
        "1_0",
        "True",
    ),
    *(
        "1234567890123456789",
        "1234567890123456788",
        'b"u1"',
        "b'u1'",
        "é",
        "e\u0301",
        "\u2028",
        "a\x85b",
        "a\x1cb",
    ),
    *(
        " a",
        "a ",
        "a",
        "-0",
        "0",
        "007",
        "+7",
        "7",
        "7.0",
        "ß",
        "日本",
        '"',
        'a"b',
        "'",
        "#x",
        "a,b",
        "%",
        "\U0001f600",
    ),
)
"""What guessing readers change, merge or lose."""
Header = Sequence[str]
Rows = Sequence[Sequence[str]]


def write_text(
    path: Path, header: Header, rows: Rows, *, separator: str = ",", end: str = "\r\n", start: bytes = b""
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=end).writerows([header, *rows])
    content = start + text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_plain(path: Path, header: Header, rows: Rows) -> None:
    """Fields between tabs, without quotes, as RecBole's and MMRec's files have them."""
    path.write_bytes("".join("\t".join(row) + "\n" for row in (header, *rows)).encode())


def write_parquet(path: Path, header: Header, rows: Rows) -> None:
    columns = [pa.array(list(column), pa.string()) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names=list(header)), path)


TABLES: dict[str, Callable[[Path, Header, Rows], None]] = {
    ".csv": write_text,
    ".tsv": lambda path, header, rows: write_text(path, header, rows, separator="\t"),
    ".csv.gz": write_text,
    ".parquet": write_parquet,
}


def read(config: dict[str, object], folder: Path) -> Dataset:
    return load(TypeAdapter(DataConfig).validate_python(config), cache_dir=folder / "cache", seed=0)


def as_table(folder: Path, suffix: str, users: list[str], items: list[str], titles: list[str]) -> Dataset:
    write = TABLES[suffix]
    write(folder / f"x{suffix}", ("user", "item"), list(itertools.product(users, items)))
    write(
        folder / f"i{suffix}",
        ("id", "title", "tags"),
        [(item, title, "t") for item, title in zip(items, titles, strict=True)],
    )
    write(folder / f"f{suffix}", ("id", "look"), [(item, f"{at + 1}.5") for at, item in enumerate(items)])
    table = {"path": str(folder / f"i{suffix}"), "key": "id", "title": "title", "categories": "tags"}
    files = {"image": {"path": str(folder / f"f{suffix}"), "key": "id"}}
    config = {
        "kind": "table",
        "path": str(folder / f"x{suffix}"),
        "core": 1,
        "item_table": table,
        "files": files,
    }
    return read(config, folder)


def as_recbole(folder: Path, users: list[str], items: list[str], titles: list[str]) -> Dataset:
    write_plain(folder / "r.inter", ("user_id:token", "item_id:token"), list(itertools.product(users, items)))
    rows = [(item, title, "t") for item, title in zip(items, titles, strict=True)]
    write_plain(folder / "r.item", ("item_id:token", "title:token_seq", "class:token_seq"), rows)
    np.save(folder / "image_feat.npy", np.arange(len(items))[:, None] + 1.5)
    return read(
        {"kind": "mmrec", "path": str(folder), "core": 1, "title": "title", "categories": "class"}, folder
    )


def as_movielens(folder: Path, users: list[str], items: list[str], titles: list[str]) -> Dataset:
    ratings = [(user, item, "4.5", "1000") for user, item in itertools.product(users, items)]
    write_text(folder / "ratings.csv", ("userId", "movieId", "rating", "timestamp"), ratings)
    films = [(item, title, "t") for item, title in zip(items, titles, strict=True)]
    write_text(folder / "movies.csv", ("movieId", "title", "genres"), films)
    write_text(folder / "f.csv", ("id", "look"), [(item, f"{at + 1}.5") for at, item in enumerate(items)])
    files = {"image": {"path": str(folder / "f.csv"), "key": "id"}}
    config = {"kind": "movielens", "path": str(folder), "core": 1, "modalities": ["genres"], "files": files}
    return read(config, folder)


def features_of(folder: Path, kind: str, items: list[str]) -> Dataset:
    """Interactions in a CSV; features in NumPy's files."""
    values = np.arange(len(items))[:, None] + 1.5
    match kind:
        case "npz":
            np.savez(folder / "f.npz", ids=np.array(items, dtype=np.str_), look=values)
            source = {"path": str(folder / "f.npz"), "key": "ids", "values": "look"}
        case "npz of bytes":
            np.savez(folder / "f.npz", ids=np.array([item.encode() for item in items]), look=values)
            source = {"path": str(folder / "f.npz"), "key": "ids", "values": "look"}
        case "npy":
            np.save(folder / "f.npy", values)
            np.save(folder / "ids.npy", np.array(items, dtype=np.str_))
            source = {"path": str(folder / "f.npy"), "key": "ids.npy"}
        case _:
            np.save(folder / "f.npy", values)
            (folder / "ids.txt").write_bytes(b"\xef\xbb\xbf" + "\n".join(items).encode())
            source = {"path": str(folder / "f.npy"), "key": "ids.txt"}
    write_text(folder / "x.csv", ("user", "item"), [("u", item) for item in items])
    config = {"kind": "table", "path": str(folder / "x.csv"), "core": 1, "files": {"image": source}}
    return read(config, folder)


FORMATS: dict[str, Callable[[Path, list[str], list[str], list[str]], Dataset]] = {
    **{
        suffix: (
            lambda folder, users, items, titles, suffix=suffix: as_table(folder, suffix, users, items, titles)
        )
        for suffix in TABLES
    },
    "recbole": as_recbole,
    "movielens": as_movielens,
}
ARRAYS = ("npz", "npz of bytes", "npy", "txt")

ANY = st.characters(exclude_categories=["Cs"])
PLAIN = st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n")
NO_LINES = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")


def texts(characters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts of such characters, and the words above; never empty, nor what a format takes for its own."""
    chosen = st.sampled_from(WORDS) | st.text(characters, min_size=1, max_size=8)
    # A byte order mark begins a file, and NumPy's texts end before trailing NULs: no reader can tell.
    return chosen.filter(lambda text: not text.startswith("\ufeff") and not text.endswith("\0"))


def some(characters: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(texts(characters), min_size=2, max_size=6, unique=True)


def titles_by_item(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.item_ids.tolist(), dataset.titles, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_ids_and_titles_come_out_as_they_went_in(name, data):
    characters = PLAIN if name == "recbole" else ANY
    users, items = data.draw(some(characters)), data.draw(some(characters))
    titles = data.draw(st.lists(texts(characters), min_size=len(items), max_size=len(items)))
    with tempfile.TemporaryDirectory() as folder:
        dataset = FORMATS[name](Path(folder), users, items, titles)
    assert sorted(dataset.user_ids.tolist()) == sorted(users)
    assert titles_by_item(dataset) == dict(zip(items, titles, strict=True))
    image = dataset.modalities["image"]
    assert image.present.all()
    place = {item: at + 1.5 for at, item in enumerate(items)}
    assert image.values[:, 0].tolist() == [place[item] for item in dataset.item_ids.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARRAYS)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(items=some(NO_LINES))
def test_ids_of_arrays_join_those_of_a_table(kind, items):
    with tempfile.TemporaryDirectory() as folder:
        dataset = features_of(Path(folder), kind, items)
    place = {item: at + 1.5 for at, item in enumerate(items)}
    assert dataset.modalities["image"].present.all()
    assert dataset.modalities["image"].values[:, 0].tolist() == [
        place[item] for item in dataset.item_ids.tolist()
    ]


def content(
    order: random.Random | None,
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Interactions with times, items and features of the words above, in an order."""
    source = random.Random(7)
    items = list(WORDS)
    rows = [
        (
            f"{user:03d}",
            item,
            str(1 + source.randrange(5)),
            f"2020-01-{1 + source.randrange(28):02d}T00:00:00.25",
            "abc"[at % 3],
        )
        for user in range(12)
        for at, item in enumerate(items)
        if source.random() < 0.6
    ]
    described = [(item, f"{item} (1999)", source.choice("xyz")) for item in items]
    looks = [(item, *(repr(source.gauss(0, 1)) for _ in range(11))) for item in items]
    if order is not None:
        for table in (rows, described, looks):
            order.shuffle(table)
    return rows, described, looks


HEADERS = (
    ("user", "item", "rating", "time", "label"),
    ("id", "title", "kind"),
    ("id", *(f"f{at}" for at in range(11))),
)


def variant(
    folder: Path,
    suffix: str,
    *,
    order: int | None = None,
    columns: int | None = None,
    end: str = "\n",
    start: bytes = b"",
) -> Dataset:
    folder.mkdir()
    tables = content(None if order is None else random.Random(order))
    paths = []
    for name, header, rows in zip("xif", HEADERS, tables, strict=True):
        places = list(range(len(header)))
        if columns is not None:
            random.Random(columns).shuffle(places)
        chosen = [[row[at] for at in places] for row in (header, *rows)]
        path = folder / f"{name}{suffix}"
        paths.append(str(path))
        if suffix == ".parquet":
            write_parquet(path, chosen[0], chosen[1:])
        else:
            separator = "\t" if ".tsv" in suffix else ","
            write_text(path, chosen[0], chosen[1:], separator=separator, end=end, start=start)
    config = {
        "kind": "table",
        "path": paths[0],
        "rating": "rating",
        "time": "time",
        "columns": ["label"],
        "core": 2,
        "item_table": {
            "path": paths[1],
            "key": "id",
            "title": "title",
            "categories": "kind",
            "columns": ["kind"],
        },
        "files": {"image": {"path": paths[2], "key": "id"}},
    }
    if suffix == ".parquet":  # typed, as a writer of Parquet would have them
        table = pq.read_table(paths[0])
        for name, kind in (("rating", pa.int8()), ("time", pa.timestamp("us"))):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
        pq.write_table(table, paths[0])
        table = pq.read_table(paths[2])
        for name in HEADERS[2][1:]:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.float64()))
        pq.write_table(table, paths[2])
    return read(config, folder)


VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "tsv": (".tsv", {}),
    "gz": (".csv.gz", {}),
    "parquet": (".parquet", {}),
    "other rows": (".csv", {"order": 1}),
    "other columns": (".csv", {"columns": 2}),
    "other rows and columns of parquet": (".parquet", {"order": 3, "columns": 4}),
    "crlf": (".csv", {"end": "\r\n"}),
    "cr": (".csv", {"end": "\r"}),
    "byte order mark": (".csv", {"start": b"\xef\xbb\xbf"}),
    "everything": (".tsv.gz", {"order": 5, "columns": 6, "end": "\r\n", "start": b"\xef\xbb\xbf"}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_equal_content_has_one_fingerprint(name, tmp_path):
    plain = variant(tmp_path / "plain", ".csv")
    suffix, changes = VARIANTS[name]
    other = variant(tmp_path / "other", suffix, **changes)
    assert other.fingerprint == plain.fingerprint
    assert digest_for_all_seeds(other) == digest_for_all_seeds(plain)
    assert other.titles == plain.titles
    assert other.provenance.removals == plain.provenance.removals
    assert other.provenance.joins == plain.provenance.joins


def test_all_sources_number_users_and_items_in_one_order(tmp_path):
    users, items = ["b", "10", "9", "007", "-3", "a"], ["2", "10", "x", "1.0"]
    for name, make in FORMATS.items():
        folder = tmp_path / name
        folder.mkdir()
        dataset = make(folder, users, items, [f"title {item}" for item in items])
        assert dataset.user_ids.tolist() == ["-3", "9", "10", "007", "a", "b"], name
        assert dataset.item_ids.tolist() == ["2", "10", "1.0", "x"], name


def test_a_number_joins_its_text_whatever_the_types(tmp_path):
    pq.write_table(
        pa.table({"user": pa.array([1, 2], pa.uint64()), "item": pa.array([7, 8], pa.int16())}),
        tmp_path / "x.parquet",
    )
    write_text(tmp_path / "f.csv", ("id", "a", "b"), [("7", "1", "2"), ("8", "3", "5")])
    np.savez(tmp_path / "g.npz", ids=np.array([8.0, 7.0]), look=np.array([[1.5], [2.5]]))
    files = {
        "image": {"path": str(tmp_path / "f.csv"), "key": "id"},
        "sound": {"path": str(tmp_path / "g.npz"), "key": "ids", "values": "look"},
    }
    dataset = read(
        {"kind": "table", "path": str(tmp_path / "x.parquet"), "core": 1, "files": files}, tmp_path
    )
    assert dataset.item_ids.tolist() == ["7", "8"]
    assert dataset.modalities["image"].values.tolist() == [[1, 2], [3, 5]]
    assert dataset.modalities["sound"].values.tolist() == [[2.5], [1.5]]


@pytest.mark.parametrize(
    ("values", "kind", "ids"),
    [
        ([b"u1", "é".encode()], pa.binary(), ["u1", "é"]),
        ([b"u1", b"u2"], pa.large_binary(), ["u1", "u2"]),
        ([7.0, 8.0], pa.float32(), ["7", "8"]),
        ([2**53 - 1.0, 8.0], pa.float64(), ["8", "9007199254740991"]),
        (["a", "b"], pa.dictionary(pa.int8(), pa.string()), ["a", "b"]),
        (["a", "b"], pa.large_string(), ["a", "b"]),
        ([12345678901234567890, 5], pa.decimal128(20, 0), ["5", "12345678901234567890"]),
    ],
)
def test_typed_ids_print_as_what_they_are(values, kind, ids, tmp_path):
    pq.write_table(pa.table({"user": pa.array(values, kind), "item": ["7", "8"]}), tmp_path / "x.parquet")
    write_text(tmp_path / "f.csv", ("id", "a"), [("7", "1"), ("8", "3")])
    files = {"image": {"path": str(tmp_path / "f.csv"), "key": "id"}}
    dataset = read(
        {"kind": "table", "path": str(tmp_path / "x.parquet"), "core": 1, "files": files}, tmp_path
    )
    assert dataset.user_ids.tolist() == ids


@pytest.mark.parametrize(
    ("values", "kind", "rule"),
    [
        ([1.0, 2.5], pa.float64(), r"row 2 has 2\.5"),
        ([1.0, 2.0**53], pa.float64(), r"row 2 has 9007199254740992\.0"),
        ([1.0, float("inf")], pa.float64(), "row 2 has inf"),
        ([b"a", b"\xff"], pa.binary(), "row 2 of the column is not UTF-8"),
        ([1, None], pa.int64(), "1 rows have no id; the first is row 2"),
        (["a", ""], pa.string(), "1 rows have no id; the first is row 2"),
        ([[1], [2]], pa.list_(pa.int64()), "must hold texts or whole numbers"),
    ],
)
def test_a_column_that_can_hold_no_ids_is_refused_with_the_row(values, kind, rule, tmp_path):
    pq.write_table(pa.table({"user": pa.array(values, kind), "item": ["7", "8"]}), tmp_path / "x.parquet")
    write_text(tmp_path / "f.csv", ("id", "a"), [("7", "1"), ("8", "3")])
    files = {"image": {"path": str(tmp_path / "f.csv"), "key": "id"}}
    with pytest.raises(DataError, match=rule):
        read({"kind": "table", "path": str(tmp_path / "x.parquet"), "core": 1, "files": files}, tmp_path)


BAD_ROWS = {
    "too few fields": (b"user,item\na,b\nc\n", "row 2 has 1 fields where the header has 2"),
    "too many fields": (b"user,item\na,b\nc,d,e\n", "row 2 has 3 fields where the header has 2"),
    "header twice": (b"user,item\na,b\nuser,item\n", "row 2 repeats the header"),
    "not UTF-8": (b"user,item\na,b\nc,\xff\n", "row 2 of the column item is not UTF-8"),
    "a surrogate": (
        "user,item\na,b\nc,\ud800\n".encode("utf-8", "surrogatepass"),
        "row 2 of the column item is not UTF-8",
    ),
    "UTF-16": ("user,item\na,b\n".encode("utf-16"), "this is UTF-16"),
    "an open quote": (b'user,item\na,b\nc,"d\ne,f\n', "row 1 has a double quote|row 2 has a double quote"),
    "text after a quote": (b'user,item\na,"b" c\nd,e\n', "row 1 has a double quote"),
    "two columns of one name": (b"user,item,item\na,b,c\n", "two columns have one name"),
    "no row": (b"user,item\n", "holds no row"),
    "nothing": (b"", "holds no row"),
    "an empty id": (b"user,item\na,b\n,d\n", "1 rows have no id; the first is row 2"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_does_not_fit_is_named(name, tmp_path):
    content, rule = BAD_ROWS[name]
    (tmp_path / "x.csv").write_bytes(content)
    write_text(tmp_path / "f.csv", ("id", "a"), [("b", "1")])
    files = {"image": {"path": str(tmp_path / "f.csv"), "key": "id"}}
    with pytest.raises(DataError, match=rule) as error:
        read({"kind": "table", "path": str(tmp_path / "x.csv"), "core": 1, "files": files}, tmp_path)
    assert str(tmp_path / "x.csv") in str(error.value)


def test_a_tab_in_a_file_without_quotes_is_refused_with_its_row(tmp_path):
    write_plain(tmp_path / "r.inter", ("user_id", "item_id"), [("a", "b"), ("c\tc", "d")])
    np.save(tmp_path / "image_feat.npy", np.ones((2, 2)))
    with pytest.raises(DataError, match="row 2 has 3 fields where the header has 2"):
        read({"kind": "mmrec", "path": str(tmp_path), "core": 1}, tmp_path)


def test_quotes_are_characters_in_recboles_files(tmp_path):
    titles = ['"Weird Tales', 'The 12" Single', "plain"]
    dataset = as_recbole(tmp_path, ["u"], ["1", "2", "3"], titles)
    assert list(dataset.titles) == titles


@pytest.mark.parametrize("value", ["9999-12-31", "0001-01-01", "07/14/2017 03:25", "yesterday", "2020-13-01"])
def test_a_date_that_does_not_fit_is_named_with_file_row_column_and_value(value, tmp_path):
    write_text(tmp_path / "x.csv", ("user", "item", "when"), [("a", "b", "2020-01-01"), ("a", "c", value)])
    write_text(tmp_path / "f.csv", ("id", "a"), [("b", "1")])
    files = {"image": {"path": str(tmp_path / "f.csv"), "key": "id"}}
    config = {"kind": "table", "path": str(tmp_path / "x.csv"), "core": 1, "time": "when", "files": files}
    with pytest.raises(DataError, match=rf"x\.csv: data\.time: .*row 2 has {value} \(found 'when'\)"):
        read(config, tmp_path)


def test_a_typed_date_that_does_not_fit_is_named_as_well(tmp_path):
    times = pa.array(["2020-01-01", "9999-12-31"], pa.string()).cast(pa.timestamp("s"))
    pq.write_table(
        pa.table({"user": ["a", "b"], "item": ["b", "b"], "when": times}),
        tmp_path / "x.parquet",
        coerce_timestamps="ms",
    )
    write_text(tmp_path / "f.csv", ("id", "a"), [("b", "1")])
    files = {"image": {"path": str(tmp_path / "f.csv"), "key": "id"}}
    config = {"kind": "table", "path": str(tmp_path / "x.parquet"), "core": 1, "time": "when", "files": files}
    with pytest.raises(DataError, match=r"row 2 has 9999-12-31"):
        read(config, tmp_path)
