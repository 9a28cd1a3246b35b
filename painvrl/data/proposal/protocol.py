"""Which core and which split protocol fit the interactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from painvrl.core.errors import ConfigError, DataError, UserError
from painvrl.core.rng import derive_seed
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.proposal.entries import Entry
from painvrl.data.proposal.questions import Answers
from painvrl.data.sources.table import TableConfig
from painvrl.data.splits.rows import PROTOCOLS
from painvrl.data.splits.split import make_split

CORES = (5, 3, 2, 1)
_WHY: Mapping[str, str] = {
    "cold_item": "OOD are items that training never saw, known by their features alone",
    "temporal": "OOD is what came last: training sees only what was before",
    "temporal_user": "OOD is what each user took last",
    "popularity": "OOD are rows that lean to items that few took",
}
_ONE_LIST = "cold items compete with the whole catalogue, as they do for a user"
_SETTINGS: Mapping[str, tuple[Entry, ...]] = {
    "cold_item": (
        Entry(key="ood_candidates", value="all", why=_ONE_LIST),
        Entry(key="iid_candidates", value="all", why="and warm items do, too: one list"),
    ),
    "temporal": (Entry(key="iid_candidates", value="all", why="one list for IID and OOD"),),
    "temporal_user": (Entry(key="iid_candidates", value="all", why="one list for IID and OOD"),),
    "popularity": (),
}


def fitted(
    config: TableConfig, answers: Answers, *, covered: bool
) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Further entries of ``data``, and the section ``split``: both are tried on the interactions.

    Args:
        config: the data section, which says nothing of the core yet.
        answers: may name the protocol.
        covered: whether features describe at least half of the items.

    Raises:
        UserError: no protocol fits; it says why the last one does not.
    """
    rows = config.model_copy(update={"item_table": None, "files": {}, "user_table": None, "core": 1})
    further: list[Entry] = []
    try:
        _read(rows)
    except DataError as error:
        if error.key != "data.duplicates" or config.rating is None:
            raise
        further.append(Entry(key="duplicates", value="best", why="users rated an item more than once"))
        rows = rows.model_copy(update={"duplicates": "best"})
    asked = answers.given.get("--protocol")
    if asked is not None and asked not in _SETTINGS:
        rule = f"init writes {', '.join(_SETTINGS)}; docs/splits.md has the others"
        raise ConfigError(rule, key="--protocol", value=asked)
    # Features are what the method is about, and cold items need them; only some tables have times.
    order = ["cold_item"] if covered else []
    order += ["temporal", "temporal_user"] if config.time is not None else []
    passed: dict[str, str] = {}
    refused: UserError | None = None
    for protocol in [asked] if asked is not None else [*order, "popularity"]:
        for core, dataset in _cores(rows):
            try:
                split = make_split(dataset, _rule(protocol), seed=derive_seed(0, "split"))
            except UserError as error:
                refused = error
                continue
            counts = split.statistics
            kept = f"{counts.users:,} users, {counts.items:,} items, {counts.interactions:,} interactions"
            further.append(Entry(key="core", value=core, why=f"the highest that fits; it leaves {kept}"))
            answers.said += [
                f"core {core}: leaves {kept}",
                f"split {protocol}: {_WHY[protocol]}",
                *passed.values(),
            ]
            others = [one for one in order if one not in (protocol, *passed)]
            why = _WHY[protocol] + (f"; or: {', '.join(others)}" if others else "")
            return tuple(further), (Entry(key="protocol", value=protocol, why=why), *_SETTINGS[protocol])
        passed[protocol] = f"{protocol} does not fit: {refused}"
    assert refused is not None
    raise refused


def _cores(rows: TableConfig) -> Iterator[tuple[int, Dataset]]:
    """The data set under each core that loses at most half of the users and of the interactions."""
    for core in CORES:
        try:
            dataset = _read(rows.model_copy(update={"core": core}))
        except DataError:
            if core == 1:
                raise
            continue
        cut = [one for one in dataset.provenance.removals if one.name == "data.core"]
        if core == 1 or all(one.warning() is None for one in cut):
            yield core, dataset


def _read(rows: TableConfig) -> Dataset:
    return rows.read(ArrayCache(Path()), 0)  # without texts nothing is cached


def _rule(protocol: str) -> Any:
    settings = {entry.key: entry.value for entry in _SETTINGS[protocol]}
    return PROTOCOLS.get(protocol).model_validate({"protocol": protocol, **settings})
