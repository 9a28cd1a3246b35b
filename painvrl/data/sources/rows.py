"""Interactions as a file has them, and the filters that need nothing but the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from painvrl.errors import DataError


@dataclass(frozen=True, kw_only=True)
class RawInteractions:
    """Rows as a file has them.

    Attributes:
        user: ``[R]`` raw ids, int64 or text.
        item: ``[R]`` raw ids.
        rating: ``[R]`` float64, if there are ratings.
        file: where the rows come from, for messages.
        time: ``[R]`` float64, if there are times.
        labels: further columns by name, ``[R]`` text each.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray | None
    file: Path | str
    time: np.ndarray | None = None
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)


def without_duplicates(
    raw: RawInteractions, time: np.ndarray | None, *, duplicates: Literal["error", "drop"]
) -> RawInteractions:
    """One row a (user, item) pair: the latest, or, without times, the best-rated.

    Raises:
        DataError: a pair occurs again and ``duplicates`` is ``error``.
    """
    _, user = np.unique(raw.user, return_inverse=True)
    items, item = np.unique(raw.item, return_inverse=True)
    pair = user.astype(np.int64) * len(items) + item
    nothing = np.zeros(len(pair))
    rating = nothing if raw.rating is None else raw.rating
    order = np.lexsort((rating, nothing if time is None else time, pair))
    last = np.append(pair[order][1:] != pair[order][:-1], True)
    if last.all():
        return raw
    if duplicates == "error":
        repeated = _first_repeated(pair)
        raise DataError(
            f"{int((~last).sum())} rows repeat a (user, item) pair; the first is row {repeated + 1}, "
            f"user {raw.user[repeated]} and item {raw.item[repeated]}; "
            "duplicates: drop keeps one row a pair",
            file=raw.file,
            key="data.duplicates",
            value=duplicates,
        )
    rows = np.sort(order[last])
    return RawInteractions(
        user=raw.user[rows],
        item=raw.item[rows],
        rating=None if raw.rating is None else raw.rating[rows],
        file=raw.file,
        time=None if raw.time is None else raw.time[rows],
        labels={name: labels[rows] for name, labels in raw.labels.items()},
    )


def _first_repeated(pair: np.ndarray) -> int:
    """The first row whose pair occurred in an earlier one."""
    first = np.unique(pair, return_index=True)[1]
    repeated = np.ones(len(pair), dtype=bool)
    repeated[first] = False
    return int(repeated.argmax())


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
