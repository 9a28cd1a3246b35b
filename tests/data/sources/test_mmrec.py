from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources import DataConfig, MmrecConfig, load

ROWS = [
    # user, item, rating, time, label
    (0, 0, 5.0, 1000, 0),
    (0, 3, 3.0, 1001, 1),
    (1, 3, 4.0, 1002, 0),
    (1, 1, 1.0, 1003, 2),
    (2, 0, 2.0, 1004, 0),
]
IMAGE = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
TEXT = np.array([[1.0], [0.0], [2.0], [3.0]], dtype=np.float32)


def write_mmrec(folder: str = "baby") -> Path:
    """A folder as MMRec's."""
    path = Path(folder)
    path.mkdir()
    lines = ["userID\titemID\trating\ttimestamp\tx_label", *("\t".join(map(str, row)) for row in ROWS)]
    (path / "baby.inter").write_text("\n".join(lines) + "\n")
    np.save(path / "image_feat.npy", IMAGE)
    np.save(path / "text_feat.npy", TEXT)
    np.save(path / "user_graph_dict.npy", np.zeros(1))
    return path


def write_recbole(folder: str = "ml-100k") -> Path:
    """A folder as RecBole's: tokens as ids, typed headers, a description of more items than were taken."""
    path = Path(folder)
    path.mkdir()
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += [f"{user + 100}\t{item * 10 + 10}\t{rating}\t{time}" for user, item, rating, time, _ in ROWS]
    (path / "ml-100k.inter").write_text("\n".join(lines) + "\n")
    (path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "40\tFour Rooms\t1995\tThriller\n"
        "10\tToy Story\t1995\tAnimation Children's\n"
        "70\tSeven\t1995\t\n"
        "20\t\t1996\tThriller Animation\n"
    )
    (path / "ml-100k.user").write_text("user_id:token\tgender:token\tage:token\n101\tF\t24\n100\tM\t\n")
    return path


def read(path: str | Path, **changes: object) -> Dataset:
    config = TypeAdapter(DataConfig).validate_python(
        {"kind": "mmrec", "path": str(path), "core": 1, **changes}
    )
    assert isinstance(config, MmrecConfig)
    return config.read(ArrayCache(Path("cache")), 0)


def pairs(dataset: Dataset) -> list[tuple[int, int]]:
    data = dataset.interactions
    users, items = dataset.user_ids[data.user].tolist(), dataset.item_ids[data.item].tolist()
    return [(int(user), int(item)) for user, item in zip(users, items, strict=True)]


def test_mmrecs_rows_keep_their_times_and_parts():
    dataset = read(write_mmrec())
    assert dataset.name == "baby"
    assert pairs(dataset) == [(0, 0), (0, 3), (1, 1), (1, 3), (2, 0)]
    assert dataset.columns.time.tolist() == [1000, 1001, 1003, 1002, 1004]
    assert dataset.columns.time.dtype == torch.float64
    assert dataset.columns.interaction["part"].tolist() == ["train", "valid", "test", "train", "train"]


def test_mmrecs_features_are_rows_by_item_id():
    dataset = read(write_mmrec())
    assert dataset.item_ids.tolist() == ["0", "1", "3"]
    assert list(dataset.modalities) == ["image", "textual"]
    np.testing.assert_array_equal(dataset.modalities["image"].values, IMAGE[[0, 1, 3]])
    np.testing.assert_array_equal(dataset.modalities["textual"].values, TEXT[[0, 1, 3]])
    assert dataset.modalities["textual"].present.tolist() == [True, False, True]
    assert [
        (join.name, join.total, join.matched, join.rows, join.rows_unmatched)
        for join in dataset.provenance.joins
    ] == [("image", 3, 3, 4, 1), ("textual", 3, 2, 4, 1)]


@pytest.mark.parametrize("rows", [3, 5])
def test_a_matrix_of_another_number_of_rows_than_items_is_refused(rows):
    path = write_mmrec()
    np.save(path / "image_feat.npy", np.ones((rows, 2)))
    with pytest.raises(
        DataError,
        match=r"image_feat\.npy: data\.features\.image: there must be a row for each of the 4 items .* "
        rf"\(found '{rows} rows'\)$",
    ):
        read(path)


def test_named_features_replace_the_usual_names():
    modalities = read(write_mmrec(), features={"look": "image_feat.npy"}).modalities
    assert list(modalities) == ["look"]


def test_the_core_and_the_threshold_keep_columns_with_their_rows():
    dataset = read(write_mmrec(), min_rating=2)
    assert pairs(dataset) == [(0, 0), (0, 3), (1, 3), (2, 0)]
    assert dataset.columns.time.tolist() == [1000, 1001, 1002, 1004]
    assert dataset.columns.interaction["part"].tolist() == ["train", "valid", "train", "train"]


def test_recboles_items_are_described_by_their_columns(fake_encoder):
    dataset = read(
        write_recbole(), title="movie_title", text=["movie_title", "release_year"], categories="class"
    )
    assert dataset.name == "ml-100k"
    assert pairs(dataset) == [(100, 10), (100, 40), (101, 20), (101, 40), (102, 10)]
    joins = {join.name: join for join in dataset.provenance.joins}
    assert {name: (join.total, join.matched, join.rows) for name, join in joins.items()} == {
        "text": (3, 3, 4), "categories": (3, 3, 4), "item table": (3, 3, 4), "titles": (3, 2, 4),
        "user table": (3, 2, 2),
    }  # fmt: skip
    assert [joins[name].rows_unmatched for name in ("item table", "user table")] == [1, 0]
    assert dataset.columns.time.tolist() == [1000, 1001, 1003, 1002, 1004]
    assert dict(dataset.columns.interaction) == {}
    assert {name: labels.tolist() for name, labels in dataset.columns.item.items()} == {
        "movie_title": ["Toy Story", "", "Four Rooms"],
        "release_year": ["1995", "1996", "1995"],
        "class": ["Animation Children's", "Thriller Animation", "Thriller"],
    }
    assert {name: labels.tolist() for name, labels in dataset.columns.user.items()} == {
        "gender": ["M", "F", ""],
        "age": ["", "24", ""],
    }
    assert dataset.titles == ("Toy Story", "20", "Four Rooms")
    assert fake_encoder == [["Toy Story, 1995", "1996", "Four Rooms, 1995"]]
    assert list(dataset.modalities) == ["text", "categories"]
    # Animation, Children's, Thriller
    assert dataset.modalities["categories"].values.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]


def test_with_an_item_file_features_are_in_the_order_of_its_rows():
    path = write_recbole()
    np.save(path / "image_feat.npy", IMAGE)
    image = read(path).modalities["image"]
    assert image.values.tolist() == [[3, 4], [7, 8], [1, 2]]
    np.save(path / "image_feat.npy", IMAGE[:3])
    with pytest.raises(
        DataError, match=r"image_feat\.npy: data\.features\.image: .* each of the 4 rows .*\(found '3 rows'\)"
    ):
        read(path)


def test_names_are_divided_by_the_separator():
    path = write_recbole()
    text = (path / "ml-100k.item").read_text().replace("Animation Children's", "Animation|Children's")
    (path / "ml-100k.item").write_text(text.replace("Thriller Animation", "Thriller|Animation"))
    categories = read(path, categories="class", separator="|").modalities["categories"]
    assert categories.values.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]


def test_other_columns_can_be_the_ids():
    path = write_recbole()
    for file in ("ml-100k.inter", "ml-100k.item", "ml-100k.user"):
        text = (path / file).read_text()
        (path / file).write_text(text.replace("item_id", "artist_id").replace("user_id", "who"))
    assert read(path, user="who", item="artist_id", categories="class").item_ids.tolist() == [
        "10", "20", "40"
    ]  # fmt: skip
    with pytest.raises(
        DataError,
        match=r"ml-100k\.inter: data\.user: there is no such column; the file has who, artist_id, rating, "
        r"timestamp \(found 'user_id'\)",
    ):
        read(path, categories="class")


def test_of_repeated_pairs_the_latest_is_kept_with_its_columns():
    path = write_mmrec()
    with (path / "baby.inter").open("a") as stream:
        stream.write("0\t0\t1.0\t2000\t2\n0\t0\t5.0\t500\t1\n")
    with pytest.raises(DataError, match=r"2 rows repeat a \(user, item\) pair"):
        read(path, duplicates="error")
    dataset = read(path)
    assert pairs(dataset)[0] == (0, 0)
    assert dataset.columns.time[0] == 2000
    assert dataset.columns.interaction["part"][0] == "test"
    assert dataset.columns.contradictions["part"].startswith("2 rows that repeat a (user, item) pair have ")
    assert [(one.name, one.interactions) for one in dataset.provenance.removals] == [("data.duplicates", 2)]


def test_columns_beside_the_ids_may_be_missing():
    path = write_mmrec()
    (path / "baby.inter").write_text("userID\titemID\n0\t3\n1\t0\n")
    dataset = read(path)
    assert pairs(dataset) == [(0, 3), (1, 0)]
    assert dataset.columns.time is None
    assert dict(dataset.columns.interaction) == {}


PUBLISHED = r"published with MMRec \(github\.com/enoche/MMRec\) and RecBole \(github\.com/RUCAIBox/RecBole\)"


def test_a_missing_folder_or_file_says_what_is_expected_and_where_it_is_published():
    with pytest.raises(
        DataError,
        match=rf"^baby: data\.path: there is no such folder under .*; it must hold an \.inter .*{PUBLISHED}",
    ):
        read("baby")
    path = write_mmrec()
    (path / "baby.inter").rename(path / "baby.txt")
    with pytest.raises(
        DataError,
        match=rf"^baby: data\.path: lacks an \.inter file; .*{PUBLISHED} \(found 'baby\.txt, image_",
    ):
        read(path)


def test_of_several_tables_one_must_be_named():
    path = write_mmrec()
    (path / "other.inter").write_text((path / "baby.inter").read_text().replace("0\t0\t", "0\t1\t"))
    with pytest.raises(DataError, match=r"^baby: data\.name: .* several .*\(found 'baby, other'\)"):
        read(path)
    assert pairs(read(path, name="other"))[0] == (0, 1)
    with pytest.raises(DataError, match=r"^baby: data\.name: lacks third\.inter; "):
        read(path, name="third")


def test_items_without_a_modality_are_an_error():
    path = write_recbole()
    with pytest.raises(DataError, match=r"^ml-100k: data\.path: lacks a modality \(features, or text or cat"):
        read(path)
    (path / "ml-100k.item").unlink()
    with pytest.raises(DataError, match=r"^ml-100k: data\.path: lacks the \.item file that title, text and"):
        read(path, categories="class")
    with pytest.raises(DataError, match=r"^ml-100k: data\.features\.look: lacks gone\.npy; "):
        read(path, features={"look": "gone.npy"})


@pytest.mark.parametrize("label", ["3", "0.5", "-1"])
def test_an_unknown_part_is_an_error(label):
    path = write_mmrec()
    text = (path / "baby.inter").read_text()
    (path / "baby.inter").write_text(text.replace("1003\t2", f"1003\t{label}"))
    with pytest.raises(
        DataError,
        match=rf"baby\.inter: data\.path: x_label must be 0 .*row 4 is not \(found {float(label)}\)",
    ):
        read(path)


def test_ids_that_are_no_numbers_need_an_item_file():
    path = write_mmrec()
    (path / "baby.inter").write_text("userID\titemID\n0\tb3\n1\tb0\n")
    with pytest.raises(
        DataError, match=r"image_feat\.npy: data\.features\.image: without an \.item file, .*\(found 'b0'\)"
    ):
        read(path)


def test_repeated_users_of_the_user_file_are_an_error():
    path = write_recbole()
    with (path / "ml-100k.user").open("a") as stream:
        stream.write("101\tF\t25\n")
    with pytest.raises(DataError, match=r"ml-100k\.user: data\.user: 1 user ids occur more than once"):
        read(path, categories="class")


def test_repeated_items_of_the_item_file_are_an_error():
    path = write_recbole()
    with (path / "ml-100k.item").open("a") as stream:
        stream.write("40\tAgain\t1995\tThriller\n")
    with pytest.raises(DataError, match=r"ml-100k\.item: data\.item: 1 item ids occur more than once"):
        read(path, categories="class")


@pytest.mark.parametrize("name", ["baby.inter", "image_feat.npy"])
def test_a_changed_file_is_read_again(name):
    path = write_mmrec()
    before = load(MmrecConfig(path=path, core=1), cache_dir=Path("cache"), seed=0)
    if name == "baby.inter":
        (path / name).write_text((path / name).read_text() + "2\t1\t3.0\t1010\t0\n")
    else:
        np.save(path / name, IMAGE + 1)
    assert (
        load(MmrecConfig(path=path, core=1), cache_dir=Path("cache"), seed=0).fingerprint
        != before.fingerprint
    )


@pytest.mark.parametrize("changes", [{"features": {"text": "x"}}, {"separator": ""}, {"x": 1}])
def test_wrong_keys_are_refused(changes):
    with pytest.raises(ValidationError):
        TypeAdapter(DataConfig).validate_python({"kind": "mmrec", "path": "baby", **changes})


def test_decimal_commas_and_times_in_two_units_are_said():
    path = write_mmrec()
    file = path / "baby.inter"
    rows = file.read_text().replace(".0\t", ",5\t").replace("1000\t", "0\t")
    file.write_text(re.sub(r"\b100([1-4])\b", r"170000000\1", rows))
    provenance = read(path).provenance
    assert provenance.notes == ("rating: numbers such as 1,5 are read with a decimal comma",)
    assert [text for text in provenance.warnings if "of several kinds: 4 in seconds" in text]


def test_numbers_and_dates_that_may_mean_two_things_have_keys():
    file = write_mmrec() / "baby.inter"
    file.write_text(
        re.sub(r"\b100(\d)\b", r"01/0\1/2024", file.read_text().replace(".0\t", ",500\t")).replace(
            "/00/", "/06/"
        )
    )
    with pytest.raises(DataError, match=r"data\.decimal"):
        read("baby")
    with pytest.raises(DataError, match=r"data\.dates"):
        read("baby", decimal=",")
    dataset = read("baby", decimal=",", dates="month_first", min_rating=4.5)
    assert dataset.columns.time.tolist() == [1704499200, 1704153600]
