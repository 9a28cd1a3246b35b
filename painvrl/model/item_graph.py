"""UltraGCN's item-item graph: which items are taken by the same users, and how strongly.

With ``A`` the ``[U, I]`` matrix of training pairs and ``G = A'A``, ``G_ij`` counts the users who took both
items. UltraGCN weighs an edge with ``g_i = sum_k G_ik`` as

    w_ij = G_ij / (g_i - G_ii) * sqrt(g_i / g_j)

and keeps each item's few heaviest. An item that nobody took, or whose users took nothing else, has no
neighbour; cold items are nobody's.

Shape letters: ``N`` training pairs, ``U`` users, ``I`` items, ``K`` neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from painvrl.model.pairs import offsets

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
    by_user, by_item = item[user.argsort(stable=True)], user[item.argsort(stable=True)]
    user_start, item_start = offsets(user, n_users), offsets(item, n_items)
    user_degree, item_degree = user_start.diff(), item_start.diff()
    # g_i: the degrees of the item's users, summed; exact in float64.
    total = torch.zeros(n_items, dtype=torch.float64).index_add_(0, item, user_degree[user].double())
    paths = torch.cat([total.new_zeros(1), total.cumsum(0)])  # before each item

    index = torch.arange(n_items)[:, None].repeat(1, count)
    weight = torch.zeros(n_items, count)
    start = 0
    while start < n_items:
        within = int(torch.searchsorted(paths, float(paths[start]) + _PATHS, right=True)) - 1
        end = max(start + 1, within)
        takers = by_item[int(item_start[start]) : int(item_start[end])]
        degree = user_degree[takers]
        row = torch.arange(start, end).repeat_interleave(item_degree[start:end])
        # The place in `by_user` of the n-th item of each of the block's users.
        before = degree.cumsum(0) - degree
        place = torch.arange(int(degree.sum())) + (user_start[takers] - before).repeat_interleave(degree)
        cells = row.repeat_interleave(degree) * n_items + by_user[place]
        # NumPy's sort is three times as fast as torch's on a CPU.
        cell, shared = map(torch.from_numpy, np.unique(cells.numpy(), return_counts=True))
        left, right = cell // n_items, cell % n_items
        own = left == right
        alone = torch.zeros(end - start, dtype=torch.float64).index_add_(
            0, left[own] - start, shared[own].double()
        )
        left, right, shared = left[~own], right[~own], shared[~own]
        found = shared / (total[left] - alone[left - start]) * (total[left] / total[right]).sqrt()
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
