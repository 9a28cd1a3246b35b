"""MovieLens as GroupLens publishes it: a folder, or a zip file that is read without unpacking it.

Which of the layouts it is (``u.data``, ``ratings.dat``, ``ratings.csv``) is seen from the content.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from painvrl.core.errors import DataError
from painvrl.data.sources.columns import id_column, number_column, require_distinct, text_column
from painvrl.data.sources.folder import Layout, unfit
from painvrl.data.sources.items import split_names
from painvrl.data.sources.rows import RawInteractions
from painvrl.data.sources.tabular import Table, first_line, lines_of, listing, parse_table
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


@dataclass(frozen=True, kw_only=True)
class MovieLensFiles:
    """What the files say.

    Attributes:
        raw: ``R`` ratings with their times in seconds since 1970.
        film_ids: ``[M]`` distinct ids, str objects.
        titles: ``M`` titles with their year, as published.
        genres: ``M`` tuples of names.
    """

    raw: RawInteractions
    film_ids: np.ndarray
    titles: tuple[str, ...]
    genres: tuple[tuple[str, ...], ...]


def rating_files(path: Path) -> tuple[Path, ...]:
    """The files whose content decides the data set; none where nothing in the folder ``path`` fits."""
    place = path.expanduser()
    if not place.is_dir():
        return (place,)
    names = [name for ratings in _candidates(_names(place)) for name in (ratings, _films_of(ratings))]
    return tuple(place / name for name in names)


def read_movielens_files(path: Path) -> MovieLensFiles:
    """Read ratings and films.

    Raises:
        DataError: there is no such folder or zip file, it holds none of the layouts or several of them,
            or a file in it is not as it must be.
    """
    place = path.expanduser()
    if not place.exists() or not (place.is_dir() or zipfile.is_zipfile(place)):
        raise unfit(path, LAYOUT, "everything")
    with _readable(path):
        names = _names(place)
    found = _candidates(names)
    if not found:
        raise unfit(path, LAYOUT, "a pair of these files", found=[str(name) for name in names])
    if len(found) > 1:
        raise DataError(
            "holds several data sets; name the folder of one of them",
            file=path,
            key="data.path",
            value=listing([str(name) for name in found]),
        )
    ratings, films = found[0], _films_of(found[0])
    raw = _read_ratings(_content(place, ratings, path), path / ratings)
    described = _read_films(_content(place, films, path), path / films)
    ids = Texts.of(film for film, _, _ in described)
    require_distinct(ids, file=path / films, key="data.path", value="film ids")
    return MovieLensFiles(
        raw=raw,
        film_ids=ids.distinct[ids.code],
        titles=tuple(title for _, title, _ in described),
        genres=tuple(genres for _, _, genres in described),
    )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """What goes wrong while ``file`` is read is an error of the data."""
    try:
        yield
    # Parser and encoding errors are ValueErrors; the others come from damaged or encrypted archives.
    except (
        *(OSError, EOFError, ValueError, LookupError, RuntimeError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise DataError(f"cannot be read: {first_line(error)}", file=file, key="data.path") from error


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
    with _readable(path / name):
        if place.is_dir():
            return (place / name).read_bytes()
        with zipfile.ZipFile(place) as archive:
            return archive.read(str(name))


def _read_ratings(content: bytes, file: Path) -> RawInteractions:
    """The rows in the order of the file."""
    if file.name == "ratings.csv":
        table = parse_table(content, file=file, key="data.path", separator=",")
    else:
        # "1::1193::5::978300760" in ratings.dat; a tab in such a field is one field too many.
        fields = ("userId", "movieId", "rating", "timestamp")
        rows = content.replace(b"::", b"\t")
        table = parse_table(rows, file=file, key="data.path", separator="\t", quotes=False, header=fields)
    return RawInteractions(
        user=id_column(table, "userId", key="data.path"),
        item=id_column(table, "movieId", key="data.path"),
        rating=number_column(table, "rating", key="data.path"),
        file=file,
        time=number_column(table, "timestamp", key="data.path"),
    )


def _read_films(content: bytes, file: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Id, title and genres of each film."""
    if file.name == "movies.csv":
        return _films_of_csv(parse_table(content, file=file, key="data.path", separator=","))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:  # 100K and 1M
        text = content.decode("latin-1")
    lines = [line for line in lines_of(text) if line]
    films = []
    for row, line in enumerate(lines):
        film = _film_100k(line) if file.name == "u.item" else _film_dat(line)
        if film is None or not film[0]:
            raise DataError(
                f"row {row + 1} is not an id, a title and genres", file=file, key="data.path", value=line[:80]
            )
        films.append(film)
    return films


def _films_of_csv(table: Table) -> list[tuple[str, str, tuple[str, ...]]]:
    ids = id_column(table, "movieId", key="data.path").tolist()
    titles = text_column(table, "title", key="data.path")
    genres = text_column(table, "genres", key="data.path")
    return [(film, title, _listed(names)) for film, title, names in zip(ids, titles, genres, strict=True)]


def _film_dat(line: str) -> tuple[str, str, tuple[str, ...]] | None:
    """``1::Toy Story (1995)::Animation|Children's|Comedy``; ``None`` where it is none."""
    if line.count("::") < 2:
        return None
    film, _, rest = line.partition("::")
    title, _, genres = rest.rpartition("::")
    return film, title, _listed(genres)


def _film_100k(line: str) -> tuple[str, str, tuple[str, ...]] | None:
    """``1|Toy Story (1995)|01-Jan-1995||http://...|0|0|0|1|...``; ``None`` where it is none."""
    fields = line.split("|")
    if len(fields) != 6 + len(_GENRES_100K):
        return None
    film, title, _, _, _, _, *flags = fields
    if not set(flags) <= {"0", "1"}:
        return None
    return film, title, tuple(genre for genre, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1")


def _listed(genres: str) -> tuple[str, ...]:
    return () if genres == NO_GENRES else split_names(genres, "|")
