from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources import DataConfig
from painvrl.data.sources.table import TableConfig, read_table_source
from painvrl.errors import DataError

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
        return read_table_source(config(**changes), ArrayCache(shop / "cache"))

    return read


@pytest.fixture
def rewrite(shop):
    """Change the ratings before they are read."""

    def rewrite(change) -> None:
        change(pd.read_csv("ratings.csv")).to_csv("ratings.csv", index=False)

    return rewrite


def raw_pairs(dataset: Dataset) -> list[tuple[object, object]]:
    users = dataset.user_ids[dataset.interactions.user.numpy()].tolist()
    items = dataset.item_ids[dataset.interactions.item.numpy()].tolist()
    return list(zip(users, items, strict=True))


def test_a_table_is_read_as_it_is(read, shop):
    dataset = read()
    frame = pd.read_csv("ratings.csv")
    assert sorted(raw_pairs(dataset)) == sorted(zip(frame["who"], frame["what"], strict=True))
    assert dataset.name == "ratings"
    assert dataset.user_ids.tolist() == [f"u{user}" for user in range(6)]
    assert dataset.item_ids.tolist() == [10, 11, 12, 13, 14]
    assert dataset.titles == ("10", "11", "12", "13", "14")
    look = dataset.modalities["look"]
    assert look.present.tolist() == [True, True, False, True, False]
    assert look.values[:, 0].tolist() == [7.0, 4.0, 0.0, 1.0, 0.0]


def test_rows_are_sorted_by_user_and_item(read):
    pairs = raw_pairs(read())
    assert pairs == sorted(pairs)


def test_ratings_below_the_threshold_are_left_out(read, shop):
    frame = pd.read_csv("ratings.csv")
    loved = frame[frame["stars"] >= 4]
    expected = sorted(zip(loved["who"], loved["what"], strict=True))
    assert sorted(raw_pairs(read(min_rating=4))) == expected


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
    assert dataset.item_ids.tolist() == [10, 11, 13]
    assert dataset.modalities["look"].present.all()


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
    assert dataset.modalities["categories"].values.tolist() == [
        [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]
    ]  # fmt: skip


def test_one_column_of_text_needs_no_list(read, fake_encoder):
    read(item_table={"path": "items.csv", "key": "id", "text": "about"})
    assert fake_encoder == [["grey", "red"]]


def test_duplicates_are_dropped_on_demand(read, rewrite):
    before = read()
    rewrite(lambda frame: pd.concat([frame, frame.head(3).assign(when=0)]))
    assert read(duplicates="drop").fingerprint == before.fingerprint


def test_of_duplicates_the_latest_rating_decides(read, rewrite):
    rewrite(lambda frame: pd.concat([frame, frame.head(1).assign(when=2000, stars=1)]))
    frame = pd.read_csv("ratings.csv")
    first = (frame["who"][0], frame["what"][0])
    frame.loc[0, "stars"] = 5
    frame.to_csv("ratings.csv", index=False)
    assert first not in raw_pairs(read(duplicates="drop", min_rating=5))
    assert first in raw_pairs(read(duplicates="drop", min_rating=5, time=None))


# ------------------------------------------------------------------------------------- columns


def times_by_pair(dataset: Dataset) -> dict[tuple[object, object], float]:
    return dict(zip(raw_pairs(dataset), dataset.columns.time.tolist(), strict=True))


def test_times_and_labels_follow_their_rows_through_every_filter(read, rewrite):
    rewrite(
        lambda frame: pd.concat(
            [frame, frame.head(4).assign(when=3000, stars=5), frame.tail(2).assign(when=0)]
        ).assign(week=lambda rows: rows["when"] // 7, mood=lambda rows: "m" + rows["when"].astype(str))
    )
    frame = pd.read_csv("ratings.csv").sort_values("when").drop_duplicates(["who", "what"], keep="last")
    frame = frame[(frame["stars"] >= 2) & frame["what"].isin([10, 11, 13])]
    expected = {(row.who, row.what): row for row in frame.itertuples()}
    dataset = read(
        columns=["mood", "week"], duplicates="drop", min_rating=2, items="with_every_modality", core=2
    )
    assert 3 < len(dataset.interactions) < len(expected) + 1
    assert times_by_pair(dataset) == {pair: expected[pair].when for pair in raw_pairs(dataset)}
    labels = dataset.columns.interaction
    assert list(labels) == ["mood", "week"]
    for pair, mood, week in zip(raw_pairs(dataset), labels["mood"], labels["week"], strict=True):
        assert mood == f"m{expected[pair].when}"
        assert week == str(expected[pair].when // 7)


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
    assert dataset.columns.user["born"].tolist() == ["1971.5", "", "", "", "", "1990"]
    assert dataset.columns.user["x"].tolist() == ["d", "b", "", "", "", "a"]


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
        ({"min_rating": 9}, r"^ratings\.csv: data\.min_rating: no interaction.*\(found 9\.0\)$"),
        ({"core": 6}, r"^ratings\.csv: data\.core: no interaction is left.*\(found 6\)$"),
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
        match=r"^ratings\.csv: data\.duplicates: 2 rows .* row 25, user u5 and item 12; .*\(found 'error'\)$",
    ):
        read()


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
        DataError, match=r"^features\.npz: data\.files\.look\.values: .*item 11 \(found nan\)"
    ):
        read()


def test_items_described_twice_are_named(read):
    pd.DataFrame({"id": [10, 11, 10], "name": ["a", "b", "c"]}).to_csv("items.csv", index=False)
    with pytest.raises(
        DataError, match=r"^items\.csv: data\.item_table\.key: 1 item ids .*first is 10 \(found 'id'\)"
    ):
        read(item_table={"path": "items.csv", "key": "id", "title": "name"})


def test_users_described_twice_are_named(read):
    pd.DataFrame({"id": ["u1", "u1"], "x": ["a", "b"]}).to_csv("users.csv", index=False)
    with pytest.raises(
        DataError, match=r"^users\.csv: data\.user_table\.key: 1 user ids .*first is u1 \(found 'id'\)"
    ):
        read(user_table={"path": "users.csv", "key": "id", "columns": ["x"]})


def test_no_item_with_every_modality_is_an_error(read):
    np.savez("features.npz", ids=np.array([90, 91]), look=np.ones((2, 1)))
    with pytest.raises(DataError, match=r"data\.items: no item has every modality.*'with_every_modality'"):
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
        ({"duplicates": "ignore"}, "'error' or 'drop'"),
        ({"min_rating": float("nan")}, "finite"),
        ({"usr": "who"}, "usr"),
        ({"kind": "tabel"}, "'movielens', 'table', 'mmgcn', 'mmrec', 'planted'"),
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
