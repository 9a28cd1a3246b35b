from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources import DataConfig
from painvrl.data.sources.table import TableConfig

LOOK = {"path": "features.npz", "key": "ids", "values": "look"}
BASE = {
    "kind": "table",
    "path": "ratings.csv",
    "user": "who",
    "item": "what",
    "rating": "stars",
    "time": "when",
    "core": 1,
    "files": {"look": LOOK},
}


def config(**changes: object) -> TableConfig:
    return TypeAdapter(DataConfig).validate_python({**BASE, **changes})


@pytest.fixture
def read(shop):
    def read(**changes: object) -> Dataset:
        return config(**changes).read(ArrayCache(shop / "cache"), 0)

    return read


@pytest.fixture
def rewrite(shop):
    """Change the ratings before they are read."""

    def rewrite(change) -> None:
        change(pd.read_csv("ratings.csv")).to_csv("ratings.csv", index=False)

    return rewrite


def pairs_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return sorted(zip(frame["who"], frame["what"].astype(str), strict=True))


def raw_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    users = dataset.user_ids[dataset.interactions.user.numpy()].tolist()
    items = dataset.item_ids[dataset.interactions.item.numpy()].tolist()
    return list(zip(users, items, strict=True))


def test_a_table_is_read_as_it_is(read, shop):
    dataset = read()
    assert sorted(raw_pairs(dataset)) == pairs_of(pd.read_csv("ratings.csv"))
    assert dataset.name == "ratings"
    assert dataset.user_ids.tolist() == [f"u{user}" for user in range(6)]
    assert dataset.item_ids.tolist() == ["10", "11", "12", "13", "14"]
    assert dataset.titles == ("10", "11", "12", "13", "14")
    look = dataset.modalities["look"]
    assert look.present.tolist() == [True, True, False, True, False]
    assert look.values[:, 0].tolist() == [7.0, 4.0, 0.0, 1.0, 0.0]
    (join,) = dataset.provenance.joins
    assert (join.name, join.key, join.of) == ("look", "data.files.look", "items")
    assert (join.total, join.matched, join.rows, join.rows_filtered, join.rows_unmatched) == (5, 3, 4, 0, 1)
    assert (join.largest_column, join.largest_share) == ("2", pytest.approx(126 / 285))
    assert dataset.provenance.removals == ()


def test_rows_are_sorted_by_user_and_item(read):
    pairs = raw_pairs(read())
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_rating_that_equals_the_threshold_is_kept_in_whatever_width_it_is_stored(read, kind):
    tenths = pd.read_csv("ratings.csv").assign(stars=lambda rows: rows["stars"] / 10 + 0.3)
    found = []
    for width in ("float64", kind):
        tenths.astype({"stars": width}).round(1).to_parquet("ratings.parquet")
        found.append(read(path="ratings.parquet", min_rating=0.7))
    assert len(raw_pairs(found[1])) == (tenths["stars"] > 0.65).sum()
    assert raw_pairs(found[1]) == raw_pairs(found[0])
    assert found[1].fingerprint == found[0].fingerprint


def test_ratings_below_the_threshold_are_left_out(read, shop):
    frame = pd.read_csv("ratings.csv")
    dataset = read(min_rating=4)
    assert sorted(raw_pairs(dataset)) == pairs_of(frame[frame["stars"] >= 4])
    (removal,) = dataset.provenance.removals
    rule = "keep what is rated 4 or more"
    assert tuple(removal.row().values()) == ("data.min_rating", "0 of 6", "0 of 5", "15 of 24", rule)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(read, rewrite, random):
    before = read(min_rating=2)
    rewrite(lambda frame: frame.sample(frac=1, random_state=random.randrange(1000)))
    after = read(min_rating=2)
    assert after.fingerprint == before.fingerprint
    assert raw_pairs(after) == raw_pairs(before)


def test_parquet_reads_like_csv(read, shop):
    pd.read_csv("ratings.csv").to_parquet("ratings.parquet")
    assert read(path="ratings.parquet").fingerprint == read().fingerprint


def test_items_without_a_modality_can_be_left_out_before_the_core(read):
    dataset = read(items="with_every_modality", core=2)
    assert dataset.item_ids.tolist() == ["10", "11", "13"]
    assert dataset.modalities["look"].present.all()
    (join,) = dataset.provenance.joins
    assert (join.total, join.matched, join.rows, join.rows_filtered, join.rows_unmatched) == (3, 3, 4, 0, 1)
    assert [(one.name, one.items) for one in dataset.provenance.removals] == [("data.items", 2)]


def test_an_item_table_gives_titles_text_and_categories(read, fake_encoder):
    table = {
        "path": "items.csv",
        "key": "id",
        "title": "name",
        "text": ["name", "about"],
        "categories": "kind",
    }
    dataset = read(item_table=table)
    assert dataset.titles == ("Ash", "Birch", "12", "Cedar", "14")
    assert fake_encoder == [["Ash, grey", "Birch", "Cedar, red"]]
    assert list(dataset.modalities) == ["text", "categories", "look"]
    assert dataset.modalities["text"].present.tolist() == [True, True, False, True, False]
    assert dataset.modalities["categories"].values.tolist() == [  # " a", "a", "b", "c"
        [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]
    ]  # fmt: skip
    assert [(join.name, join.matched) for join in dataset.provenance.joins] == [
        ("text", 3), ("categories", 3), ("look", 3), ("item table", 4), ("titles", 3)
    ]  # fmt: skip
    assert dataset.provenance.findings[0].startswith(
        "data.item_table.categories: 1 category names begin or end with a blank, such as ' a'; "
    )


def test_one_column_of_text_needs_no_list(read, fake_encoder):
    read(item_table={"path": "items.csv", "key": "id", "text": "about"})
    assert fake_encoder == [["grey", "red"]]


@pytest.mark.parametrize("blank", [" ", " \t ", "\u00a0"])
def test_a_blank_text_describes_no_item(read, fake_encoder, blank):
    Path("items.csv").write_text(
        f"id,a,b\n10,{blank},{blank}\n11,{blank},ash\n12,elm ,{blank}\n13,x,y\n14,,\n"
    )
    table = {"path": "items.csv", "key": "id", "text": ["a", "b"]}
    assert read(item_table=table).modalities["text"].present.tolist() == [False, True, True, True, False]
    assert fake_encoder == [["ash", "elm ", "x, y"]]
    kept = read(item_table=table, items="with_every_modality", files={})
    assert kept.item_ids.tolist() == ["11", "12", "13"]


def test_of_repeated_pairs_the_latest_row_is_kept_and_the_others_are_counted(read, rewrite):
    before = read()
    rewrite(lambda frame: pd.concat([frame, frame.head(3).assign(when=0), frame.tail(1)]))
    after = read()
    assert after.fingerprint == before.fingerprint
    (removal,) = after.provenance.removals
    rule = "latest, one row a (user, item) pair"
    assert tuple(removal.row().values()) == ("data.duplicates", "0 of 6", "0 of 5", "4 of 28", rule)


def test_of_duplicates_the_latest_rating_decides(read, rewrite):
    rewrite(
        lambda frame: pd.concat(
            [frame.head(1).assign(stars=5), frame.tail(23), frame.head(1).assign(when=2000)]
        )
    )
    first = ("u0", "10")
    assert first not in raw_pairs(read(min_rating=5))
    assert first in raw_pairs(read(duplicates="best", min_rating=5))
    with pytest.raises(DataError, match=r"^ratings\.csv: data\.duplicates: 1 rows .* with another rating; "):
        read(min_rating=5, time=None)


# ------------------------------------------------------------------------------------- columns


def times_by_pair(dataset: Dataset) -> dict[tuple[str, str], float]:
    return dict(zip(raw_pairs(dataset), dataset.columns.time.tolist(), strict=True))


def test_times_and_labels_follow_their_rows_through_every_filter(read, rewrite):
    rewrite(
        lambda frame: pd.concat(
            [frame, frame.head(4).assign(when=3000, stars=5), frame.tail(2).assign(when=0)]
        ).assign(week=lambda rows: rows["when"] // 7, mood=lambda rows: "m" + rows["when"].astype(str))
    )
    frame = pd.read_csv("ratings.csv").sort_values("when").drop_duplicates(["who", "what"], keep="last")
    frame = frame[(frame["stars"] >= 2) & frame["what"].isin([10, 11, 13])]
    expected = {(row.who, str(row.what)): row for row in frame.itertuples()}
    dataset = read(columns=["mood", "week"], min_rating=2, items="with_every_modality", core=2)
    assert 3 < len(dataset.interactions) < len(expected) + 1
    assert times_by_pair(dataset) == {pair: expected[pair].when for pair in raw_pairs(dataset)}
    labels = dataset.columns.interaction
    assert list(labels) == ["mood", "week"]
    for pair, mood, week in zip(raw_pairs(dataset), labels["mood"], labels["week"], strict=True):
        assert mood == f"m{expected[pair].when}"
        assert week == str(expected[pair].when // 7)
    assert set(dataset.columns.contradictions) == {"mood", "week"}


def test_a_table_without_times_has_none(read):
    assert read(time=None).columns.time is None


def test_columns_of_the_item_table_are_in_the_order_of_the_items(read):
    table = {"path": "items.csv", "key": "id", "columns": ["kind", "about"]}
    item = read(item_table=table).columns.item
    assert item["kind"].tolist() == ["a|b", "b", "", "c| a", ""]
    assert item["about"].tolist() == ["grey", "", "", "red", ""]


def test_columns_of_the_user_table_are_in_the_order_of_the_users(read):
    users = pd.DataFrame(
        {"u": ["u5", "u1", "u9", "u0"], "born": [1990, np.nan, 3, 1971.5], "x": list("abcd")}
    )
    users.to_csv("users.csv", index=False)
    dataset = read(user_table={"path": "users.csv", "key": "u", "columns": ["born", "x"]})
    assert dataset.user_ids.tolist() == ["u0", "u1", "u2", "u3", "u4", "u5"]
    assert dataset.columns.user["born"].tolist() == ["1971.5", "", "", "", "", "1990.0"]
    assert dataset.columns.user["x"].tolist() == ["d", "b", "", "", "", "a"]
    join = dataset.provenance.joins[-1]
    assert (join.name, join.key, join.of) == ("user table", "data.user_table", "users")
    assert (join.total, join.matched, join.rows, join.rows_filtered, join.rows_unmatched) == (6, 3, 4, 0, 1)


def test_columns_do_not_change_what_training_sees(read):
    assert read(columns=["stars"]).fingerprint == read().fingerprint


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "gone.csv"}, r"^gone\.csv: data\.path: there is no such file"),
        ({"user": "user"}, r"^ratings\.csv: data\.user: .*who, what, stars, when \(found 'user'\)$"),
        ({"item": "film"}, r"^ratings\.csv: data\.item: .*\(found 'film'\)$"),
        ({"rating": "score"}, r"^ratings\.csv: data\.rating: .*\(found 'score'\)$"),
        ({"rating": "who"}, r"^ratings\.csv: data\.rating: .*must hold numbers.*\(found 'who'\)$"),
        ({"time": "date"}, r"^ratings\.csv: data\.time: .*\(found 'date'\)$"),
        (
            {"min_rating": 9},
            r"^ratings\.csv: data\.min_rating: the rule to keep .* leaves none of 24 .*\(found 9\.0\)$",
        ),
        ({"core": 6}, r"^ratings\.csv: data\.core: the rule to keep .* leaves none of 24 .*\(found 6\)$"),
        (
            {"files": {"look": {**LOOK, "values": "lok"}}},
            r"^features\.npz: data\.files\.look\.values: .*'lok'",
        ),
        (
            {"files": {"pic": {**LOOK, "path": "no.npz"}}},
            r"^no\.npz: data\.files\.pic\.path: there is no such",
        ),
        (
            {"item_table": {"path": "items.csv", "key": "id", "title": "titel"}},
            r"^items\.csv: data\.item_table\.title: .*id, name, kind, about \(found 'titel'\)$",
        ),
        ({"columns": ["wen"]}, r"^ratings\.csv: data\.columns: .*who, what, stars, when \(found 'wen'\)$"),
        (
            {"item_table": {"path": "items.csv", "key": "id", "columns": ["colour"]}},
            r"^items\.csv: data\.item_table\.columns: .*id, name, kind, about \(found 'colour'\)$",
        ),
        (
            {"user_table": {"path": "gone.csv", "key": "id", "columns": ["x"]}},
            r"^gone\.csv: data\.user_table\.path: there is no such file",
        ),
        (
            {"item_table": {"path": "gone.csv", "key": "id"}},
            r"^gone\.csv: data\.item_table\.path: there is no such file",
        ),
    ],
)
def test_bad_input_is_named_with_file_key_and_value(read, changes, message):
    with pytest.raises(DataError, match=message):
        read(**changes)


def test_duplicates_are_an_error_that_names_the_first(read, rewrite):
    rewrite(lambda frame: pd.concat([frame, frame.tail(2)]))
    with pytest.raises(
        DataError,
        match=r"^ratings\.csv: data\.duplicates: 2 rows .* rows 23 and 25, user u5 and item 12\. "
        r".*\(found 'error'\)$",
    ):
        read(duplicates="error")


def test_missing_ids_and_ratings_are_named_with_their_row(read, rewrite):
    rewrite(lambda frame: frame.assign(stars=frame["stars"].where(frame.index != 4)))
    with pytest.raises(DataError, match=r"^ratings\.csv: data\.rating: 1 values .* row 5 \(found 'stars'\)"):
        read()
    rewrite(lambda frame: frame.assign(who=frame["who"].where(frame.index != 7)))
    with pytest.raises(DataError, match=r"^ratings\.csv: data\.user: 1 rows .* row 8 \(found 'who'\)"):
        read(rating=None)


def test_features_that_are_nan_are_named(read):
    np.savez("features.npz", ids=np.array([10, 11]), look=np.array([[1.0], [np.nan]]))
    with pytest.raises(
        DataError, match=r"^features\.npz: data\.files\.look\.values: .*item 11 \(row 2\) .*\(found nan\)$"
    ):
        read()


def test_items_described_twice_are_named(read):
    pd.DataFrame({"id": [10, 11, 10], "name": ["a", "b", "c"]}).to_csv("items.csv", index=False)
    with pytest.raises(
        DataError,
        match=r"^items\.csv: data\.item_table\.key: 1 item ids .*first is 10 in rows 1 and 3 \(found 'id'\)",
    ):
        read(item_table={"path": "items.csv", "key": "id", "title": "name"})


def test_users_described_twice_are_named(read):
    pd.DataFrame({"id": ["u1", "u1"], "x": ["a", "b"]}).to_csv("users.csv", index=False)
    with pytest.raises(
        DataError,
        match=r"^users\.csv: data\.user_table\.key: 1 user ids .*first is u1 in rows 1 and 2 \(found 'id'\)",
    ):
        read(user_table={"path": "users.csv", "key": "id", "columns": ["x"]})


TABLES = [
    ({"files": {"look": LOOK}}, r"features\.npz: data\.files\.look", "3 of 5 items; 1 of its 4 rows", 0.6),
    (
        {"item_table": {"path": "items.csv", "key": "id"}},
        r"items\.csv: data\.item_table",
        "4 of 5 items; 0 of its 4 rows",
        0.8,
    ),
    (
        {"user_table": {"path": "users.csv", "key": "u", "columns": ["x"]}},
        r"users\.csv: data\.user_table",
        "2 of 6 users; 1 of its 3 rows",
        1 / 3,
    ),
]


@pytest.mark.parametrize(("table", "named", "counts", "share"), TABLES)
def test_a_file_that_describes_too_few_is_an_error(read, table, named, counts, share):
    pd.DataFrame({"u": ["u5", "u1", "u9"], "x": list("abc")}).to_csv("users.csv", index=False)

    def with_at_least(value: float) -> dict[str, object]:
        ((key, file),) = table.items()
        return {key: {"look": {**LOOK, "at_least": value}} if key == "files" else {**file, "at_least": value}}

    read(**with_at_least(share))
    with pytest.raises(
        DataError, match=rf"^{named}\.at_least: describes only {counts} match no interaction; "
    ):
        read(**with_at_least(share + 0.01))


def test_no_item_with_every_modality_is_an_error(read):
    np.savez("features.npz", ids=np.array([90, 91]), look=np.ones((2, 1)))
    with pytest.raises(
        DataError, match=r"data\.items: the rule to keep items that have every modality leaves none of 24 .*"
    ):
        read(items="with_every_modality")
    with pytest.raises(DataError, match=r"features\.npz: data\.files\.look\.key: none of its 2 item ids"):
        read()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rating": None, "min_rating": 3}, "min_rating needs the key rating"),
        ({"files": {}}, "the items need a modality"),
        (
            {"files": {}, "item_table": {"path": "i.csv", "key": "id", "title": "t"}},
            "the items need a modality",
        ),
        ({"files": {"text": LOOK}}, "'text' is taken"),
        ({"files": {"a b": LOOK}}, "must be letters"),
        ({"files": {"look": {**LOOK, "vlaues": "x"}}}, "vlaues"),
        ({"files": {"look": {"path": "x.npz"}}}, "key"),
        ({"core": 0}, "greater than or equal to 1"),
        ({"duplicates": "drop"}, r"drop has become latest .* and best .*; name one of them"),
        ({"duplicates": "ignore"}, "'latest', 'best', 'first_part' or 'error'"),
        ({"min_rating": float("nan")}, "finite"),
        ({"usr": "who"}, "usr"),
        ({"kind": "tabel"}, "'mmgcn', 'mmrec', 'movielens', 'planted', 'table'"),
    ],
)
def test_a_wrong_key_is_refused_when_the_configuration_is_read(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_every_file_that_decides_the_data_is_named(tmp_path):
    named = config(
        path=tmp_path / "r.csv",
        item_table={"path": "i.csv", "key": "id"},
        user_table={"path": "u.csv", "key": "id", "columns": ["x"]},
        files={"a": LOOK, "b": {"path": "x/v.npy", "key": "ids.txt"}},
    ).named_files()
    assert [str(path) for path in named] == [
        str(tmp_path / "r.csv"), "i.csv", "u.csv", "features.npz", "x/v.npy", "x/ids.txt"
    ]  # fmt: skip


def test_how_numbers_and_dates_are_read_is_noted_unless_a_key_says_it(read, rewrite):
    before = read()

    def abroad(rows: pd.DataFrame) -> pd.DataFrame:
        days = [f"{13 + place % 15}/02/2024" for place in range(len(rows))]
        return rows.assign(stars=[f"{stars:g},25" for stars in rows["stars"].astype(int)], when=days)

    rewrite(abroad)
    notes = read().provenance.notes
    assert [note.partition(":")[0] for note in notes[:2]] == ["stars", "when"]
    assert notes[0].endswith(",25 are read with a decimal comma")
    assert notes[1].endswith("/02/2024 are read with the day first")
    said = read(decimal=",", dates="day_first")
    assert said.provenance.notes == before.provenance.notes
    assert said.columns.time.tolist() == read().columns.time.tolist()


def test_what_is_left_out_of_any_table_is_noted(read):
    with_ends = {"ratings.csv": 1, "items.csv": 2, "users.csv": 1, "f.csv": 3}
    Path("users.csv").write_text("id,age\n" + "".join(f"u{user},{user}\n" for user in range(6)))
    Path("f.csv").write_text("id,x\n10,1\n11,2\n12,5\n")
    for name, ends in with_ends.items():
        lines = Path(name).read_text().splitlines()
        Path(name).write_text("".join(f"{line}{',' * ends}\n" for line in lines))
    notes = read(
        item_table={"path": "items.csv", "key": "id", "columns": ["kind"]},
        user_table={"path": "users.csv", "key": "id", "columns": ["age"]},
        files={"look": {"path": "f.csv", "key": "id"}},
    ).provenance.notes
    assert {(note.split(":")[0], int(note.split()[1])) for note in notes} == set(with_ends.items())


def test_the_decimal_key_is_meant_for_every_table_of_the_data(read, rewrite):
    rewrite(lambda rows: rows.assign(stars=rows["stars"].astype(int)))
    Path("f.csv").write_text("ids;x\n13;1,250\n11;3,500\n10;2\n")
    files = {"look": {"path": "f.csv", "key": "ids"}}
    dataset = read(files=files, decimal=",")
    assert dataset.modalities["look"].values[:, 0].tolist() == [2, 3.5, 0, 1.25, 0]
    assert dataset.provenance.notes == ()
    Path("f.csv").write_text("ids;x\n13;1,25\n11;3,5\n10;2\n")
    assert read(files=files).provenance.notes == (
        "data.files.look.values: x: numbers such as 1,25 are read with a decimal comma",
    )


def test_times_in_two_units_are_a_warning(read, rewrite):
    usual = read().provenance.findings
    rewrite(lambda rows: rows.assign(when=[10**9 * (1000 if place < 3 else 1) for place in range(len(rows))]))
    doubt = "data.time: the times of when are of several kinds: 21 in seconds, 3 in milliseconds"
    assert read().provenance.findings == (doubt, *usual)


def test_what_is_written_of_a_table_has_no_key_that_says_nothing():
    assert {"decimal", "dates"}.isdisjoint(config().model_dump())
    assert config(dates="day_first").model_dump()["dates"] == "day_first"
