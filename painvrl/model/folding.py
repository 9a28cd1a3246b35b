"""Folding in: vectors of users that the training did not see, fitted to what is known of them.

The items stay as they are. With them frozen the whole-data loss of a user is a quadratic in the user's
vector, so its minimum is the solution of a linear system (a half-step of iALS): the vector that the
training itself would have ended at, had it seen the user without moving the items. *Our reading*; of a
model that was trained with the sampled loss it is the whole-data loss's answer.

Shape letters: ``B`` users of a block, ``W`` the most support items of one of them, ``D`` width of the score
vectors, ``C`` width of the columns that are fitted at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.data.interactions import Interactions, padded

BLOCK_USERS, BLOCK_PAIRS = 256, 2**15
"""What is held at once: a matrix ``[D, D]`` a user, and a vector ``[D]`` a pair."""

_JITTER = 1e-6  # of the mean diagonal: keeps the system solvable without L2


@dataclass(frozen=True, kw_only=True)
class SupportBlock:
    """A few users with about as many support items each.

    Attributes:
        users: ``[B]``.
        items: ``[B, W]``; item 0 where there is none.
        present: ``[B, W]`` 1 where there is one.
        warm: ``[B, W]`` 1 where it has a train interaction, and so a place in the all-pairs term.
    """

    users: Tensor
    items: Tensor
    present: Tensor
    warm: Tensor


@dataclass(frozen=True, kw_only=True)
class Support:
    """What users are folded in by; made once a split."""

    blocks: tuple[SupportBlock, ...]


def plan_support(support: Interactions, warm_items: Tensor, device: torch.device) -> Support:
    """Index ``support`` for ``device``.

    Args:
        support: of users that the training does not see.
        warm_items: ``[I]`` bool, items with a train interaction.
        device: where users will be folded in.
    """
    counts = torch.bincount(support.user, minlength=support.n_users)
    users = torch.argsort(counts, stable=True)
    users = users[counts[users] > 0]
    place = torch.full((support.n_users,), -1)
    place[users] = torch.arange(len(users))
    row, order = place[support.user].sort(stable=True)
    item = support.item[order]
    lengths = counts[users]

    blocks = []
    start = 0
    while start < len(users):
        # Users come by length, so the last of a block is its longest.
        size = min(BLOCK_USERS, len(users) - start)
        while size > 1 and size * int(lengths[start + size - 1]) > BLOCK_PAIRS:
            size //= 2
        end = start + size
        first, last = torch.searchsorted(row, torch.tensor([start, end])).tolist()
        items = padded(row[first:last] - start, item[first:last], size, -1)
        present, items = (items >= 0).float(), items.clamp_min(0)
        blocks.append(
            SupportBlock(
                users=users[start:end].to(device),
                items=items.to(device),
                present=present.to(device),
                warm=(present * warm_items[items]).to(device),
            )
        )
        start = end
    return Support(blocks=tuple(blocks))


def fold_in(
    users: Tensor,
    items: Tensor,
    warm: Tensor,
    support: Support,
    *,
    all_pairs_weight: float,
    l2: float,
    base_width: int,
) -> Tensor:
    """``users`` ``[U, D]`` with the rows of the support's users fitted to it.

    The first ``base_width`` columns are fitted first and the others to what these leave, as a model
    and the branch on top of it are trained.

    Args:
        users: trained vectors.
        items: ``[I, D]``.
        warm: ``[I_w, D]``, those of the items with a train interaction.
        support: who and by what.
        all_pairs_weight: ``a0`` of the loss.
        l2: weight of a user's squared vector, times ``(support items + a0 I)^0.5``.
        base_width: where the branch begins; ``D`` without one.
    """
    a0, width = all_pairs_weight, items.shape[1]
    gram = warm.T @ warm
    steps = [(0, base_width), (base_width, width)] if base_width < width else [(0, width)]
    folded = users.clone()
    for block in support.blocks:
        rows = items[block.items] * block.present[..., None]  # [B, W, D]
        square = block.present - a0 * block.warm  # [B, W]: what a squared score weighs
        ridge = l2 * (block.present.sum(dim=1) + a0 * items.shape[0]).sqrt()
        fitted = items.new_zeros(len(block.users), 0)
        for first, last in steps:
            own = rows[..., first:last]  # [B, W, C]
            scored = (rows[..., :first] @ fitted[..., None]).squeeze(-1)  # [B, W]
            inner = gram[first:last, first:last]
            system = (own * square[..., None]).transpose(1, 2) @ own + a0 * inner
            floor = ridge + _JITTER * a0 * inner.diagonal().mean()
            system = system + floor[:, None, None] * torch.eye(
                last - first, dtype=items.dtype, device=items.device
            )
            wanted = block.present - square * scored
            right = (own * wanted[..., None]).sum(dim=1) - a0 * fitted @ gram[:first, first:last]
            # Unchecked: a failure shows as a value that is not finite, and asking would wait for the device.
            factor = torch.linalg.cholesky_ex(system).L
            fitted = torch.cat([fitted, torch.cholesky_solve(right[..., None], factor).squeeze(-1)], dim=1)
        folded.index_copy_(0, block.users, fitted)
    return folded
