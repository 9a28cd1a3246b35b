"""MovieLens-100K as a table whose columns say the parts, for the protocols that read them from the files.

GroupLens' own test sets are not in RecBole's atomic files, so both columns are made here, from a fixed seed:

- ``official``: a random 80%, 10% and 10% of the rows as ``train``, ``valid`` and ``test``;
- ``weekend``: what was rated on Saturdays and Sundays (UTC) is OOD, half ``ood_valid`` and half ``ood_test``,
  and the other days are ``train``, ``iid_valid`` and ``iid_test``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SPLITS: Mapping[str, Mapping[str, Any]] = {
    "official, cold_item": {
        "protocol": "official",
        "column": "official",
        "ood": {"protocol": "cold_item", "ood_candidates": "all"},
    },
    "given, weekend": {"protocol": "given", "column": "weekend"},
}


def table_of(atomic: Path, target: Path) -> dict[str, Any]:
    """Write the tables of the folder of atomic files ``atomic`` under ``target``; settings of ``data``."""
    frame = pd.read_csv(atomic / "ml-100k.inter", sep="\t")
    frame.columns = [name.partition(":")[0] for name in frame.columns]
    draws = np.random.default_rng(0)
    chance = draws.random(len(frame))
    frame["official"] = np.select([chance < 0.8, chance < 0.9], ["train", "valid"], "test")
    weekday = pd.to_datetime(frame["timestamp"], unit="s").dt.day_of_week
    inside = np.select([chance < 0.8, chance < 0.9], ["train", "iid_valid"], "iid_test")
    outside = np.where(draws.random(len(frame)) < 0.5, "ood_valid", "ood_test")
    frame["weekend"] = np.where(weekday >= 5, outside, inside)
    items = pd.read_csv(atomic / "ml-100k.item", sep="\t")
    items.columns = [name.partition(":")[0] for name in items.columns]
    target.mkdir(parents=True, exist_ok=True)
    frame.to_csv(target / "interactions.csv", index=False)
    items.to_csv(target / "items.csv", index=False)
    return {
        "kind": "table",
        "path": str(target / "interactions.csv"),
        "user": "user_id",
        "item": "item_id",
        "time": "timestamp",
        "columns": ["official", "weekend"],
        "item_table": {
            "path": str(target / "items.csv"),
            "key": "item_id",
            "title": "movie_title",
            "text": ["movie_title"],
            "categories": "class",
            "separator": " ",
        },
    }
