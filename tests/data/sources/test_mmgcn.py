from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources import DataConfig, MmgcnConfig, load, prepared
from painvrl.data.sources.mmgcn import read_mmgcn
from painvrl.data.splits import OfficialSplit, make_split
from painvrl.data.splits.popularity import PopularityOod

U, I = 4, 5
TRAIN = [(0, 0), (0, 3), (1, 1), (2, 4), (3, 2), (1, 0)]
VALID = {0: [1], 2: [0, 3]}
TEST = {1: [4], 3: [0, 1, 4]}
VISUAL = np.arange(10, dtype=np.float32).reshape(I, 2) + 1
ACOUSTIC = np.array([[1.0], [0.0], [2.0], [3.0], [-1.0]])
WORDS = np.array([[0, 0, 4, 2, 3, 3], [9, 2, 2, 2, 5, 5]])


def objects(rows: list[object]) -> np.ndarray:
    array = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows):
        array[place] = row
    return array


def offset(pairs: list[tuple[int, int]], users: int) -> np.ndarray:
    return np.array(pairs) + np.array([0, users])


def write(folder: str = "data/toy", *, users: int = U, as_arrays: bool = False) -> Path:
    """A folder as Tiktok's, with ``users`` added to item ids."""
    path = Path(folder)
    path.mkdir(parents=True)
    np.save(path / "train.npy", offset(TRAIN, users))
    for name, rows in (("val_full.npy", VALID), ("test_full.npy", TEST)):
        lists = [[user, *(item + users for item in items)] for user, items in rows.items()]
        np.save(path / name, objects([np.array(row) for row in lists] if as_arrays else lists))
    positives = {user: {item + users for one, item in TRAIN if one == user} for user in range(users)}
    np.save(path / "user_item_dict.npy", objects([positives]).reshape(()))
    torch.save(torch.from_numpy(VISUAL), path / "feat_v.pt")
    torch.save(torch.from_numpy(ACOUSTIC), path / "feat_a.pt")
    torch.save(torch.from_numpy(WORDS), path / "feat_t.pt")
    return path


def read(path: str | Path = "data/toy", **changes: object) -> Dataset:
    config = TypeAdapter(DataConfig).validate_python({"kind": "mmgcn", "path": str(path), **changes})
    assert isinstance(config, MmgcnConfig)
    return read_mmgcn(config, ArrayCache(Path("cache")))


def triples(dataset: Dataset) -> set[tuple[int, int, str]]:
    data = dataset.interactions
    users, items = (
        map(int, ids.tolist()) for ids in (dataset.user_ids[data.user], dataset.item_ids[data.item])
    )
    return set(zip(users, items, dataset.columns.interaction["part"].tolist(), strict=True))


EVERYTHING = {
    *((user, item, "train") for user, item in TRAIN),
    *((user, item, "valid") for user, items in VALID.items() for item in items),
    *((user, item, "test") for user, items in TEST.items() for item in items),
}


@pytest.mark.parametrize("as_arrays", [False, True], ids=["rows are lists", "rows are arrays"])
def test_every_pair_is_read_without_the_offset_and_with_its_part(as_arrays):
    dataset = read(write(as_arrays=as_arrays))
    assert triples(dataset) == EVERYTHING
    assert len(dataset.interactions) == len(EVERYTHING)
    assert dataset.name == "toy"
    assert dataset.user_ids.tolist() == list("0123")
    assert dataset.item_ids.tolist() == list("01234")
    assert list(dataset.columns.interaction) == ["part"]


def test_features_belong_to_their_items():
    modalities = read(write()).modalities
    assert list(modalities) == ["visual", "acoustic", "textual"]
    np.testing.assert_array_equal(modalities["visual"].values, VISUAL)
    assert modalities["visual"].present.all()
    np.testing.assert_array_equal(modalities["acoustic"].values, ACOUSTIC)
    assert modalities["acoustic"].present.tolist() == [True, False, True, True, True]


def test_words_become_counts_in_the_order_of_their_indices():
    textual = read(write()).modalities["textual"]
    assert textual.values.tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 2, 0], [1, 0, 0]]
    assert textual.present.tolist() == [True, False, True, True, True]
    textual = read(vocabulary=1).modalities["textual"]
    assert textual.values.tolist() == [[1], [0], [1], [0], [1]]
    assert textual.present.tolist() == [True, False, True, False, True]


def test_words_of_ids_with_the_offset_are_the_same():
    path = write()
    without = read(path).modalities["textual"]
    torch.save(torch.from_numpy(WORDS + np.array([[U], [0]])), path / "feat_t.pt")
    with_offset = read(path).modalities["textual"]
    assert torch.equal(without.values, with_offset.values)


def test_features_stay_with_their_items_where_items_have_no_interaction():
    path = write()
    np.save(path / "train.npy", offset([(0, 0), (0, 3), (1, 0), (3, 0)], U))
    np.save(path / "val_full.npy", objects([[0, 4 + U], [2]]))
    np.save(path / "test_full.npy", objects([[3, 3 + U, 4 + U]]))
    dataset = read(path)
    assert dataset.item_ids.tolist() == list("034")
    assert dataset.user_ids.tolist() == list("013")
    np.testing.assert_array_equal(dataset.modalities["visual"].values, VISUAL[[0, 3, 4]])
    assert triples(dataset) == {
        (0, 0, "train"), (0, 3, "train"), (1, 0, "train"), (3, 0, "train"),
        (0, 4, "valid"), (3, 3, "test"), (3, 4, "test"),
    }  # fmt: skip


def test_rows_of_one_length_are_read_too():
    path = write()
    np.save(path / "val_full.npy", np.array([[0, U + 1], [2, U + 3]]))
    np.save(path / "test_full.npy", np.array([[1, U + 4], [3, U + 1]], dtype=object))
    assert {one for one in triples(read(path)) if one[2] != "train"} == {
        (0, 1, "valid"), (2, 3, "valid"), (1, 4, "test"), (3, 1, "test")
    }  # fmt: skip


def test_a_pair_that_occurs_again_keeps_its_first_part():
    path = write()
    np.save(path / "val_full.npy", objects([[0, U, U + 1, U + 1]]))
    np.save(path / "test_full.npy", objects([[0, U + 1], [0, U + 3, U + 2]]))
    dataset = read(path)
    parts = {(user, item): part for user, item, part in triples(dataset) if user == 0}
    assert parts == {(0, 0): "train", (0, 3): "train", (0, 1): "valid", (0, 2): "test"}
    (removal,) = dataset.provenance.removals
    assert (removal.name, removal.users, removal.items, removal.interactions) == ("data.duplicates", 0, 0, 4)


def test_the_core_drops_rows_with_their_parts():
    assert triples(read(write(), core=2)) == {
        (user, item, part) for user, item, part in EVERYTHING if item != 2
    }


def test_kwai_has_visual_features_only():
    path = write()
    (path / "feat_a.pt").unlink()
    (path / "feat_t.pt").unlink()
    assert list(read(path).modalities) == ["visual"]


def test_movielens_has_names_of_its_own():
    path = write()
    for name in ("feat_v.pt", "feat_a.pt", "feat_t.pt"):
        (path / name).unlink()
    np.save(path / "FeatureVideo_normal.npy", VISUAL)
    np.save(path / "FeatureAudio_avg_normal.npy", ACOUSTIC)
    np.save(path / "FeatureText_stl_normal.npy", VISUAL * 2)
    modalities = read(path).modalities
    np.testing.assert_array_equal(modalities["visual"].values, VISUAL)
    np.testing.assert_array_equal(modalities["acoustic"].values, ACOUSTIC)
    np.testing.assert_array_equal(modalities["textual"].values, VISUAL * 2)


def test_named_features_replace_the_published_names():
    path = write()
    np.save(path / "mine.npy", VISUAL[:, :1])
    modalities = read(path, features={"look": "mine.npy", "sound": "feat_a.pt"}).modalities
    assert list(modalities) == ["look", "sound"]
    np.testing.assert_array_equal(modalities["look"].values, VISUAL[:, :1])
    np.testing.assert_array_equal(modalities["sound"].values, ACOUSTIC)


def test_further_modalities_join_by_the_number_of_the_item():
    np.savez("extra.npz", ids=np.array([4, 1]), x=np.array([[7.0], [8.0]]))
    extra = {"path": "extra.npz", "key": "ids", "values": "x", "at_least": 0.4}
    dataset = read(write(), files={"extra": extra})
    assert dataset.modalities["extra"].values.tolist() == [[0], [8], [0], [0], [7]]
    assert [(join.name, join.key, join.matched, join.rows) for join in dataset.provenance.joins] == [
        ("visual", "data.features.visual", 5, 5),
        ("acoustic", "data.features.acoustic", 4, 5),
        ("textual", "data.features.textual", 4, 4),
        ("extra", "data.files.extra", 2, 2),
    ]
    with pytest.raises(DataError, match=r"toy: data\.files\.visual: the data set brings a modality of that"):
        read(files={"visual": extra})


def test_items_with_every_modality_counts_the_folders_own():
    assert read(write(), items="with_every_modality").item_ids.tolist() == list("0234")


def test_the_number_of_users_follows_from_the_rows_of_features():
    path = write(users=U + 2)  # the last two users took nothing
    assert triples(read(path)) == EVERYTHING
    for name in ("feat_v.pt", "feat_a.pt"):
        (path / name).unlink()
    torch.save(torch.from_numpy(WORDS), path / "feat_t.pt")
    with pytest.raises(
        DataError,
        match=r"data/toy: data\.users: the files leave .* open: anything from 4 to 6 fits; name it$",
    ):
        read(path)
    assert triples(read(path, users=U + 2)) == EVERYTHING


@pytest.mark.parametrize(
    ("shift", "users", "message"),
    [
        (1, None, r"users are 0 to 3, the items 1 to 5, and there are 5 such rows$"),
        (U, 3, r"users are 0 to 3, the items 4 to 8, and there are 5 such rows \(found 3\)"),
        (U, 5, r"\(found 5\)"),
    ],
)
def test_ids_that_are_not_offset_are_an_error(shift, users, message):
    path = write()
    np.save(path / "train.npy", offset(TRAIN, shift))
    np.save(path / "val_full.npy", np.array([[0, 1 + shift]]))
    np.save(path / "test_full.npy", np.array([[0, 4 + shift]]))
    with pytest.raises(DataError, match=rf"^data/toy: data\.users: item ids must be offset .*{message}"):
        read(path, users=users)


def test_an_item_without_a_row_of_features_is_an_error():
    path = write()
    torch.save(torch.ones(I - 1, 2), path / "feat_v.pt")
    (path / "feat_a.pt").unlink()
    with pytest.raises(DataError, match=r"every item must have a row .* the items 4 to 8, and there are 4"):
        read(path)


def test_a_row_of_features_beyond_the_last_item_is_an_error():
    path = write()
    torch.save(torch.ones(I + 1, 2), path / "feat_v.pt")
    (path / "feat_a.pt").unlink()
    with pytest.raises(
        DataError,
        match=r"^data/toy: data\.features: there must be a row .* of the 5 items .*\(found '6 rows'\)$",
    ):
        read(path)


def test_modalities_of_unequal_length_are_an_error():
    path = write()
    torch.save(torch.ones(I + 1, 2), path / "feat_v.pt")
    with pytest.raises(
        DataError, match=r"data\.features: .*one row an item \(found 'visual 6, acoustic 5'\)"
    ):
        read(path)


PUBLISHED = r"published with MMGCN \(github\.com/weiyinwei/MMGCN\).*InvRL \(github\.com/nickwzk/InvRL\)"


def test_a_missing_folder_says_what_it_must_hold_and_where_that_is_published():
    with pytest.raises(
        DataError,
        match=rf"^data/toy: data\.path: there is no such folder under the current directory {Path.cwd()}; "
        rf"it must hold train\.npy, val_full\.npy, test_full\.npy, and features: feat_v.*{PUBLISHED}",
    ):
        read()
    Path("data").mkdir()
    Path("data/toy").touch()
    with pytest.raises(DataError, match=r"^data/toy: data\.path: must be a folder"):
        read()


def test_a_missing_file_says_what_was_found():
    path = write()
    for name in ("val_full.npy", "test_full.npy", "user_item_dict.npy"):
        (path / name).unlink()
    with pytest.raises(
        DataError,
        match=r"^data/toy: data\.path: lacks val_full\.npy, test_full\.npy; it must hold .*published .*"
        r"\(found 'feat_a\.pt, feat_t\.pt, feat_v\.pt, train\.npy'\)",
    ):
        read(path)


def test_a_folder_without_features_is_an_error():
    path = write()
    for name in ("feat_v.pt", "feat_a.pt", "feat_t.pt"):
        (path / name).unlink()
    with pytest.raises(DataError, match=r"^data/toy: data\.features: lacks features; it must hold .*\(found"):
        read(path)
    with pytest.raises(DataError, match=r"data\.features\.look: lacks gone\.npy; .*published"):
        read(path, features={"look": "gone.npy"})


def test_two_files_for_one_modality_are_an_error():
    path = write()
    np.save(path / "feat_v.npy", VISUAL)
    with pytest.raises(
        DataError, match=r"data\.features\.visual: several files .*\(found \('feat_v\.npy', 'feat_v\.pt'\)\)"
    ):
        read(path)
    assert list(read(path, features={"visual": "feat_v.npy"}).modalities) == ["visual"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            objects([[0, 4], [0, 4.5]]),
            r"all of them whole numbers from 0 on; row 2 is none \(found '\[0, 4\.5\]'",
        ),
        (objects([[0, "x"]]), "each row must be a user followed by items"),
        (objects([3]), "each row must be a user followed by items"),
        (np.array(3), r"must hold rows \(found 'int64 \[\]'\)"),
        (np.array([[0.0, 4.0]]), "each row must be a user followed by items"),
        (objects([[0, [4]]]), "each row must be a user followed by items"),
        (objects([{1: 4}, [1, 4]]), "row 1 is none"),
        (objects([[1, 4], b"14"]), "row 2 is none"),
        (objects([{}, [1, 4]]), r"row 1 is none \(found '{}'\)"),
        (np.zeros((0, 2), dtype=int), r"must hold rows \(found 'int64 \[0, 2\]'\)"),
        (objects([[0, 4], [0, -4]]), r"row 2 is none \(found '\[0, -4\]'\)"),
    ],
)
def test_rows_that_are_no_rows_are_an_error(content, message):
    path = write()
    np.save(path / "val_full.npy", content)
    with pytest.raises(DataError, match=rf"^data/toy/val_full\.npy: data\.path: .*{message}"):
        read(path)


def test_rows_without_items_are_an_error():
    path = write()
    for name in ("train.npy", "val_full.npy", "test_full.npy"):
        np.save(path / name, objects([[0], [1]]))
    with pytest.raises(DataError, match=r"^data/toy: data\.path: no row has an item"):
        read(path)


class Touch:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_no_file_of_the_folder_can_execute_code():
    path = write()
    np.save(path / "user_item_dict.npy", objects([Touch()]))
    read(path)
    np.save(path / "val_full.npy", objects([[0, 4], Touch()]))
    with pytest.raises(DataError, match=r"data/toy/val_full\.npy: data\.path: holds Python objects"):
        read(path)
    np.save(path / "val_full.npy", objects([[0, 4]]))
    torch.save(Touch(), path / "feat_v.pt")
    with pytest.raises(DataError, match=r"data/toy/feat_v\.pt: data\.features\.visual: holds Python objects"):
        read(path)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"vocabulary": 0},
        {"users": 0},
        {"features": {"text": "x.npy"}},
        {"features": {"a b": "x.npy"}},
        {"x": 1},
    ],
)
def test_wrong_keys_are_refused(changes):
    with pytest.raises(ValidationError):
        TypeAdapter(DataConfig).validate_python({"kind": "mmgcn", "path": "data/toy", **changes})


def test_ratings_cannot_be_asked_for():
    with pytest.raises(DataError, match=r"data/toy: data\.min_rating: needs ratings"):
        read(write(), min_rating=3)


@pytest.mark.parametrize("name", ["train.npy", "val_full.npy", "test_full.npy", "feat_v.pt", "feat_t.pt"])
def test_a_changed_file_is_read_again(name):
    path = write()
    config = MmgcnConfig(path=path)
    before = load(config, cache_dir=Path("cache"), seed=0)
    if name == "train.npy":
        np.save(path / name, offset([*TRAIN, (2, 2)], U))
    elif name.endswith(".npy"):
        np.save(path / name, objects([[2, U + 2]]))
    else:
        torch.save(torch.from_numpy(WORDS[:, 1:]) if name == "feat_t.pt" else torch.ones(I, 2), path / name)
    after = load(config, cache_dir=Path("cache"), seed=0)
    assert before.fingerprint != after.fingerprint


def test_a_cache_hit_keeps_the_parts():
    config = MmgcnConfig(path=write())
    for _ in range(2):
        assert triples(load(config, cache_dir=Path("cache"), seed=0)) == EVERYTHING


def test_the_official_split_takes_the_files_own_parts():
    path = write()
    later = {(user, item) for rows in (VALID, TEST) for user, items in rows.items() for item in items}
    train = [(user, item) for user in range(U) for item in range(I) if (user, item) not in later]
    np.save(path / "train.npy", offset(train, U))
    dataset = read(path)
    split = make_split(dataset, OfficialSplit(ood=PopularityOod(ood_share=0.2)), seed=0)
    users = dataset.user_ids[split.iid_valid.interactions.user].tolist()
    items = dataset.item_ids[split.iid_valid.interactions.item].tolist()
    assert list(zip(users, items, strict=True)) == [("0", "1"), ("2", "0"), ("2", "3")]


def test_a_renamed_file_is_read_again():
    path = write()
    (path / "feat_a.pt").unlink()
    before = load(MmgcnConfig(path=path), cache_dir=Path("cache"), seed=0)
    (path / "feat_v.pt").rename(path / "feat_a.pt")
    after = load(MmgcnConfig(path=path), cache_dir=Path("cache"), seed=0)
    assert (list(before.modalities), list(after.modalities)) == (
        ["visual", "textual"], ["acoustic", "textual"]
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_a_file_that_is_written_after_it_was_read_changes_nothing(suffix, monkeypatch):
    monkeypatch.setattr(prepared, "MAPPED_BYTES", 1)
    path = write()
    if suffix == ".npy":
        (path / "feat_v.pt").unlink()
        np.save(path / "feat_v.npy", VISUAL)
    dataset = load(
        TypeAdapter(DataConfig).validate_python({"kind": "mmgcn", "path": str(path)}),
        cache_dir=Path("cache"),
        seed=0,
    )
    file = path / f"feat_v{suffix}"
    content = file.read_bytes()
    assert VISUAL.tobytes() in content
    with file.open("r+b") as stream:  # in place: it stays the file that was mapped
        stream.write(content.replace(VISUAL.tobytes(), bytes(VISUAL.nbytes)))
    np.testing.assert_array_equal(dataset.modalities["visual"].values, VISUAL)
