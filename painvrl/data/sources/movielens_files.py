"""MovieLens as GroupLens publishes it: a folder, or a zip file that is read without unpacking it.

Which of the layouts it is (``u.data``, ``ratings.dat``, ``ratings.csv``) is seen from the content.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from painvrl.data.sources.folder import Layout, unfit
from painvrl.data.sources.items import split_names
from painvrl.data.sources.rows import RawInteractions, without_duplicates
from painvrl.data.sources.tabular import first_line, listing, require_distinct
from painvrl.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

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
        raw: ``R`` ratings with their times in seconds since 1970, without duplicates.
        film_ids: ``[M]`` int64, distinct.
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
    where = path / ratings
    with _readable(path / ratings):
        frame = _read_ratings(place, ratings)
    with _readable(path / films):
        described = _read_films(place, films)
    rating = frame["rating"].to_numpy()
    if len(rating) == 0:
        raise DataError("holds no rating", file=where, key="data.path")
    if not np.isfinite(rating).all():
        row = int((~np.isfinite(rating)).argmax())
        raise DataError("a rating is missing", file=where, key="data.path", value=f"row {row + 1}")
    raw = RawInteractions(
        user=frame["user"].to_numpy(),
        item=frame["item"].to_numpy(),
        rating=rating,
        file=where,
        time=frame["time"].to_numpy(),
    )
    if _repeats(raw):
        raw = without_duplicates(raw, None, duplicates="error")
    ids = np.array([film for film, _, _ in described], dtype=np.int64)
    require_distinct(ids, file=path / films, key="data.path", value="film ids")
    return MovieLensFiles(
        raw=raw,
        film_ids=ids,
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


class _Opened:
    """A file in a folder or in a zip file, open as bytes."""

    def __init__(self, place: Path, name: PurePosixPath) -> None:
        self._archive = None if place.is_dir() else zipfile.ZipFile(place)
        self._stream: IO[bytes] = (
            (place / name).open("rb") if self._archive is None else self._archive.open(str(name))
        )

    def __enter__(self) -> IO[bytes]:
        return self._stream

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        if self._archive is not None:
            self._archive.close()


def _read_ratings(place: Path, name: PurePosixPath) -> pd.DataFrame:
    """Columns user, item (int64), rating, time (float64), in the order of the file's rows."""
    import pandas as pd

    header: int | None
    fields: list[str] | list[int]
    match name.name:
        case "ratings.csv":
            separator, header, fields = ",", 0, ["userId", "movieId", "rating", "timestamp"]
        case "ratings.dat":
            # "1::1193::5::978300760" between single colons: every other field is empty. One character keeps
            # pandas in its fast parser.
            separator, header, fields = ":", None, [0, 2, 4, 6]
        case _:
            separator, header, fields = "\t", None, [0, 1, 2, 3]
    types = dict(zip(fields, (np.int64, np.int64, np.float64, np.float64), strict=True))
    with _Opened(place, name) as stream:
        frame = pd.read_csv(stream, sep=separator, header=header, usecols=fields, dtype=types)
    return frame[fields].set_axis(["user", "item", "rating", "time"], axis=1)


def _read_films(place: Path, name: PurePosixPath) -> list[tuple[int, str, tuple[str, ...]]]:
    """Id, title and genres of each film."""
    with _Opened(place, name) as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:  # 100K and 1M
        text = content.decode("latin-1")
    if name.name == "movies.csv":
        return _films_of_csv(text)
    # Not splitlines(), which also breaks at characters that titles in latin-1 may hold.
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    return [_film_100k(line) if name.name == "u.item" else _film_dat(line) for line in lines]


def _films_of_csv(text: str) -> list[tuple[int, str, tuple[str, ...]]]:
    import pandas as pd

    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    return [
        (int(film), title.strip(), _listed(genres))
        for film, title, genres in zip(frame["movieId"], frame["title"], frame["genres"], strict=True)
    ]


def _film_dat(line: str) -> tuple[int, str, tuple[str, ...]]:
    """``1::Toy Story (1995)::Animation|Children's|Comedy``."""
    film, _, rest = line.partition("::")
    title, _, genres = rest.rpartition("::")
    return int(film), title.strip(), _listed(genres)


def _film_100k(line: str) -> tuple[int, str, tuple[str, ...]]:
    """``1|Toy Story (1995)|01-Jan-1995||http://...|0|0|0|1|...``."""
    film, title, _, _, _, _, *flags = line.split("|")
    return int(film), title.strip(), tuple(
        genre for genre, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"
    )  # fmt: skip


def _listed(genres: str) -> tuple[str, ...]:
    return () if genres == NO_GENRES else split_names(genres, "|")


def _repeats(raw: RawInteractions) -> bool:
    """Whether a (user, item) pair occurs again; one sort, where naming it takes several."""
    pair = np.sort(raw.user * (int(raw.item.max(initial=0)) + 1) + raw.item)
    return bool((pair[1:] == pair[:-1]).any())
