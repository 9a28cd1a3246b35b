"""Mini-batches for the sampled loss: which rows a step touches, and where its pairs find them.

Batches are drawn and indexed on the CPU, where the pairs are listed, so that no step asks the device
how many rows it touches.

Shape letters: ``B`` pairs of a batch, ``J`` negatives, ``n_u`` and ``n_i`` distinct users and items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.model.losses import SampledLoss
from painvrl.model.pairs import Pairs, sort_pairs
from painvrl.model.training_data import TrainingData
from painvrl.transfer import to_device


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch on the device.

    Attributes:
        users, items: ``[n_u]``, ``[n_i]`` the distinct ones, sorted; items of positives and negatives.
        user_share, item_share: ``[n_u]``, ``[n_i]`` share of the batch's pairs that each has.
        user, item: ``[B]`` the pairs, as places in ``users`` and ``items``.
        negative: ``[J]`` places in ``items`` of the negatives that all pairs share; empty if ``drawn``.
        drawn: ``B * J`` pairs (place in the batch, place in ``items``) of negatives drawn per pair.
        kept: ``[n_i]`` 1 where the batch sees the item's ID part; ``None`` if it sees all.
    """

    users: Tensor
    items: Tensor
    user_share: Tensor
    item_share: Tensor
    user: Tensor
    item: Tensor
    negative: Tensor
    drawn: Pairs | None
    kept: Tensor | None


def make_batch(
    user: Tensor, item: Tensor, negative: Tensor, kept: Tensor | None, device: torch.device
) -> Batch:
    """Index a batch by the rows that it touches.

    Args:
        user: ``[B]`` on the CPU.
        item: ``[B]`` on the CPU.
        negative: ``[J]`` items that all pairs share, or ``[B, J]`` items, on the CPU.
        kept: ``[I]`` on the CPU, or ``None``.
        device: where the batch goes.
    """
    size = user.shape[0]
    users, user_place, user_count = torch.unique(user, return_inverse=True, return_counts=True)
    items, place = torch.unique(torch.cat([item, negative.flatten()]), return_inverse=True)
    item_place, negative_place = place[:size], place[size:]
    item_count = torch.bincount(item_place, minlength=items.shape[0])
    drawn = None
    if negative.ndim == 2:
        listed = Interactions(
            user=torch.arange(size).repeat_interleave(negative.shape[1]),
            item=negative_place,
            n_users=size,
            n_items=items.shape[0],
        )
        drawn = sort_pairs(listed)
        negative_place = negative_place[:0]

    def there(tensor: Tensor) -> Tensor:
        return to_device(tensor, device)

    return Batch(
        users=there(users),
        items=there(items),
        user_share=there(user_count / size),
        item_share=there(item_count / size),
        user=there(user_place),
        item=there(item_place),
        negative=there(negative_place),
        drawn=None if drawn is None else drawn.map(there),
        kept=None if kept is None else there(kept[items]),
    )


def epoch_of_batches(
    data: TrainingData, loss: SampledLoss, id_dropout: float, generator: torch.Generator, device: torch.device
) -> Iterator[Batch]:
    """A permutation of the training pairs in batches, each with fresh negatives and dropout.

    Negatives are uniform over the warm items: cold ones must be invisible in training.

    Args:
        data: the training part.
        loss: sizes, and whether pairs share their negatives.
        id_dropout: the backbone's.
        generator: a CPU generator.
        device: where the batches go.
    """
    host = data.host
    for rows in torch.randperm(data.n_pairs, generator=generator).split(loss.batch_size):
        shape = (loss.negatives,) if loss.negatives_per == "batch" else (rows.shape[0], loss.negatives)
        negative = host.warm_items[torch.randint(host.warm_items.shape[0], shape, generator=generator)]
        kept = None
        if id_dropout > 0:
            kept = (torch.rand(data.n_items, generator=generator) >= id_dropout).float()
        yield make_batch(host.user[rows], host.item[rows], negative, kept, device)
