"""Interactions as a file has them, and the filters that need nothing but the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator

from painvrl.data.provenance import Removal
from painvrl.data.sources.messages import Place
from painvrl.data.sources.texts import Texts


def _current(rule: object) -> object:
    if rule == "drop":
        raise ValueError(
            "drop has become latest (keeps the latest row) and best (the best-rated one); name one of them"
        )
    return rule


Duplicates = Annotated[Literal["latest", "best", "first_part", "error"], BeforeValidator(_current)]
"""What to do where a (user, item) pair occurs again; no rule looks at the order of the rows.

``latest``: keep the latest row. ``best``: the best-rated one, of equally rated ones the latest.
``first_part``: rows of train before those of a valid part before those of a test part, by the column
``part``; then the latest. ``error``: refuse. Rows that are equal in all that is read are one. Where a rule
leaves rows that differ in rating or labels, that is an error.
"""

PART = "part"
"""The column of labels that says which split part a row is in."""


@dataclass(frozen=True, kw_only=True)
class RawInteractions:
    """Rows as a file has them.

    Attributes:
        user: ``R`` raw ids, none missing.
        item: ``R`` raw ids, none missing.
        rating: ``[R]`` float64, if there are ratings.
        file: where the rows come from, for messages.
        time: ``[R]`` float64, if there are times.
        labels: further columns by name, ``[R]`` text each.
        contradictions: by the name of a column of labels, what to say to whoever splits by it: rows that
            were merged differ in it.
        removals: what rules took away before.
        notes: how the file was read where that is not the usual way, a sentence each.
        findings: what looks wrong in it, a sentence each.
    """

    user: Texts
    item: Texts
    rating: np.ndarray | None
    file: Path | str
    time: np.ndarray | None = None
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    contradictions: Mapping[str, str] = field(default_factory=dict)
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def select(self, rows: np.ndarray) -> RawInteractions:
        """Some of the rows (``[n]`` int64 or ``[R]`` bool)."""
        return replace(
            self,
            user=self.user.select(rows),
            item=self.item.select(rows),
            rating=None if self.rating is None else self.rating[rows],
            time=None if self.time is None else self.time[rows],
            labels={name: labels[rows] for name, labels in self.labels.items()},
        )

    def reduced_to(self, rows: np.ndarray, name: str, rule: str) -> RawInteractions:
        """:meth:`select`, which the rule of that name (its key in the configuration) asks for."""
        left = self.select(rows)
        removal = Removal(
            name=name,
            rule=rule,
            users=len(self.user.distinct) - len(left.user.distinct),
            items=len(self.item.distinct) - len(left.item.distinct),
            interactions=len(self.user) - len(left.user),
            users_before=len(self.user.distinct),
            items_before=len(self.item.distinct),
            interactions_before=len(self.user),
        )
        return replace(left, removals=(*self.removals, removal))


def without_duplicates(raw: RawInteractions, rule: Duplicates) -> RawInteractions:
    """One row a (user, item) pair.

    Raises:
        DataError: a pair occurs again and ``rule`` is ``error``, needs a column that is not there, or leaves
            rows that differ.
    """
    pair = raw.user.code * len(raw.item.distinct) + raw.item.code
    ordered = np.sort(pair)
    if not (ordered[1:] == ordered[:-1]).any():
        return raw
    keys = _deciding(raw, rule)
    order = np.lexsort((*reversed(keys), pair))
    last = np.append(pair[order][1:] != pair[order][:-1], True)
    kept_of = order[last][np.cumsum(last) - last]  # by place in `order`, the row that is kept of its pair

    def refuse(wrong: np.ndarray, how: str, hint: str) -> None:
        """Raise about the first row of the file that is ``wrong`` (by place in ``order``), if one is."""
        if not wrong.any():
            return
        place = np.flatnonzero(wrong)[order[wrong].argmin()]
        first, second = sorted((int(order[place]), int(kept_of[place])))
        raise Place(raw.file, "data.duplicates", rule).error(
            f"{int(wrong.sum())} rows repeat a (user, item) pair{how}; "
            f"the first are rows {first + 1} and {second + 1}, "
            f"user {raw.user[first]} and item {raw.item[first]}. {hint}"
        )

    if rule == "error":
        refuse(~last, "", "latest, best and first_part keep one row a pair")
    tied = ~last
    for by in keys:
        tied = tied & (by[order] == by[kept_of])
    compared = {**({} if raw.rating is None else {"rating": raw.rating}), **raw.labels}
    hints = {"rating": "best keeps the best-rated one", PART: "first_part keeps that of train"}
    contradictions: dict[str, str] = {}
    for name, column in compared.items():
        differs = column[order] != column[kept_of]
        hint = hints.get(name, "mend them, or leave the column out of data.columns")
        refuse(tied & differs, f" with another {name}", hint)
        if name in raw.labels and not (rule == "first_part" and name == PART) and (differs & ~last).any():
            contradictions[name] = (
                f"{int((differs & ~last).sum())} rows that repeat a (user, item) pair have another label "
                f"than the row that was kept (data.duplicates: {rule})"
            )
    left = raw.reduced_to(np.sort(order[last]), "data.duplicates", f"{rule}, one row a (user, item) pair")
    return replace(left, contradictions=contradictions)


def _deciding(raw: RawInteractions, rule: Duplicates) -> list[np.ndarray]:
    """What decides which row is kept, ``[R]`` each: the first one, and of ties the next."""
    keys = [] if raw.time is None else [raw.time]
    if rule == "first_part":
        return [-_stage(raw), *keys]
    if rule != "best":
        return keys
    if raw.rating is None:
        raise Place(raw.file, "data.duplicates", rule).error("best needs ratings")
    return [raw.rating, *keys]


def _stage(raw: RawInteractions) -> np.ndarray:
    """``[R]`` 0 for train, 1 for valid parts, 2 for test parts."""
    place = Place(raw.file, "data.duplicates")
    if PART not in raw.labels:
        raise place.error(f"first_part needs the column {PART}")
    names, code = np.unique(raw.labels[PART], return_inverse=True)
    stages = {"train": 0, "valid": 1, "test": 2}
    unknown = [name for name in names.tolist() if name.rpartition("_")[2] not in stages]
    if unknown:
        rule = f"first_part needs labels of the column {PART} that end in train, valid or test"
        raise place.error(rule, unknown[0])
    return np.array([stages[name.rpartition("_")[2]] for name in names.tolist()])[code]


def core_rows(user: np.ndarray, item: np.ndarray, core: int) -> np.ndarray:
    """The largest set of rows in which every user and every item has at least ``core`` rows.

    Args:
        user: ``[N]`` int64 indices.
        item: ``[N]`` int64 indices.
        core: at least 1.

    Returns:
        ``[N]`` bool.
    """
    keep = np.ones(len(user), dtype=bool)
    while True:
        users = np.bincount(user[keep], minlength=int(user.max(initial=0)) + 1)
        items = np.bincount(item[keep], minlength=int(item.max(initial=0)) + 1)
        smaller = keep & (users[user] >= core) & (items[item] >= core)
        if smaller.sum() == keep.sum():
            return keep
        keep = smaller
