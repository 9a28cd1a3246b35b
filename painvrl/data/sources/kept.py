"""Which rows of a file became the interactions of a data set, so that their columns follow them."""

from __future__ import annotations

import numpy as np

from painvrl.data.dataset import Dataset
from painvrl.data.sources.items import find
from painvrl.data.sources.rows import RawInteractions


def kept_rows(dataset: Dataset, raw: RawInteractions, time: np.ndarray | None = None) -> np.ndarray:
    """``[N]`` int64: the row of ``raw`` that each interaction came from.

    Where a pair repeats, it is the row that :func:`rows.without_duplicates` keeps.

    Args:
        dataset: made from ``raw``.
        raw: ``R`` rows.
        time: ``[R]``, if there are times.
    """
    user, item = find(raw.user, dataset.user_ids), find(raw.item, dataset.item_ids)
    candidates = np.flatnonzero((user >= 0) & (item >= 0))
    n_items = dataset.interactions.n_items
    pairs = (dataset.interactions.user * n_items + dataset.interactions.item).numpy()
    pair = user[candidates] * n_items + item[candidates]
    place = np.minimum(np.searchsorted(pairs, pair), len(pairs) - 1)  # interactions are sorted
    kept = pairs[place] == pair
    candidates, place = candidates[kept], place[kept]
    if len(place) > len(pairs):
        nothing = np.zeros(len(raw.user))
        rating = nothing if raw.rating is None else raw.rating
        order = np.lexsort((rating[candidates], (nothing if time is None else time)[candidates]))
        candidates, place = candidates[order], place[order]
    rows = np.empty(len(pairs), dtype=np.int64)
    rows[place] = candidates  # of several for one place, the last one stays
    return rows
