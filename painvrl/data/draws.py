"""Random draws of rows that the split protocols are made of; all of them without Python loops."""

from __future__ import annotations

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
    priority = torch.where(rows, priority, torch.inf)  # the rows not to draw from come last
    by_user = _first_of_each(interactions.user, interactions.n_users, priority, per_user)
    by_item = _first_of_each(interactions.item, interactions.n_items, priority, per_item)
    return by_user | by_item


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
    # Two of these keys are never equal, so a selection draws what a whole sort would.
    chosen = torch.where(rows, key, torch.inf).topk(size, largest=False, sorted=False).indices
    drawn = torch.zeros_like(rows)
    drawn[chosen] = True
    return drawn & rows


def halve(rows: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two disjoint halves (``[N]`` bool) of ``rows`` at random; the second gets an odd one."""
    first = draw(rows, int(rows.sum()) // 2, generator=generator)
    return first, rows & ~first


def _first_of_each(group: Tensor, n_groups: int, priority: Tensor, count: int) -> Tensor:
    """``[N]`` bool: the ``count`` rows of each group with the smallest priority; those at infinity never.

    A pass a row of a group: sorting by priority and group would take much longer for one or two.
    """
    first = torch.zeros(group.shape[0], dtype=torch.bool)
    for _ in range(count):
        least = priority.new_full((n_groups,), torch.inf).scatter_reduce_(0, group, priority, "amin")
        found = (priority == least[group]) & (priority < torch.inf)
        first |= found
        priority = priority.masked_fill(found, torch.inf)
    return first
