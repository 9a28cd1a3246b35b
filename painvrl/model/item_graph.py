"""UltraGCN's item-item graph: which items are taken by the same users, and how strongly.

With ``A`` the ``[U, I]`` matrix of training pairs and ``G = A'A``, ``G_ij`` counts the users who took both
items. UltraGCN weighs an edge with ``g_i = sum_k G_ik`` as

    w_ij = G_ij / (g_i - G_ii) * sqrt(g_i / g_j)

and keeps each item's few heaviest. An item that nobody took, or whose users took nothing else, has no
neighbour; cold items are nobody's.

Shape letters: ``N`` training pairs, ``U`` users, ``I`` items, ``K`` neighbours, ``b`` items of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CELLS = 2**21
"""Counts, or paths from item to user to item, held at once. One item alone has at most ``I`` counts, and as
many paths as its users have pairs."""


@dataclass(frozen=True, kw_only=True)
class ItemNeighbours:
    """``index`` ``[I, K]`` items by number, ``weight`` ``[I, K]`` their ``w_ij``, float32.

    An item with fewer than ``K`` neighbours is filled up with itself, at weight 0.
    """

    index: Tensor
    weight: Tensor


def strongest_neighbours(
    user: Tensor, item: Tensor, n_users: int, n_items: int, count: int
) -> ItemNeighbours:
    """Each item's ``count`` neighbours with the greatest ``w_ij``; of equal ones the lower numbers.

    Items are taken in blocks, so that ``G`` never has to fit as a whole: memory is a few times ``2^21``
    numbers, or the paths of one item if those are more. Time is the number of paths from item to user to
    item (``sum_u d_u^2``) and ``I^2`` counts looked through.

    Args:
        user: ``[N]`` on the CPU, distinct pairs in any order.
        item: ``[N]``.
        n_users: ``U``.
        n_items: ``I``.
        count: ``K``.
    """
    by_user, by_item = torch.argsort(user, stable=True), torch.argsort(item, stable=True)
    taken, takers = item[by_user], user[by_item]
    user_start, user_degree = _starts(user, n_users)
    item_start, item_degree = _starts(item, n_items)
    # g_i: the degrees of the item's users, summed; exact in float64.
    total = torch.zeros(n_items, dtype=torch.float64).index_add_(0, item, user_degree[user].double())
    steps = torch.cat([total.new_zeros(1), total.cumsum(0)])  # paths before each item

    index = torch.arange(n_items)[:, None].repeat(1, count)
    weight = torch.zeros(n_items, count)
    start = 0
    while start < n_items:
        within = int(torch.searchsorted(steps, float(steps[start]) + _CELLS, right=True)) - 1
        end = max(start + 1, min(within, start + _CELLS // n_items, n_items))
        first, last = int(item_start[start]), int(item_start[end])
        degree = user_degree[takers[first:last]]
        row = torch.arange(end - start).repeat_interleave(item_degree[start:end])
        # The place in `taken` of the n-th item of each of the block's users.
        ends = degree.cumsum(0)
        place = torch.arange(int(degree.sum())) + (
            user_start[takers[first:last]] - (ends - degree)
        ).repeat_interleave(degree)
        cell = row.repeat_interleave(degree) * n_items + taken[place]
        counts = torch.bincount(cell, minlength=(end - start) * n_items).view(-1, n_items).double()
        own = torch.arange(end - start)
        elsewhere = total[start:end] - counts[own, start + own]
        counts[own, start + own] = 0
        found = (
            counts / elsewhere.clamp_min(1)[:, None] * (total[start:end, None] / total.clamp_min(1)).sqrt()
        )
        rows, columns = _greatest(found, count)
        at = _place_within(rows)
        index[start + rows, at] = columns
        weight[start + rows, at] = found[rows, columns].float()
        start = end
    return ItemNeighbours(index=index, weight=weight)


def _starts(key: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where each value below ``size`` starts once ``key`` is sorted, ``[size + 1]``, and its count."""
    degree = torch.bincount(key, minlength=size)
    return torch.cat([degree.new_zeros(1), degree.cumsum(0)]), degree


def _greatest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of each row's ``count`` greatest positive values, by row and column; ties to the left.

    Which of equal values ``topk`` takes is not defined, so it says only how great they are.
    """
    least = values.topk(min(count, values.shape[1]), dim=1).values[:, -1:]
    above, equal = values > least, values == least
    room = count - above.sum(dim=1, keepdim=True)
    chosen = (above | (equal & (equal.cumsum(dim=1) <= room))) & (values > 0)
    rows, columns = chosen.nonzero(as_tuple=True)
    return rows, columns


def _place_within(rows: Tensor) -> Tensor:
    """For each of ascending ``rows`` how many of the same stand before it."""
    return torch.arange(len(rows)) - torch.searchsorted(rows, rows)
