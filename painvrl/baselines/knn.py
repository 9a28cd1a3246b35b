"""Neighbourhoods of items: by who took them (item-kNN), or by what they are like (content-kNN).

Both score an item by how similar the user's items among its nearest neighbours are:
``s(u, i) = sum over j in N(i), taken by u, of sim(i, j)``.

Shape letters: ``U`` users, ``I`` items, ``I_w`` warm items, ``F`` features, ``B`` users of a block, ``C``
candidates, ``b`` items of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from painvrl.baselines.port import Baseline, Fit, Inputs
from painvrl.core.settings import Settings
from painvrl.evaluation.ranking import BlockScores, Scorer
from painvrl.run.distributions import FloatRange, IntRange

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCK_CELLS = 2**22
"""Similarities held at once while neighbours are chosen: 16 MiB of float32."""


class ItemKnnConfig(Settings):
    """Settings of :func:`item_knn`."""

    neighbours: int = Field(default=100, ge=1)
    """Most similar items that are kept for each item."""
    shrinkage: float = Field(default=10.0, ge=0)
    """Added to the cosine's denominator: discounts items that few users took; 0 is the plain cosine."""


class ContentKnnConfig(Settings):
    """Settings of :func:`content_knn`."""

    neighbours: int = Field(default=50, ge=1)
    """Most similar items that are kept for each item."""
    power: float = Field(default=1.0, gt=0)
    """Exponent of the cosine; above 1 near items weigh more."""


@dataclass(frozen=True)
class Neighbourhoods:
    """Scores from a user's items and each item's neighbours.

    Attributes:
        taken: ``[U, I]``, 1 where the user took the item in training.
        similarity: ``[I, I]``: row ``i`` holds the neighbours of item ``i``.
    """

    taken: csr_matrix
    similarity: csr_matrix

    def among(self, candidates: Tensor) -> BlockScores:
        """See :class:`painvrl.evaluation.ranking.Scorer`."""
        to_candidates = self.similarity[candidates.cpu().numpy()].T.tocsr()

        def scores(users: Tensor) -> Tensor:
            block = (self.taken[users.cpu().numpy()] @ to_candidates).toarray()
            return torch.from_numpy(block).to(candidates.device)

        return scores


def item_knn(inputs: Inputs) -> Fit[ItemKnnConfig]:
    """The shrunk cosine of two items' users: ``sim(i, j) = c_ij / (sqrt(d_i d_j) + shrinkage)``.

    ``c_ij`` is how many users took both. Items that few users took are similar by chance; the shrinkage
    discounts them. Cold items have no neighbours and score 0. Without the shrinkage it is one of the
    similarities of Sarwar et al. (WWW 2001).
    """
    taken = inputs.matrix
    together = (taken.T @ taken).tocsr()
    size = np.sqrt(inputs.item_degree.cpu().numpy())

    def fit(config: ItemKnnConfig) -> Scorer:
        def rows(first: int, last: int) -> NDArray[np.float32]:
            block = together[first:last].toarray()
            bottom = size[first:last, None] * size[None, :] + config.shrinkage
            # Where the bottom is 0, an item has no users and the top is 0, too.
            similar: NDArray[np.float32] = np.divide(
                block, bottom, out=np.zeros_like(block), where=bottom > 0
            )
            return similar

        return Neighbourhoods(taken, nearest(rows, taken.shape[1], config.neighbours))

    return fit


def content_knn(inputs: Inputs) -> Fit[ContentKnnConfig]:
    """The cosine of two items' features, to a power: ``sim(i, j) = max(0, cos(f_i, f_j))^power``.

    Neighbours are warm items, the only ones that users took; cold items have neighbours like any other.
    """
    features = torch.nn.functional.normalize(inputs.prepared.features.cpu(), dim=1).numpy()
    warm = (inputs.item_degree > 0).cpu().numpy()
    of_warm = np.where(warm[:, None], features, 0.0).T.copy()

    def fit(config: ContentKnnConfig) -> Scorer:
        def rows(first: int, last: int) -> NDArray[np.float32]:
            cosine: NDArray[np.float32] = features[first:last] @ of_warm
            similar: NDArray[np.float32] = np.maximum(cosine, 0.0, out=cosine) ** np.float32(config.power)
            return similar

        return Neighbourhoods(inputs.matrix, nearest(rows, len(features), config.neighbours))

    return fit


def nearest(rows: Callable[[int, int], NDArray[np.float32]], n_items: int, neighbours: int) -> csr_matrix:
    """Each item's most similar others; of equally similar ones those with the lowest index.

    Args:
        rows: from ``first`` and ``last`` to the similarities ``[b, I]`` of these items to all; an item's
            to itself is not looked at, and similarities of 0 or less are no neighbours.
        n_items: ``I``.
        neighbours: how many of each.

    Returns:
        ``[I, I]``, at most ``neighbours`` entries a row.
    """
    from scipy.sparse import csr_matrix, vstack

    def blocks() -> Iterator[csr_matrix]:
        step = max(1, BLOCK_CELLS // n_items)
        for first in range(0, n_items, step):
            last = min(first + step, n_items)
            block = rows(first, last)
            block[np.arange(last - first), np.arange(first, last)] = 0.0
            yield csr_matrix(np.where(_greatest(block, neighbours), block, 0.0))

    return vstack(list(blocks()), format="csr")


def _greatest(block: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    """The ``count`` greatest positive entries of each row; of equal ones the first."""
    if count >= block.shape[1]:
        return block > 0
    last = -np.partition(-block, count - 1, axis=1)[:, count - 1 : count]
    above, equal = block > last, block == last
    room = count - above.sum(axis=1, keepdims=True)
    kept: NDArray[np.bool_] = (above | (equal & (equal.cumsum(axis=1) <= room))) & (block > 0)
    return kept


ITEM_KNN = Baseline(
    name="item-knn",
    summary="shrunk cosine of the items' users",
    settings=ItemKnnConfig,
    space={
        "neighbours": IntRange(type="int", low=5, high=1000, log=True),
        "shrinkage": FloatRange(type="float", low=0.1, high=1000.0, log=True),
    },
    start=item_knn,
)
CONTENT_KNN = Baseline(
    name="content-knn",
    summary="cosine of the items' features",
    settings=ContentKnnConfig,
    space={
        "neighbours": IntRange(type="int", low=5, high=1000, log=True),
        "power": FloatRange(type="float", low=0.5, high=16.0, log=True),
    },
    start=content_knn,
)
