"""MovieLens as GroupLens publishes it: a folder, or a zip file that is read without unpacking it.

Which of the layouts it is (``u.data``, ``ratings.dat``, ``ratings.csv``) is seen from the content.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from painvrl.core.errors import listing
from painvrl.data.sources.columns import Column, require_distinct
from painvrl.data.sources.items import split_names
from painvrl.data.sources.messages import Layout, Place, unfit
from painvrl.data.sources.rows import RawInteractions
from painvrl.data.sources.tabular import lines_of, parse_table
from painvrl.data.sources.texts import Texts

FILMS: Final = {"ratings.csv": "movies.csv", "ratings.dat": "movies.dat", "u.data": "u.item"}
"""The file of ratings that marks a layout, and its file of films."""
NO_GENRES: Final = "(no genres listed)"
LAYOUT: Final = Layout(
    files="u.data and u.item (100K), ratings.dat and movies.dat (1M, 10M), or ratings.csv and movies.csv "
    "(latest-small, 20M, 25M, 32M), itself or in one folder",
    published="by GroupLens (grouplens.org/datasets/movielens)",
    kind="folder or zip file",
)
_GENRES_100K: Final = (
    *("Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The flags of ``u.item`` from field 6 on; field 5 says that the genre is unknown."""


class Film(NamedTuple):
    """Its id, its title with its year, as published, and the names of its genres."""

    id: str
    title: str
    genres: tuple[str, ...]


@dataclass(frozen=True)
class MovieLens:
    """``R`` ratings with their times in seconds since 1970, and ``M`` films."""

    raw: RawInteractions
    films: Sequence[Film]


def rating_files(path: Path) -> tuple[Path, ...]:
    """The files whose content decides the data set; none where nothing in the folder ``path`` fits."""
    place = path.expanduser()
    if not place.is_dir():
        return (place,)
    names = [name for ratings in _candidates(_names(place)) for name in (ratings, _films_of(ratings))]
    return tuple(place / name for name in names)


def read_movielens_files(path: Path) -> MovieLens:
    """Read ratings and films.

    Raises:
        DataError: there is no such folder or zip file, it holds none of the layouts or several of them,
            or a file in it is not as it must be.
    """
    place = path.expanduser()
    if not place.exists() or not (place.is_dir() or zipfile.is_zipfile(place)):
        raise unfit(path, LAYOUT, "everything")
    with Place(path, "data.path").reading():
        names = _names(place)
    found = _candidates(names)
    if not found:
        raise unfit(path, LAYOUT, "a pair of these files", found=[str(name) for name in names])
    if len(found) > 1:
        rule = "holds several data sets; name the folder of one of them"
        raise Place(path, "data.path").error(rule, listing([str(name) for name in found]))
    ratings, films = found[0], _films_of(found[0])
    raw = _read_ratings(_content(place, ratings, path), path / ratings)
    described = _read_films(_content(place, films, path), Place(path / films, "data.path"))
    require_distinct(Texts.of(film.id for film in described), Place(path / films, "data.path", "film ids"))
    return MovieLens(raw, described)


def _names(place: Path) -> list[PurePosixPath]:
    """Files in a zip file, or in a folder and in those right below, relative to it."""
    if place.is_dir():
        files = [file for pattern in ("*", "*/*") for file in sorted(place.glob(pattern)) if file.is_file()]
        return [PurePosixPath(file.relative_to(place).as_posix()) for file in files]
    with zipfile.ZipFile(place) as archive:
        return [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]


def _candidates(names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """The files of ratings beside which their file of films lies."""
    return [name for name in names if name.name in FILMS and _films_of(name) in names]


def _films_of(ratings: PurePosixPath) -> PurePosixPath:
    return ratings.with_name(FILMS[ratings.name])


def _content(place: Path, name: PurePosixPath, path: Path) -> bytes:
    """The bytes of a file in a folder or in a zip file."""
    with Place(path / name, "data.path").reading():
        if place.is_dir():
            return (place / name).read_bytes()
        with zipfile.ZipFile(place) as archive:
            return archive.read(str(name))


def _read_ratings(content: bytes, file: Path) -> RawInteractions:
    """The rows in the order of the file."""
    place = Place(file, "data.path")
    if file.name == "ratings.csv":
        table = parse_table(content, place, separator=",")
    else:
        # "1::1193::5::978300760" in ratings.dat; a tab in such a field is one field too many.
        fields = ("userId", "movieId", "rating", "timestamp")
        rows = content.replace(b"::", b"\t")
        table = parse_table(rows, place, separator="\t", quotes=False, header=fields)
    return RawInteractions(
        user=Column(table, "userId", place.key).ids(),
        item=Column(table, "movieId", place.key).ids(),
        rating=Column(table, "rating", place.key).numbers(),
        file=file,
        time=Column(table, "timestamp", place.key).numbers(),
    )


def _read_films(content: bytes, place: Place) -> list[Film]:
    name = PurePosixPath(place.file).name
    if name == "movies.csv":
        table = parse_table(content, place, separator=",")
        ids = Column(table, "movieId", place.key).ids().tolist()
        titles, genres = (Column(table, column, place.key).texts() for column in ("title", "genres"))
        rows = zip(ids, titles, genres, strict=True)
        return [Film(film, title, listed(names)) for film, title, names in rows]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:  # 100K and 1M
        text = content.decode("latin-1")
    films = []
    for row, line in enumerate(line for line in lines_of(text) if line):
        film = _film_100k(line) if name == "u.item" else _film_dat(line)
        if film is None or not film.id:
            raise place.error(f"row {row + 1} is not an id, a title and genres", line[:80])
        films.append(film)
    return films


def _film_dat(line: str) -> Film | None:
    """``1::Toy Story (1995)::Animation|Children's|Comedy``; ``None`` where it is none."""
    if line.count("::") < 2:
        return None
    film, _, rest = line.partition("::")
    title, _, genres = rest.rpartition("::")
    return Film(film, title, listed(genres))


def _film_100k(line: str) -> Film | None:
    """``1|Toy Story (1995)|01-Jan-1995||http://...|0|0|0|1|...``; ``None`` where it is none."""
    fields = line.split("|")
    flags = fields[6:]
    if len(flags) != len(_GENRES_100K) or not set(flags) <= {"0", "1"}:
        return None
    genres = tuple(genre for genre, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1")
    return Film(fields[0], fields[1], genres)


def listed(genres: str) -> tuple[str, ...]:
    """The names that a field of genres holds."""
    return () if genres == NO_GENRES else split_names(genres, "|")
