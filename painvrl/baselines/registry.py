"""All baselines, in the order of the table."""

from __future__ import annotations

from typing import Any

from painvrl.baselines.implicit_factors import ALS, BPR
from painvrl.baselines.knn import CONTENT_KNN, ITEM_KNN
from painvrl.baselines.lightgcn import LIGHTGCN
from painvrl.baselines.plain_backbone import ULTRAGCN_OFFSET
from painvrl.baselines.popularity import POPULARITY
from painvrl.baselines.port import Baseline
from painvrl.baselines.ridge import RIDGE
from painvrl.baselines.vbpr import VBPR
from painvrl.core.registry import Registry

BASELINES = Registry[Baseline[Any]]("baseline", group="painvrl.baselines", within="painvrl.baselines")
for _baseline in (
    POPULARITY,
    ITEM_KNN,
    CONTENT_KNN,
    RIDGE,
    ALS,
    BPR,
    VBPR,
    LIGHTGCN,
    ULTRAGCN_OFFSET,
):
    BASELINES.register(_baseline)
