"""Interactions: which user took which item, as two columns of dense indices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """``N`` implicit-feedback interactions between ``U`` users and ``I`` items.

    >>> taken = Interactions(user=torch.tensor([0, 0, 1]), item=torch.tensor([0, 2, 2]), n_users=2, n_items=4)
    >>> len(taken), taken.item_degree().tolist()  # two items are cold
    (3, [1.0, 0.0, 2.0, 0.0])
    >>> taken.select(taken.user == 0).item.tolist()
    [0, 2]

    Attributes:
        user: ``[N]`` int64, each in ``[0, n_users)``.
        item: ``[N]`` int64, each in ``[0, n_items)``.
        n_users: ``U``. Users without an interaction are allowed.
        n_items: ``I``. Items without an interaction are allowed (cold items).
    """

    user: Tensor
    item: Tensor
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return self.user.shape[0]

    def to(self, device: torch.device) -> Interactions:
        """The same interactions on ``device``."""
        return replace(self, user=self.user.to(device), item=self.item.to(device))

    def select(self, rows: Tensor) -> Interactions:
        """The interactions in the given rows (``[n]`` int64 or ``[N]`` bool); ids do not change."""
        return replace(self, user=self.user[rows], item=self.item[rows])

    def user_degree(self) -> Tensor:
        """``[U]`` float32: interactions of each user."""
        return torch.bincount(self.user, minlength=self.n_users).float()

    def item_degree(self) -> Tensor:
        """``[I]`` float32: interactions of each item."""
        return torch.bincount(self.item, minlength=self.n_items).float()

    def cells(self) -> Tensor:
        """``[N]`` int64: one number a pair, ``user * I + item``; in order of the user, then of the item."""
        return self.user * self.n_items + self.item

    def by_user(self) -> tuple[Tensor, Tensor]:
        """CSR: offsets ``[U + 1]`` and the items ``[N]``, sorted by user and then by item."""
        order = torch.argsort(self.cells())
        counts = torch.bincount(self.user, minlength=self.n_users)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return offsets, self.item[order]


def among(values: Tensor, ascending: Tensor) -> Tensor:
    """``[n]`` bool: which of ``values`` occur in ``ascending``.

    A binary search each; ``torch.isin`` sorts both sides together, ten times slower at millions of pairs.
    """
    if len(ascending) == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    place = torch.searchsorted(ascending, values).clamp_max(len(ascending) - 1)
    return ascending[place] == values


def padded(row: Tensor, value: Tensor, rows: int, padding: int) -> Tensor:
    """``[rows, W]``: the values of each row (``row`` ``[n]`` ascends), then ``padding`` up to the longest."""
    counts = torch.bincount(row, minlength=rows)
    table = torch.full((rows, int(counts.max())), padding)
    starts = counts.cumsum(0) - counts
    table[row, torch.arange(len(row)) - starts[row]] = value
    return table
