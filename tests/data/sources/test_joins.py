"""The statistics of a join are exact in every reader: 40 items, of which each modality lacks other two."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from painvrl.core.errors import DataError
from painvrl.data.dataset import Dataset
from painvrl.data.provenance import Join
from painvrl.data.sources import DataConfig, load

ITEMS = 40
USERS = 20
LACKING = {"image": (3, 17), "sound": (0, 39), "text": (5, 6), "categories": (7, 8), "titles": (1, 2)}
PAIRS = [(user, (user + step) % ITEMS) for user in range(USERS) for step in range(ITEMS) if step % 2 == 0]
LOOKS = np.random.default_rng(3).normal(size=(ITEMS, 3)) * [1.0, 1.0, 3.0]


def having(modality: str) -> list[int]:
    return [item for item in range(ITEMS) if item not in LACKING[modality]]


def read(config: dict[str, object]) -> Dataset:
    return load(TypeAdapter(DataConfig).validate_python(config), cache_dir=Path("cache"), seed=0)


def joins_of(dataset: Dataset) -> dict[str, Join]:
    return {join.name: join for join in dataset.provenance.joins}


def counts(join: Join) -> tuple[int, int, int, int, int]:
    return join.matched, join.total, join.rows, join.rows_filtered, join.rows_unmatched


def largest(modality: str) -> tuple[str, float]:
    squares = (LOOKS[having(modality)].astype(np.float32).astype(float) ** 2).sum(axis=0)
    return "f2", squares[2] / squares.sum()


def rows_of(modality: str) -> list[tuple[str, list[float]]]:
    """Its items, three that no one took, and one that the core takes away."""
    known = [(f"i{item}", LOOKS[item].tolist()) for item in having(modality)]
    return [*known, *((f"no one {at}", [1.0, 2.0, 3.0]) for at in range(3)), ("rare", [4.0, 5.0, 6.0])]


def write_interactions() -> None:
    rows = [f"u{user},i{item}" for user, item in PAIRS]
    Path("x.csv").write_text("\n".join(["user,item", *rows, "u0,rare"]) + "\n")


def write_features(name: str, modality: str) -> dict[str, object]:
    rows = rows_of(modality)
    ids, values = [one for one, _ in rows], np.array([look for _, look in rows])
    path = Path(f"{modality}{name}")
    match name:
        case ".npz":
            np.savez(path, ids=np.array(ids), look=values)
            return {"path": str(path), "key": "ids", "values": "look"}
        case ".npy":
            np.save(path, values)
            Path(f"{modality}.txt").write_text("\n".join(ids))
            return {"path": str(path), "key": f"{modality}.txt"}
        case ".parquet":
            pq.write_table(pa.table({"id": ids, **{f"f{at}": values[:, at] for at in range(3)}}), path)
        case _:
            end = "," if name == ".csv" else "\t"
            lines = [end.join(["id", "f0", "f1", "f2"])]
            lines += [end.join([one, *map(repr, look)]) for one, look in rows]
            path.write_text("\n".join(lines) + "\n")
    return {"path": str(path), "key": "id"}


@pytest.mark.parametrize("name", [".csv", ".tsv", ".parquet", ".npz", ".npy"])
def test_the_joins_of_features_are_exact(name):
    write_interactions()
    files = {modality: write_features(name, modality) for modality in ("image", "sound")}
    dataset = read({"kind": "table", "path": "x.csv", "core": 2, "files": files})
    for modality in files:
        join = joins_of(dataset)[modality]
        # 42 rows: 38 of its items, 1 that the core took away, 3 that match nothing.
        assert counts(join) == (38, 40, 42, 1, 3)
        column, share = largest(modality)
        assert join.largest_column == (column if name not in {".npz", ".npy"} else "2")
        assert join.largest_share == pytest.approx(share, rel=1e-6)
        assert join.warning() is None
        present = dataset.modalities[modality].present.numpy()
        lacking = {f"i{item}" for item in LACKING[modality]}
        assert set(dataset.item_ids[~present].tolist()) == lacking


def test_the_joins_of_tables_are_exact(fake_encoder):
    write_interactions()
    lines = ["id,title,about,tags"]
    for item in range(ITEMS):
        title = "" if item in LACKING["titles"] else f"t{item}"
        about = "" if item in LACKING["text"] else f"about {item}"
        tags = "" if item in LACKING["categories"] else "a|b" if item % 2 else "a"
        lines.append(f"i{item},{title},{about},{tags}")
    Path("i.csv").write_text("\n".join([*lines, "no one,t,about,a", "rare,t,about,a"]) + "\n")
    users = [f"u{user},f" for user in range(USERS - 1)]
    Path("u.csv").write_text("\n".join(["id,sex", *users, "no one,m", "no one 2,m"]) + "\n")
    table = {"path": "i.csv", "key": "id", "title": "title", "text": "about", "categories": "tags"}
    user_table = {"path": "u.csv", "key": "id", "columns": ["sex"]}
    joins = joins_of(
        read({"kind": "table", "path": "x.csv", "core": 2, "item_table": table, "user_table": user_table})
    )
    assert counts(joins["text"]) == (38, 40, 42, 1, 1)
    assert counts(joins["categories"]) == (38, 40, 42, 1, 1)
    assert counts(joins["titles"]) == (38, 40, 42, 1, 1)
    assert counts(joins["item table"]) == (40, 40, 42, 1, 1)
    assert counts(joins["user table"]) == (19, 20, 21, 0, 2)
    assert joins["user table"].of == "users"
    tagged = [item for item in having("categories") if item % 2]
    assert joins["categories"].largest_column == "a"
    assert joins["categories"].largest_share == pytest.approx(38 / (38 + len(tagged)))


def test_the_joins_of_recboles_files_are_exact():
    Path("r").mkdir()
    rows = [f"u{user}\ti{item}" for user, item in PAIRS]
    Path("r/r.inter").write_text("\n".join(["user_id:token\titem_id:token", *rows]) + "\n")
    titles = ["" if item in LACKING["titles"] else f"t{item}" for item in range(ITEMS)]
    tags = ["" if item in LACKING["categories"] else "a" for item in range(ITEMS)]
    items = [f"i{item}\t{titles[item]}\t{tags[item]}" for item in range(ITEMS)]
    header = "item_id:token\ttitle:token_seq\tclass:token_seq"
    Path("r/r.item").write_text("\n".join([header, *items, "no one\tt\ta"]) + "\n")
    looks = np.concatenate([LOOKS, [[1.0, 2.0, 3.0]]])
    looks[list(LACKING["image"])] = 0.0
    np.save("r/image_feat.npy", looks)
    joins = joins_of(read({"kind": "mmrec", "path": "r", "core": 1, "title": "title", "categories": "class"}))
    assert counts(joins["image"]) == (38, 40, 41, 0, 1)
    assert joins["image"].largest_share == pytest.approx(largest("image")[1], rel=1e-6)
    assert counts(joins["categories"]) == (38, 40, 41, 0, 1)
    assert counts(joins["titles"]) == (38, 40, 41, 0, 1)
    assert counts(joins["item table"]) == (40, 40, 41, 0, 1)


def test_the_joins_of_mmrecs_rows_are_exact():
    Path("m").mkdir()
    rows = [f"{user}\t{item}" for user, item in PAIRS]
    Path("m/m.inter").write_text("\n".join(["userID\titemID", *rows]) + "\n")
    for modality in ("image", "sound"):
        looks = LOOKS.copy()
        looks[list(LACKING[modality])] = 0.0
        np.save(f"m/{modality}_feat.npy", looks)
    joins = joins_of(read({"kind": "mmrec", "path": "m", "core": 1}))
    assert {name: counts(join) for name, join in joins.items()} == {
        "image": (38, 40, 40, 0, 0),
        "sound": (38, 40, 40, 0, 0),
    }
    assert joins["sound"].largest_share == pytest.approx(largest("sound")[1], rel=1e-6)


def test_the_joins_of_the_papers_folders_are_exact():
    Path("p").mkdir()
    np.save("p/train.npy", np.array([(user, item + USERS) for user, item in PAIRS]))
    for name in ("val_full", "test_full"):
        rows = np.empty(2, dtype=object)
        rows[:] = [[0, 1 + USERS], [1, 2 + USERS]]
        np.save(f"p/{name}.npy", rows, allow_pickle=True)
    looks = LOOKS.copy()
    looks[list(LACKING["image"])] = 0.0
    np.save("p/feat_v.npy", looks)
    words = [(item, word) for item in having("text") for word in ([0, 1] if item % 2 else [0])]
    np.save("p/feat_t.npy", np.array(words).T)
    joins = joins_of(read({"kind": "mmgcn", "path": "p"}))
    assert counts(joins["visual"]) == (38, 40, 40, 0, 0)
    assert counts(joins["textual"]) == (38, 40, 38, 0, 0)
    assert joins["textual"].largest_column == "word 0"
    assert joins["textual"].largest_share == pytest.approx(38 / len(words))


def test_the_joins_of_movielens_files_are_exact():
    Path("g").mkdir()
    rows = [f"{user},{item},4.0,1000" for user, item in PAIRS]
    Path("g/ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]) + "\n")
    films = [
        f"{item},{'' if item in LACKING['titles'] else f'T{item} (1999)'},"
        + ("(no genres listed)" if item in LACKING["categories"] else "Drama")
        for item in range(ITEMS)
    ]
    Path("g/movies.csv").write_text("\n".join(["movieId,title,genres", *films, "99,X (1990),Drama"]) + "\n")
    joins = joins_of(read({"kind": "movielens", "path": "g", "core": 1, "modalities": ["genres"]}))
    assert counts(joins["genres"]) == (38, 40, 41, 0, 1)
    assert counts(joins["titles"]) == (38, 40, 41, 0, 1)
    assert counts(joins["item table"]) == (40, 40, 41, 0, 1)


@pytest.mark.parametrize("at_least", [0.5, 0.0])
def test_features_of_too_few_items_are_an_error_unless_allowed(at_least):
    write_interactions()
    Path("f.csv").write_text("id,f0,f1\ni1,1,2\ni2,2,7\ni3,4,4\n")
    config = {
        "kind": "table",
        "path": "x.csv",
        "core": 2,
        "files": {"image": {"path": "f.csv", "key": "id", "at_least": at_least}},
    }
    if at_least:
        with pytest.raises(DataError, match=r"data\.files\.image\.at_least: describes only 3 of 40 items"):
            read(config)
    else:
        assert any("describes 3 of 40 items" in text for text in read(config).provenance.warnings)


@pytest.mark.parametrize("which", ["item_table", "user_table"])
def test_a_table_of_too_few_items_or_users_is_an_error(which):
    write_interactions()
    Path("f.csv").write_text("\n".join(["id,f0", *(f"i{item},{item}.5" for item in range(ITEMS))]))
    Path("few.csv").write_text("id,tag\ni1,a\nu1,a\n")
    table = {"path": "few.csv", "key": "id", "columns": ["tag"]}
    files = {"image": {"path": "f.csv", "key": "id"}}
    with pytest.raises(DataError, match=rf"data\.{which}\.at_least: describes only 1 of"):
        read({"kind": "table", "path": "x.csv", "core": 2, "files": files, which: table})


def test_what_looks_wrong_in_columns_is_said_once_for_all_of_them():
    write_interactions()
    lines = ["id,Unnamed: 0,same,same2,zero,lone,good"]
    lines += [
        f"i{item},{item * 7},3,4,0,{50 if item == 9 else 1},{float(LOOKS[item, 0])}" for item in range(ITEMS)
    ]
    Path("f.csv").write_text("\n".join(lines) + "\n")
    files = {"image": {"path": "f.csv", "key": "id"}}
    dataset = read({"kind": "table", "path": "x.csv", "core": 2, "files": files})
    assert dataset.provenance.warnings == (
        (
            "data.files.image.values: the column Unnamed: 0 is the number of the row, so it is left out; "
            "name it in values to keep it"
        ),
        "data.files.image: 2 columns are the same for all items; the first is same",
        "data.files.image: 1 column is zero for all items; the first is zero",
        (
            "data.files.image: 1 column is dominated by one item, which has more than half of the column's "
            "squared sum; the first is lone, item i9"
        ),
    )
    named = {"image": {**files["image"], "values": ["Unnamed: 0", "good"]}}
    kept = read({"kind": "table", "path": "x.csv", "core": 2, "files": named})
    assert kept.modalities["image"].values.shape[1] == 2
    assert kept.provenance.warnings == ()


def test_every_filter_says_what_it_took():
    rows = ["user,item,stars,when", *(f"u{user},i{item},4,1" for user, item in PAIRS)]
    rows += ["u0,i0,4,2", "u1,bad,1,1", "lonely,i5,5,1", "u2,i41,4,1"]
    Path("x.csv").write_text("\n".join(rows) + "\n")
    Path("f.csv").write_text("\n".join(["id,f0", *(f"i{item},{item}.5" for item in range(ITEMS)), "bad,3.1"]))
    config = {
        "kind": "table",
        "path": "x.csv",
        "rating": "stars",
        "time": "when",
        "min_rating": 3,
        "core": 2,
        "items": "with_every_modality",
        "files": {"image": {"path": "f.csv", "key": "id"}},
    }
    removals = read(config).provenance.removals
    total = len(PAIRS)
    assert [(one.name, one.users, one.items, one.interactions) for one in removals] == [
        ("data.duplicates", 0, 0, 1),
        ("data.min_rating", 0, 1, 1),
        ("data.items", 0, 1, 1),
        ("data.core", 1, 0, 1),
    ]
    assert [(one.users_before, one.items_before, one.interactions_before) for one in removals] == [
        (21, 42, total + 4),
        (21, 42, total + 3),
        (21, 41, total + 2),
        (21, 40, total + 1),
    ]
    assert dataclasses.asdict(removals[0])["rule"] == "latest, one row a (user, item) pair"
