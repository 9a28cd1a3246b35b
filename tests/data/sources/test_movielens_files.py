from __future__ import annotations

import codecs
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources import DataConfig, MovieLensConfig, load, movielens

RATINGS = [
    # user, film, rating, time
    (1, 31, 2.0, 1260759144),
    (1, 1029, 3.0, 1260759179),
    (3, 31, 4.0, 1298861675),
    (3, 260, 5.0, 1298861589),
    (20, 260, 1.0, 949810645),
]
FILMS = [
    (31, "Dangerous Minds (1995)", ("Drama",)),
    (260, "Léon: The Professional (a.k.a. The Professional) (1989)", ("Action", "Crime", "Drama")),
    (777, 'Pharaoh\'s "Army", The (1995)', ("War",)),
    (1029, "Mission::Impossible\x85 (1996)", ()),
]
GENRES_100K = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
]


def csv(folder: Path) -> None:
    """latest-small, 20M, 25M, 32M."""
    rows = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in RATINGS)]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    films = ["movieId,title,genres"]
    for film, title, genres in FILMS:
        quoted = title.replace('"', '""')
        films.append(f'{film},"{quoted}",{"|".join(genres) or "(no genres listed)"}')
    (folder / "movies.csv").write_bytes(("\r\n".join(films) + "\r\n").encode("utf-8"))
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n")


def dat(folder: Path, encoding: str) -> None:
    """1M in latin-1, 10M in UTF-8."""
    rows = [
        "::".join((str(user), str(film), f"{rating:g}", str(time))) for user, film, rating, time in RATINGS
    ]
    (folder / "ratings.dat").write_text("\n".join(rows) + "\n")
    films = [f"{film}::{title}::{'|'.join(genres) or '(no genres listed)'}" for film, title, genres in FILMS]
    (folder / "movies.dat").write_bytes(("\n".join(films) + "\n").encode(encoding))


def hundred_k(folder: Path) -> None:
    """100K."""
    rows = [
        "\t".join((str(user), str(film), f"{rating:g}", str(time))) for user, film, rating, time in RATINGS
    ]
    (folder / "u.data").write_text("\n".join(rows) + "\n")
    (folder / "u1.base").write_text(rows[0] + "\n")
    films = [
        "|".join(
            (
                *(str(film), title, "01-Jan-1995", "", f"http://us.imdb.com/M/title-exact?{film}"),
                *("1" if genre in (genres or ("unknown",)) else "0" for genre in GENRES_100K),
            )
        )
        for film, title, genres in FILMS
    ]
    (folder / "u.item").write_bytes(("\n".join(films) + "\n").encode("latin-1"))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "csv": csv,
    "dat in latin-1": lambda folder: dat(folder, "latin-1"),
    "dat in utf-8": lambda folder: dat(folder, "utf-8"),
    "100k": hundred_k,
}


def written(layout: str, where: str) -> Path:
    """The data set as a folder, in a folder in one, or in a zip file."""
    folder = Path("ml") if where == "folder" else Path("outer/ml-x")
    folder.mkdir(parents=True)
    LAYOUTS[layout](folder)
    if where != "zip":
        return Path(folder.parts[0])
    with zipfile.ZipFile("ml.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder, "ml-x/")
        for file in folder.iterdir():
            archive.write(file, f"ml-x/{file.name}")
        archive.writestr("__MACOSX/ml-x/._ratings.csv", b"\x00")
    return Path("ml.zip")


def read(path: Path, **changes: object) -> Dataset:
    config = TypeAdapter(DataConfig).validate_python(
        {"kind": "movielens", "path": str(path), "core": 1, "modalities": ["genres"], **changes}
    )
    assert isinstance(config, MovieLensConfig)
    return config.read(ArrayCache(Path("cache")), 0)


@pytest.mark.parametrize("where", ["folder", "folder in a folder", "zip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_data_set(layout, where, fake_encoder, monkeypatch):
    monkeypatch.setattr(movielens, "movielens_version", None)
    dataset = read(written(layout, where), modalities=["text", "genres"])
    data = dataset.interactions
    assert (data.n_users, data.n_items) == (3, 3)
    assert dataset.user_ids.tolist() == ["1", "3", "20"]
    assert dataset.item_ids.tolist() == ["31", "260", "1029"]
    assert (data.user.tolist(), data.item.tolist()) == ([0, 0, 1, 1, 2], [0, 2, 0, 1, 1])
    assert dataset.columns.time.tolist() == [1260759144, 1260759179, 1298861675, 1298861589, 949810645]
    assert dataset.columns.time.dtype == torch.float64
    assert dataset.titles == tuple(title for film, title, _ in FILMS if film != 777)
    assert dataset.columns.item["genre"].tolist() == ["Drama", "Action", ""]
    assert dataset.columns.item["decade"].tolist() == ["1990s", "1980s", "1990s"]
    genres = dataset.modalities["genres"]  # Action, Crime, Drama
    assert genres.values.tolist() == [[0, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert genres.present.tolist() == [True, True, False]
    assert fake_encoder == [
        [
            "Dangerous Minds (1995), Drama",
            "Léon: The Professional (a.k.a. The Professional) (1989), Action, Crime, Drama",
            "Mission::Impossible\x85 (1996)",
        ]
    ]
    assert dataset.name == {"folder": "ml", "folder in a folder": "outer", "zip": "ml"}[where]


@pytest.mark.parametrize(
    ("layout", "file"), [("csv", "movies.csv"), ("dat in utf-8", "movies.dat"), ("100k", "u.item")]
)
def test_titles_that_look_like_missing_values_and_other_line_ends_are_read(layout, file):
    path = written(layout, "folder")
    content = (path / file).read_bytes().replace(b"\r\n", b"\n").replace(b"Dangerous Minds (1995)", b"NA")
    (path / file).write_bytes(content.replace(b"\n", b"\r\n"))
    dataset = read(path)
    assert dataset.titles[0] == "NA"
    assert dataset.columns.item["decade"].tolist() == ["", "1980s", "1990s"]
    assert dataset.modalities["genres"].values.tolist() == [[0, 0, 1], [1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("layout", "notes"),
    [
        ("csv", ()),
        ("dat in utf-8", ()),
        ("dat in latin-1", ("movies.dat: 2 rows are no UTF-8, so the file is read as Latin-1",)),
        ("100k", ("u.item: 2 rows are no UTF-8, so the file is read as Latin-1",)),
    ],
)
def test_a_file_that_is_read_as_latin_1_is_noted(layout, notes):
    assert read(written(layout, "folder")).provenance.notes == notes


def test_one_bad_byte_among_rows_of_utf_8_is_an_error_with_its_row():
    path = written("dat in utf-8", "folder")
    content = (path / "movies.dat").read_bytes()
    (path / "movies.dat").write_bytes(content.replace(b"Army", b"\xffrmy"))
    with pytest.raises(
        DataError, match=r"movies\.dat: data\.path: row 3 is not UTF-8 text, and the file is \(found .*\?rmy"
    ):
        read(path)


def test_a_file_that_is_marked_as_utf_8_is_not_read_as_latin_1():
    path = written("dat in utf-8", "folder")
    (path / "movies.dat").write_bytes(codecs.BOM_UTF8 + b"1::Am\xe9lie (2001)::Comedy\n")
    with pytest.raises(DataError, match=r"row 1 is not UTF-8 text, and the file is"):
        read(path)


def test_a_decimal_that_is_asked_for_is_read():
    path = written("csv", "folder")
    header, *rows = (path / "ratings.csv").read_text().splitlines()
    rows = [re.sub(r"^([^,]*,[^,]*),[^,]*,", r'\1,"3,500",', row) for row in rows]
    (path / "ratings.csv").write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(DataError, match=r"data\.decimal"):
        read(path)
    assert len(read(path, decimal=",", min_rating=3.5).interactions.user) == len(rows)


def test_a_time_of_zero_among_real_ones_is_a_warning():
    path = written("csv", "folder")
    rows = (path / "ratings.csv").read_text().replace("949810645", "0")
    (path / "ratings.csv").write_text(rows)
    doubt = "data.path: the times of timestamp are of several kinds: 4 in seconds, 1 at 0"
    assert doubt in read(path).provenance.warnings


def test_ratings_are_read():
    dataset = read(written("dat in utf-8", "folder"), min_rating=3)
    assert dataset.user_ids.tolist() == ["1", "3"]
    assert dataset.columns.time.tolist() == [1260759179, 1298861675, 1298861589]


def test_features_of_films_join_by_their_id():
    np.savez("f.npz", movieId=np.array([260, 31]), x=np.array([[1.0], [2.0]]))
    dataset = read(
        written("csv", "zip"),
        modalities=[],
        files={"trailer": {"path": "f.npz", "key": "movieId", "values": "x"}},
    )
    assert dataset.modalities["trailer"].values.tolist() == [[2], [1], [0]]


HEADER = "userId,movieId,rating,timestamp\n"
PUBLISHED = r"published by GroupLens \(grouplens\.org/datasets/movielens\)"


def test_a_missing_path_says_what_it_must_hold_and_where_that_is_published():
    with pytest.raises(
        DataError,
        match=r"^ml\.zip: data\.path: there is no such folder or zip file under the current directory .*; "
        rf"it must hold u\.data and u\.item \(100K\), .*{PUBLISHED}",
    ):
        read(Path("ml.zip"))
    Path("ml.zip").write_text("no archive")
    with pytest.raises(DataError, match=rf"^ml\.zip: data\.path: must be a folder or zip file.*{PUBLISHED}"):
        read(Path("ml.zip"))


@pytest.mark.parametrize("where", ["folder", "folder in a folder"])
def test_a_folder_without_films_says_what_was_found(where):
    path = written("csv", where)
    for file in path.rglob("movies.csv"):
        file.unlink()
    with pytest.raises(
        DataError,
        match=rf"data\.path: lacks a pair of .*; .*{PUBLISHED} \(found '.*links\.csv, .*ratings\.csv'",
    ):
        read(path)


def test_of_several_data_sets_one_must_be_named():
    for name, layout in (("outer/a", "csv"), ("outer/b", "100k")):
        Path(name).mkdir(parents=True)
        LAYOUTS[layout](Path(name))
    with pytest.raises(
        DataError, match=r"^outer: data\.path: holds several .*\(found 'a/ratings\.csv, b/u\.data'\)"
    ):
        read(Path("outer"))
    assert len(read(Path("outer/b")).interactions) == 5


@pytest.mark.parametrize(
    ("layout", "file", "content", "message"),
    [
        (
            *("csv", "ratings.csv", "userId,movieId,rating\n1,2,3\n"),
            r"there is no such column; the file has userId, movieId, rating \(found 'timestamp'\)",
        ),
        (
            *("csv", "ratings.csv", f"{HEADER}1,2,x,4\n"),
            r"the column must hold numbers; row 1 has x \(found 'rating'\)",
        ),
        ("csv", "ratings.csv", f"{HEADER}1,2,,4\n", r"1 values .* missing .* in row 1 \(found 'rating'\)"),
        ("csv", "ratings.csv", f"{HEADER}1,,3,4\n", r"1 rows have no id; .* row 1 \(found 'movieId'\)"),
        ("csv", "ratings.csv", HEADER, "holds no row"),
        ("csv", "movies.csv", "movieId,name\n1,x\n", r"there is no such column; .* \(found 'title'\)"),
        ("csv", "movies.csv", "movieId,title,genres\n1,x,y\n1,z,y\n", "1 item ids occur more than once"),
        ("100k", "u.data", "1\t2\t3\n", r"row 1 has 3 fields where the format has 4 \(found '1\\t2\\t3'\)"),
        ("100k", "u.item", "1|x|y\n", r"row 1 is not an id, a title and genres \(found '1\|x\|y'\)"),
        ("100k", "u.item", "1|x|d||u|0|1\n", "row 1 is not an id, a title and genres"),
        ("dat in utf-8", "ratings.dat", "", "holds no row"),
        ("dat in utf-8", "ratings.dat", "1::2::3\n", "row 1 has 3 fields where the format has 4"),
        (
            "dat in utf-8",
            "movies.dat",
            "31::y\n",
            r"row 1 is not an id, a title and genres \(found '31::y'\)",
        ),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_named(layout, file, content, message):
    path = written(layout, "folder")
    (path / file).write_text(content)
    with pytest.raises(DataError, match=rf"^ml/{file}: data\.path: {message}"):
        read(path)


def test_a_repeated_rating_is_an_error():
    path = written("csv", "folder")
    with (path / "ratings.csv").open("a") as stream:
        stream.write("1,31,5.0,1260759145\n")
    with pytest.raises(
        DataError, match=r"ratings\.csv: .*1 rows repeat a .* rows 1 and 6, user 1 and item 31\."
    ):
        read(path)


def test_a_damaged_zip_file_is_an_error():
    path = written("csv", "zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("ml-x/ratings.csv").header_offset
    content[start + 60] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^ml\.zip/ml-x/ratings\.csv: data\.path: cannot be read: "):
        read(path)


@pytest.mark.parametrize("where", ["folder", "folder in a folder", "zip"])
def test_the_cache_follows_the_files(where, monkeypatch):
    path = written("csv", where)
    reads = []
    original = MovieLensConfig.read

    def counted(config: MovieLensConfig, cache: ArrayCache, seed: int) -> Dataset:
        reads.append(1)
        return original(config, cache, seed)

    monkeypatch.setattr(MovieLensConfig, "read", counted)
    monkeypatch.setattr(
        "painvrl.data.sources.movielens.movielens_version", None
    )  # the package is not asked for
    config = MovieLensConfig(path=path, core=1, modalities=("genres",))
    before = load(config, cache_dir=Path("cache"), seed=0)
    again = load(config, cache_dir=Path("cache"), seed=0)
    assert len(reads) == 1
    assert torch.equal(again.columns.time, before.columns.time)
    if where == "zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("ml-x/more", "x")
        load(config, cache_dir=Path("cache"), seed=0)
    else:
        (file,) = path.rglob("ratings.csv")
        file.write_text(file.read_text() + "20,31,3.0,1\n")
        assert load(config, cache_dir=Path("cache"), seed=0).fingerprint != before.fingerprint
    assert len(reads) == 2
