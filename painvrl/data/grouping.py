"""Known groups of interactions: by a column, by time, by popularity or by content.

They can stand in for environments that nobody has to find. Groups are made of train rows alone: bins by count
hold equally many of them, and popularity is that of the train part.

Shape letters: ``N`` train interactions, ``I`` items.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from painvrl.core.errors import ConfigError, listing
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.data.dataset import Dataset, Modality
from painvrl.data.disagreement import disagreement
from painvrl.data.interactions import Interactions
from painvrl.data.smooth import numbers_of
from painvrl.data.splits.clusters import content_clusters
from painvrl.data.splits.rows import Table, table_of

KEY = "environments.column"
TIME, POPULARITY, CLUSTERS, DISAGREEMENT = "time", "popularity", "clusters", "disagreement"
LONGEST = 60
"""Letters of a label in the name of its group."""

Edge = dt.date | float


class Grouping(Settings):
    """One way to tell interactions apart."""

    column: str = Field(min_length=1)
    """A column of the interactions, the items or the users. Or ``time``, ``popularity`` (the item's train
    interactions), ``clusters`` (k-means on the items' features) or ``disagreement`` (how little an item's
    modalities agree).
    """
    of: Literal["interactions", "items", "users"] | None = None
    """Whose column it is; needed only where several have one of that name."""
    bins: int | tuple[Edge, ...] | None = None
    """Of numbers or times: how many bins of equally many interactions, or where one bin ends and the next
    begins (dates for ``time``). Of ``clusters``: how many; a count of ``disagreement`` makes clusters, too.
    """
    unknown: Literal["error", "own", "open"] = "error"
    """Interactions without a label are an ``error``, a group of their ``own``, or left ``open`` for an
    identification that starts from the others.
    """

    @field_validator("bins")
    @classmethod
    def _makes_several(cls, bins: int | tuple[Edge, ...] | None) -> int | tuple[Edge, ...] | None:
        if isinstance(bins, int) and not 2 <= bins <= 50:
            raise ValueError("must make 2 to 50 groups")
        if isinstance(bins, tuple):
            kinds = {isinstance(edge, dt.date) for edge in bins}
            if len(kinds) != 1 or any(not a < b for a, b in pairwise(bins)):  # type: ignore[operator]
                raise ValueError("edges must be rising numbers or rising dates, at least one")
        return bins

    @model_validator(mode="after")
    def _fits_the_column(self) -> Self:
        dates = isinstance(self.bins, tuple) and isinstance(self.bins[0], dt.date)
        if self.of is None and self.column == CLUSTERS and not isinstance(self.bins, int):
            raise ValueError("clusters needs bins, the number of groups")
        if self.of is None and self.column in (POPULARITY, DISAGREEMENT) and (self.bins is None or dates):
            raise ValueError(f"{self.column} needs bins: a number of groups, or edges")
        if self.of is None and self.column == TIME:
            if self.bins is None:
                raise ValueError("time needs bins: a number of groups, or dates")
            if isinstance(self.bins, tuple) and not dates:
                raise ValueError("edges of time must be dates such as 2015-06-30")
        elif dates:
            raise ValueError("only time can be cut at dates")
        return self


@dataclass(frozen=True, kw_only=True)
class KnownGroups:
    """Groups of the train interactions.

    Attributes:
        label: ``[N]`` int64 in ``[0, E)``, in the order of the interactions; -1 of those left open.
        names: of the ``E`` groups, no two alike.
        sizes: interactions of each.
        empty: names of groups that were asked for and hold no interaction.
    """

    label: Tensor
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    empty: tuple[str, ...] = ()

    @property
    def left_open(self) -> int:
        """How many interactions are in no group."""
        return int((self.label < 0).sum())

    def without(self, index: int) -> KnownGroups:
        """The other groups, of the interactions that are in them."""
        label = self.label[self.label != index]
        return KnownGroups(
            label=torch.where(label > index, label - 1, label),
            names=self.names[:index] + self.names[index + 1 :],
            sizes=self.sizes[:index] + self.sizes[index + 1 :],
        )

    def said(self) -> str:
        """All groups with their sizes, for people."""
        each = [f"{name} ({size:,})" for name, size in zip(self.names, self.sizes, strict=True)]
        return listing(each, 12)


def known_groups(
    dataset: Dataset, train: Interactions, groupings: Sequence[Grouping], seed: int
) -> KnownGroups:
    """The groups of ``train``, some of the interactions of ``dataset``; several groupings are crossed.

    Raises:
        ConfigError: there is no such column, a row has no label, values are not numbers, or all
            interactions are in one group.
    """
    everything = table_of(dataset)
    table = everything.select(torch.searchsorted(everything.interactions.cells(), train.cells()))
    codes = np.zeros(len(train), dtype=np.int64)
    names, empty = [""], []
    for position, grouping in enumerate(groupings):
        key = f"{KEY}.{position}" if len(groupings) > 1 else KEY
        code, own = _one(table, grouping, key, seed)
        if isinstance(grouping.bins, tuple):  # of those that are found none is empty
            empty += [own[place] for place in range(len(grouping.bins) + 1) if not (code == place).any()]
        codes = np.where((codes < 0) | (code < 0), -1, codes * len(own) + code)
        names = [f"{above} x {name}".removeprefix(" x ") for above in names for name in own]
    found, places, sizes = np.unique(codes[codes >= 0], return_inverse=True, return_counts=True)
    label = np.full(len(codes), -1, dtype=np.int64)
    label[codes >= 0] = places
    groups = KnownGroups(
        label=torch.from_numpy(label),
        names=_told_apart([names[index] for index in found]),
        sizes=tuple(sizes.tolist()),
        empty=tuple(empty),
    )
    if len(groups.names) < 2:
        raise ConfigError("all train interactions are in one group", key=KEY, value=groups.said())
    return groups


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """The names, of which labels that contain " x " may make two alike: the second one gets a number."""
    found: dict[str, None] = {}
    for name in names:
        further = (f"{name} ({number})" for number in count(2))
        found[name if name not in found else next(one for one in further if one not in found)] = None
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class LeftOutGroup:
    """What can be asked for of a group that train lacks.

    Attributes:
        rows: of its interactions those whose users train knows without it.
        candidates: ``[I]`` bool, among which items they are ranked.
        alone: its new items are ranked among themselves; rows of other items are left out.
        said: how many of its rows are left out, and why; empty where none is.
    """

    rows: Interactions
    candidates: Tensor
    alone: bool
    said: str


def left_out_group(train: Interactions, groups: KnownGroups, index: int, *, held_out: bool) -> LeftOutGroup:
    """A group of ``train`` as a part to be asked for; ``held_out`` as the OOD items are ranked."""
    inside = groups.label == index
    left, rest = train.select(inside), train.select(~inside)
    users, items = rest.user_degree() > 0, rest.item_degree() > 0
    rows = left.select(users[left.user])
    new = (left.item_degree() > 0) & ~items
    alone = held_out and bool(new[rows.item].any())
    why = {"of users whom no other group has": len(left) - len(rows)}
    if alone:
        known = len(rows)
        rows = rows.select(new[rows.item])
        why["of items that another group has"] = known - len(rows)
    lost = " and ".join(f"{count:,} {what}" for what, count in why.items() if count)
    return LeftOutGroup(
        rows=rows,
        candidates=new if alone else (train.item_degree() > 0),
        alone=alone,
        said=lost and f"{groups.names[index]} is not asked for {lost} (of {len(left):,} rows)",
    )


def _one(table: Table, grouping: Grouping, key: str, seed: int) -> tuple[np.ndarray, list[str]]:
    """``[N]`` groups by number, and their names in that order."""
    if grouping.of is None and grouping.column in (TIME, POPULARITY, CLUSTERS, DISAGREEMENT):
        _require_no_such_column(table, grouping.column, key)
    if grouping.of is None and grouping.column == TIME:
        time = table.columns.time
        if time is None:
            rule = "needs the time of every interaction (of a table: data.time names the column)"
            raise ConfigError(rule, key=key, value=f"time on {table.name}")
        return _binned(time.numpy(), grouping, key)
    item = table.interactions.item.numpy()
    if grouping.of is None and grouping.column == POPULARITY:
        return _binned(table.interactions.item_degree().double().numpy()[item], grouping, key)
    if grouping.of is None and grouping.column == DISAGREEMENT:
        values = _disagreement(table, key, seed)
        if isinstance(grouping.bins, int):
            warm = (table.interactions.item_degree() > 0).numpy()
            edges = _edges_between_clusters(values[warm], grouping.bins)
            grouping = grouping.model_copy(update={"bins": edges})
        return _binned(values[item], grouping, key)
    if grouping.of is None and grouping.column == CLUSTERS:
        assert isinstance(grouping.bins, int)
        source = generator(seed, "environments", "clusters")
        labels = content_clusters(_warm_alone(table), grouping.bins, source, key=f"{key}.bins")[item]
        return _named(labels, grouping, key)
    labels = _labels(table, grouping, key)
    if grouping.bins is None:
        return _named(labels, grouping, key)
    return _binned(numbers_of(labels, key=key, column=grouping.column), grouping, key)


def _require_no_such_column(table: Table, name: str, key: str) -> None:
    """Refuse a name that means a column of the data as well as what is computed here."""
    columns = table.columns
    places = (("interactions", columns.interaction), ("items", columns.item), ("users", columns.user))
    if having := [of for of, known in places if name in known]:
        rule = (
            f"the {' and '.join(having)} have a column of that name, which is also the name of something "
            f"computed; take the column with of: {having[0]}, or rename it"
        )
        raise ConfigError(rule, key=key, value=name)


def _disagreement(table: Table, key: str, seed: int) -> np.ndarray:
    """``[I]`` how little the modalities of each item agree."""
    if len(table.modalities) < 2:
        known = listing(list(table.modalities), 5) or "none"
        rule = f"needs two modalities; the data set {table.name} has {known}"
        raise ConfigError(rule, key=key, value=DISAGREEMENT)
    warm = table.interactions.item_degree() > 0
    source = generator(seed, "environments", "disagreement")
    found: np.ndarray = disagreement(table.modalities, warm, source).numpy()
    if np.isnan(found[warm.numpy()]).all():
        rule = f"no train item has two modalities; the data set {table.name} has {int(warm.sum()):,} of them"
        raise ConfigError(rule, key=key, value=DISAGREEMENT)
    return found


def _edges_between_clusters(values: np.ndarray, count: int) -> tuple[float, ...]:
    """Half-way between the means of k-means on numbers, from a start at their quantiles."""
    known = values[~np.isnan(values)]
    means = np.quantile(known, (np.arange(count) + 0.5) / count)
    for _ in range(100):
        edges = (means[1:] + means[:-1]) / 2
        group = np.searchsorted(edges, known, side="right")
        sizes = np.bincount(group, minlength=count)
        moved = np.where(sizes > 0, np.bincount(group, known, count) / np.maximum(sizes, 1), means)
        if np.allclose(moved, means):
            break
        means = moved
    return tuple(((means[1:] + means[:-1]) / 2).tolist())


def _warm_alone(table: Table) -> Table:
    """The same without the features of items that train does not have."""
    warm = table.interactions.item_degree() > 0
    seen = {
        name: Modality(
            values=torch.where(warm[:, None], modality.values, 0.0), present=modality.present & warm
        )
        for name, modality in table.modalities.items()
    }
    return replace(table, modalities=seen)


def _labels(table: Table, grouping: Grouping, key: str) -> np.ndarray:
    """``[N]`` labels of a column of the data."""
    columns, data = table.columns, table.interactions
    places: dict[str, tuple[Mapping[str, np.ndarray], np.ndarray]] = {
        "interactions": (columns.interaction, np.arange(len(data))),
        "items": (columns.item, data.item.numpy()),
        "users": (columns.user, data.user.numpy()),
    }
    having = [of for of, (known, _) in places.items() if grouping.column in known]
    wanted = having if grouping.of is None else [of for of in having if of == grouping.of]
    if not wanted:
        known = [f"{name} of the {of}" for of, (named, _) in places.items() for name in sorted(named)]
        rule = f"the data set {table.name} has no such column; it has {listing(known, 20) or 'none'}"
        raise ConfigError(rule, key=key, value=grouping.column)
    if len(wanted) > 1:
        rule = f"{' and '.join(wanted)} have a column of that name; say which with of"
        raise ConfigError(rule, key=key, value=grouping.column)
    if wanted[0] == "interactions" and grouping.column in columns.contradictions:
        said = columns.contradictions[grouping.column]
        rule = f"the column says two things of one pair: {said}; leave one row a pair in the file"
        raise ConfigError(rule, key=key, value=grouping.column)
    named, rows = places[wanted[0]]
    found: np.ndarray = named[grouping.column][rows]
    return found


def _named(labels: np.ndarray, grouping: Grouping, key: str) -> tuple[np.ndarray, list[str]]:
    """Groups of equal labels, in the order of their names."""
    names, code = np.unique(labels.astype(np.str_), return_inverse=True)
    _require_known(code[np.isin(code, np.flatnonzero(names == ""))], grouping, key, len(labels))
    if grouping.unknown == "open" and names[:1].tolist() == [""]:
        code, names = code - 1, names[1:]
    shown = [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in names.tolist()]
    return code, [f"{grouping.column}={name}" if name else f"{grouping.column} unknown" for name in shown]


def _binned(values: np.ndarray, grouping: Grouping, key: str) -> tuple[np.ndarray, list[str]]:
    """Groups of numbers between edges; a value at an edge is above it. NaN are the unknown ones, last."""
    assert grouping.bins is not None
    unknown = np.isnan(values)
    _require_known(values[unknown], grouping, key, len(values))
    if isinstance(grouping.bins, int):
        places = np.linspace(0, 1, grouping.bins + 1)[1:-1]
        edges = np.unique(np.quantile(values[~unknown], places, method="higher"))
        edges = edges[edges > values[~unknown].min()]
        if len(edges) < grouping.bins - 1:
            rule = "so many bins cannot hold about equally many interactions; name the edges instead"
            raise ConfigError(rule, key=f"{key}.bins", value=f"{grouping.bins}, of which {len(edges) + 1}")
    else:
        edges = np.array([_number(edge) for edge in grouping.bins])
    dated = grouping.of is None and grouping.column == TIME
    shown = _days(edges) if dated else _digits(edges, values)
    ranges = [f"< {shown[0]}", *(f"{a} to {b}" for a, b in pairwise(shown)), f">= {shown[-1]}"]
    code = np.searchsorted(edges, values, side="right")
    code[unknown] = -1 if grouping.unknown == "open" else len(ranges)
    return code, [f"{grouping.column} {name}" for name in (*ranges, "unknown")]


def _require_known(missing: np.ndarray, grouping: Grouping, key: str, total: int) -> None:
    if len(missing) and grouping.unknown == "error":
        rule = "has no label for some train interactions; unknown: own makes them a group of their own"
        raise ConfigError(rule, key=key, value=f"{grouping.column}: {len(missing):,} of {total:,}")


def _number(edge: Edge) -> float:
    """An edge as the columns have it: a date as seconds since 1970, at its first second (UTC)."""
    if not isinstance(edge, dt.date):
        return edge
    return dt.datetime(edge.year, edge.month, edge.day, tzinfo=dt.UTC).timestamp()


def _digits(edges: np.ndarray, values: np.ndarray) -> list[str]:
    """The edges in as few digits, six at least, as say of each value in which bin it is."""
    bins = np.searchsorted(edges, values, side="right")
    for digits in range(6, 17):
        shown = [f"{edge:.{digits}g}" for edge in edges.tolist()]
        as_read = np.array([float(one) for one in shown])
        if len(set(shown)) == len(shown) and (np.searchsorted(as_read, values, side="right") == bins).all():
            return shown
    return [repr(edge) for edge in edges.tolist()]


def _days(edges: np.ndarray) -> list[str]:
    """The days of times; where two are of one day, the times themselves."""
    days = [_moment(edge).split(" ")[0] for edge in edges.tolist()]
    if len(set(days)) == len(days):
        return days
    return [_moment(edge) for edge in edges.tolist()]


def _moment(seconds: float) -> str:
    """A time (UTC), or the number where it is none of a calendar."""
    try:
        whole = dt.datetime.fromtimestamp(math.floor(seconds), tz=dt.UTC).replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):
        return repr(seconds)
    return f"{whole + dt.timedelta(seconds=seconds - math.floor(seconds))}"
