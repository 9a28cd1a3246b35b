"""UltraGCN's item-item graph: which items are taken by the same users, and how strongly.

With ``A`` the ``[U, I]`` matrix of training pairs and ``G = A'A``, ``G_ij`` counts the users who took both
items. UltraGCN (Mao et al., CIKM 2021) weighs an edge with ``g_i = sum_k G_ik`` as

    w_ij = G_ij / (g_i - G_ii) * sqrt(g_i / g_j)

and keeps each item's few heaviest. An item that no one took, or whose users took nothing else, has no
neighbour; cold items are no one's.

Shape letters: ``N`` training pairs, ``U`` users, ``I`` items, ``K`` neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_PATHS = 2**21
"""Paths from item to user to item that are held at once, or those of one item if they are more."""


@dataclass(frozen=True, kw_only=True)
class ItemNeighbours:
    """``index`` ``[I, K]`` items by number, ``weight`` ``[I, K]`` their ``w_ij``, float32.

    The heaviest first. An item with fewer than ``K`` neighbours is filled up with itself, at weight 0.
    """

    index: Tensor
    weight: Tensor


def strongest_neighbours(
    user: Tensor, item: Tensor, n_users: int, n_items: int, count: int
) -> ItemNeighbours:
    """Each item's ``count`` neighbours with the greatest ``w_ij``; of equal ones the lower numbers.

    Only what ``G`` holds is ever listed, and that in blocks of items: a few times ``2^21`` numbers are in
    memory at once, or those of one item if they are more (its users' pairs). Time is that of sorting the
    paths from item to user to item, ``sum_u d_u^2``.

    Args:
        user: ``[N]`` on the CPU, distinct pairs in any order.
        item: ``[N]``.
        n_users: ``U``.
        n_items: ``I``.
        count: ``K``.
    """
    from scipy.sparse import csr_array  # a slow import that models without an item-item term do without

    ones = np.ones(len(user), dtype=np.int64)
    taken = csr_array((ones, (user.numpy(), item.numpy())), shape=(n_users, n_items))
    takers = taken.T.tocsr()
    degree = torch.bincount(item, minlength=n_items)
    # g_i: the degrees of the item's users, summed; exact in float64.
    of_users = torch.bincount(user, minlength=n_users)[user].double()
    total = torch.zeros(n_items, dtype=torch.float64).index_add_(0, item, of_users)
    paths = torch.cat([total.new_zeros(1), total.cumsum(0)])  # before each item

    index = torch.arange(n_items)[:, None].repeat(1, count)
    weight = torch.zeros(n_items, count)
    start = 0
    while start < n_items:
        within = int(torch.searchsorted(paths, float(paths[start]) + _PATHS, right=True)) - 1
        end = max(start + 1, within)
        block = takers[start:end] @ taken  # G
        block.sort_indices()
        left, right = (torch.from_numpy(place).long() for place in block.tocoo().coords)
        left, shared = left + start, torch.from_numpy(block.data)
        others = left != right
        left, right, shared = left[others], right[others], shared[others]
        found = shared / (total[left] - degree[left]) * (total[left] / total[right]).sqrt()
        # By item, then the heaviest first; what stays equal keeps the order of the numbers.
        order = found.argsort(descending=True, stable=True)
        order = order[left[order].argsort(stable=True)]
        left, right, found = left[order], right[order], found[order]
        rank = torch.arange(len(left)) - torch.searchsorted(left, left)
        kept = rank < count
        index[left[kept], rank[kept]] = right[kept]
        weight[left[kept], rank[kept]] = found[kept].float()
        start = end
    return ItemNeighbours(index=index, weight=weight)
