"""Scores of the listed (user, item) pairs, without gathering a row per pair.

Gathering both rows of ``N`` pairs moves ``2 N D`` numbers forward and scatters them backward. An
``embedding_bag`` sums weighted rows in place, and its gradient with respect to the weights *is* the
score of each pair, so both directions run in one kernel over the pairs (0.2 to 1.2 ms instead of
44 ms at N = 54,000, D = 128 on two cores).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from painvrl.data.interactions import Interactions


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """``N`` pairs sorted by user and by item; made once a data set.

    Attributes:
        user, item: ``[N]`` in the canonical order: by user, then by item.
        user_offsets: ``[U + 1]`` where each user's pairs start in the canonical order.
        item_offsets: ``[I + 1]`` where each item's pairs start in the order by item.
        by_item: ``[N]`` canonical positions in the order by item.
        user_by_item: ``[N]`` ``user[by_item]``.
    """

    user: Tensor
    item: Tensor
    user_offsets: Tensor
    item_offsets: Tensor
    by_item: Tensor
    user_by_item: Tensor

    def __len__(self) -> int:
        return self.user.shape[0]


def canonical_order(interactions: Interactions) -> Tensor:
    """``[N]`` the permutation that sorts interactions by user, then by item."""
    return torch.argsort(interactions.user * interactions.n_items + interactions.item)


def sort_pairs(interactions: Interactions) -> Pairs:
    """Index the interactions by both sides, on their device."""
    order = canonical_order(interactions)
    user, item = interactions.user[order], interactions.item[order]
    by_item = torch.argsort(item, stable=True)
    return Pairs(
        user=user,
        item=item,
        user_offsets=_offsets(user, interactions.n_users),
        item_offsets=_offsets(item, interactions.n_items),
        by_item=by_item,
        user_by_item=user[by_item],
    )


def _offsets(index: Tensor, count: int) -> Tensor:
    sizes = torch.bincount(index, minlength=count)
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def weighted_rows(rows: Tensor, index: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """``[B, D]``: in each bag the sum of ``weights[n] * rows[index[n]]``; ``offsets`` is ``[B + 1]``."""
    return embedding_bag(
        index, rows, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(users, items)
        ctx.pairs = pairs
        with torch.enable_grad():
            probe = users.new_ones(len(pairs)).requires_grad_()
            sums = weighted_rows(items.detach(), pairs.item, probe, pairs.user_offsets)
        (scores,) = torch.autograd.grad(sums, probe, users.detach())
        return scores

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        users, items = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        grad_users = grad_items = None
        if ctx.needs_input_grad[0]:
            grad_users = weighted_rows(items, pairs.item, grad, pairs.user_offsets)
        if ctx.needs_input_grad[1]:
            grad_items = weighted_rows(users, pairs.user_by_item, grad[pairs.by_item], pairs.item_offsets)
        return grad_users, grad_items, None


def pair_scores(users: Tensor, items: Tensor, pairs: Pairs) -> Tensor:
    """``[N]`` dot products ``<users[u], items[i]>`` of the pairs; differentiable once in both.

    Args:
        users: ``[U, D]``.
        items: ``[I, D]``.
        pairs: ``N`` of them.
    """
    if users.shape[1] == 0:  # embedding_bag refuses rows without columns
        return users.new_zeros(len(pairs))
    scores: Tensor = _PairScores.apply(users, items, pairs)  # type: ignore[no-untyped-call]
    return scores
