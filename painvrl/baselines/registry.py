"""All baselines, in the order of the table."""

from __future__ import annotations

from typing import Any

from painvrl.baselines.implicit_factors import ALS, BPR
from painvrl.baselines.knn import CONTENT_KNN, ITEM_KNN
from painvrl.baselines.offset import ULTRAGCN_OFFSET
from painvrl.baselines.popularity import POPULARITY
from painvrl.baselines.port import Baseline
from painvrl.baselines.ridge import RIDGE

BASELINES: tuple[Baseline[Any], ...] = (
    POPULARITY,
    ITEM_KNN,
    CONTENT_KNN,
    RIDGE,
    ALS,
    BPR,
    ULTRAGCN_OFFSET,
)
