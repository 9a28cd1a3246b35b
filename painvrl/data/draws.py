"""Random draws of rows that the split protocols are made of; all of them without Python loops."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions


def protected_core(
    interactions: Interactions,
    rows: Tensor,
    *,
    per_user: int,
    per_item: int,
    generator: torch.Generator,
) -> Tensor:
    """Rows, drawn at random, that keep users and items alive in train.

    Args:
        interactions: ``N`` of them.
        rows: ``[N]`` bool, the rows to draw from.
        per_user: every user keeps at least that many of ``rows`` (all, where there are fewer).
        per_item: the same for every item.
        generator: draws ``N`` numbers whatever ``rows`` is.

    Returns:
        ``[N]`` bool, a subset of ``rows``.
    """
    priority = torch.rand(len(interactions), generator=generator, dtype=torch.float64)
    priority = torch.where(rows, priority, torch.inf)  # the rows not to draw from
    by_user = _lowest_within(interactions.user, interactions.n_users, priority, per_user)
    return by_user | _lowest_within(interactions.item, interactions.n_items, priority, per_item)


def draw(rows: Tensor, size: int, *, generator: torch.Generator, log_weight: Tensor | None = None) -> Tensor:
    """Draw ``size`` of ``rows`` without replacement.

    Row ``r`` gets the key ``log(x_r) - log(w_r)`` with ``x_r`` exponential; the ``size`` smallest
    keys are a successive draw with probability proportional to ``w`` (Efraimidis and Spirakis,
    2006; logarithms, so that a steep weight does not overflow).

    Args:
        rows: ``[N]`` bool, with at least ``size`` true entries.
        size: how many to draw.
        generator: draws ``N`` numbers whatever ``rows`` is.
        log_weight: ``[N]`` float64; uniform if not given.

    Returns:
        ``[N]`` bool, a subset of ``rows``.
    """
    key = torch.empty(rows.shape[0], dtype=torch.float64).exponential_(generator=generator).log()
    if log_weight is not None:
        key = key - log_weight
    if size == 0:
        return torch.zeros_like(rows)
    key = torch.where(rows, key, torch.inf)
    # A selection reads the keys a few times; sorting ten million of them takes a second.
    last = float(np.partition(key.numpy(), size - 1)[size - 1])
    drawn = key < last
    # Of equal keys the earlier rows are taken.
    drawn[(key == last).nonzero(as_tuple=True)[0][: size - int(drawn.sum())]] = True
    return drawn & rows


def halve(rows: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two disjoint halves (``[N]`` bool) of ``rows`` at random; the second gets an odd one."""
    first = draw(rows, int(rows.sum()) // 2, generator=generator)
    return first, rows & ~first


def _lowest_within(group: Tensor, n_groups: int, priority: Tensor, count: int) -> Tensor:
    """``[N]`` bool: the ``count`` rows of each group with the smallest finite priority (ties by row).

    One pass a row: ``count`` is 1 or 2, and a pass costs much less than sorting.
    """
    taken = torch.zeros_like(group, dtype=torch.bool)
    for _ in range(count):
        left = torch.where(taken, torch.inf, priority)
        lowest = left.new_full((n_groups,), torch.inf).scatter_reduce_(0, group, left, "amin")
        rows = ((left == lowest[group]) & (left < torch.inf)).nonzero(as_tuple=True)[0]
        first = rows.new_full((n_groups,), len(group)).scatter_reduce_(0, group[rows], rows, "amin")
        taken[first[first < len(group)]] = True
    return taken


def rank_within(group: Tensor, n_groups: int, priority: Tensor) -> Tensor:
    """``[N]`` int64: how many rows of the same group (``[N]``, below ``n_groups``) have a smaller priority.

    Rows of equal priority count in their own order.
    """
    by_priority = torch.argsort(priority, stable=True)
    order = by_priority[torch.argsort(group[by_priority], stable=True)]
    counts = torch.bincount(group, minlength=n_groups)
    start = counts.cumsum(0) - counts
    rank = torch.empty_like(group)
    rank[order] = torch.arange(group.shape[0]) - start[group[order]]
    return rank
