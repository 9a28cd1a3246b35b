"""Which sources of data there are, what they want, and what is prepared already: ``painvrl data list``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from painvrl.core.errors import DataError
from painvrl.core.tables import Block, Result, TextTable
from painvrl.data.cache import ArrayCache
from painvrl.data.sources.port import SOURCES, Source
from painvrl.data.sources.prepared import load_dataset


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """``kind`` of source, ``what`` it reads, and whether it is ``there``, in words."""

    kind: str
    what: str
    there: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set in the cache, under ``key``; ``mib`` on the disk."""

    key: str
    name: str
    users: int
    items: int
    interactions: int
    mib: float


@dataclass(frozen=True, kw_only=True)
class DataList(Result):
    """Sources, prepared data sets, and entries of encoded texts in the cache."""

    sources: tuple[SourceFacts, ...]
    prepared: tuple[Prepared, ...]
    encodings: int

    def blocks(self) -> Iterator[Block]:
        """A table each."""
        yield TextTable(
            columns=("data.kind", "reads", "there"),
            rows=[(one.kind, one.what, one.there) for one in self.sources],
        )
        yield (
            TextTable.of(
                {
                    "prepared": one.name,
                    "users": f"{one.users:,}",
                    "items": f"{one.items:,}",
                    "interactions": f"{one.interactions:,}",
                    "MiB": f"{one.mib:.1f}",
                }
                for one in self.prepared
            )
            if self.prepared
            else "no data set is prepared in the cache"
        )
        yield f"encoded texts in the cache: {self.encodings}"


def list_data(cache_dir: Path) -> DataList:
    """What there is; a damaged entry of the cache is left out, as a study would make it again."""
    prepared = ArrayCache(cache_dir / "prepared")
    found = []
    for path in sorted(prepared.folder.glob("*.npz")):
        if (dataset := load_dataset(prepared, path.stem)) is None:
            continue
        beside = sum(one.stat().st_size for one in prepared.folder.glob(f"{path.stem}*"))
        data = dataset.interactions
        found.append(
            Prepared(
                key=path.stem,
                name=dataset.name,
                users=data.n_users,
                items=data.n_items,
                interactions=len(data),
                mib=beside / 2**20,
            )
        )
    return DataList(
        sources=tuple(
            SourceFacts(kind=kind, what=_first_line(source), there=_there(source))
            for kind, source in SOURCES.entries().items()
        ),
        prepared=tuple(found),
        encodings=len(list((cache_dir / "encodings").glob("*.npz"))),
    )


def _first_line(source: type[Source]) -> str:
    return (source.__doc__ or "").strip().partition("\n")[0].replace("``", "").rstrip(".")


def _there(source: type[Source]) -> str:
    """Whether it reads something without being told more."""
    try:
        settings = source()  # type: ignore[call-arg]  # some have a default for every key
    except ValidationError as error:
        missing = [".".join(map(str, one["loc"])) for one in error.errors() if one["type"] == "missing"]
        return f"yours: data.{', data.'.join(missing)} names it" if missing else "yours"
    try:
        packages = settings.packages()
    except DataError as error:
        return error.rule
    return f"installed: {', '.join(packages)}" if packages else "always there"
