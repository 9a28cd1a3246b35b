"""Groups of items by their content: k-means on the features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.data.features import FeatureConfig, build_features
from painvrl.data.splits.rows import Table

MAX_STEPS = 50
TRIES = 4


def content_clusters(
    table: Table, count: int, source: torch.Generator, *, key: str = "split.clusters"
) -> np.ndarray:
    """``[I]`` labels, the number of each item's cluster; empty for items without a feature.

    The features are those that training sees without standardising, all modalities side by side.

    Args:
        table: its modalities.
        count: how many clusters.
        source: draws where they begin.
        key: of the configuration that asks for them.

    Raises:
        ConfigError: fewer items than clusters have a feature.
    """
    known = table.interactions.item_degree() > 0
    features = build_features(table.modalities, known, FeatureConfig()).double()
    described = features.any(dim=1)
    if count > int(described.sum()):
        rule = "must be at most the number of items with a feature"
        raise ConfigError(rule, key=key, value=f"{count} for {int(described.sum())} items")
    labels = np.full(len(described), "", dtype="<U20")
    labels[described.numpy()] = k_means(features[described], count, source).numpy().astype(np.str_)
    return labels


def k_means(rows: Tensor, count: int, source: torch.Generator) -> Tensor:
    """``[n]`` int64: a cluster for each of ``rows`` ``[n, F]``, by Lloyd's steps from k-means++ centres.

    Each centre is the best of a few that k-means++ would draw. A cluster that loses all its rows keeps
    its centre. ``count`` is at most ``n``.
    """
    squares = rows.square().sum(dim=1)

    def distances(centres: Tensor) -> Tensor:
        return (squares[:, None] - 2 * rows @ centres.T + centres.square().sum(dim=1)).clamp_min(0)

    first = int(torch.randint(len(rows), (1,), generator=source))
    chosen = [first]
    nearest = distances(rows[first : first + 1])[:, 0]
    for _ in range(count - 1):
        # The floor lets duplicates of a centre be drawn where nothing else is left.
        drawn = torch.multinomial(nearest + 1e-12, TRIES, replacement=True, generator=source)
        left = torch.minimum(nearest[:, None], distances(rows[drawn]))
        best = int(left.sum(dim=0).argmin())
        chosen.append(int(drawn[best]))
        nearest = left[:, best]
    centres = rows[chosen]
    label = distances(centres).argmin(dim=1)
    for _ in range(MAX_STEPS):
        size = torch.bincount(label, minlength=count).clamp(min=1)
        sums = torch.zeros_like(centres).index_add_(0, label, rows)
        filled = torch.bincount(label, minlength=count) > 0
        centres = torch.where(filled[:, None], sums / size[:, None], centres)
        moved = distances(centres).argmin(dim=1)
        if torch.equal(moved, label):
            break
        label = moved
    return label
