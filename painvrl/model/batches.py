"""Mini-batches for the losses on samples: which rows a step touches, and where its pairs find them.

Batches are drawn and indexed on the CPU, where the pairs are listed, so that no step asks the device
how many rows it touches.

Shape letters: ``B`` pairs of a batch, ``J`` negatives, ``n_u`` and ``n_i`` distinct users and items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.core.device import to_device
from painvrl.data.interactions import Interactions
from painvrl.model.item_graph import ItemNeighbours
from painvrl.model.losses import MiniBatchLoss
from painvrl.model.pairs import Pairs, canonical_order, sort_pairs
from painvrl.model.streamed import StreamedFeatures
from painvrl.model.training_data import TrainingData


@dataclass(frozen=True, kw_only=True)
class NeighbourPairs:
    """For each pair of a batch its item's neighbours: ``B * K`` pairs (place in the batch, place in
    ``items``), and their ``weight`` ``[B * K]`` in the pairs' order.
    """

    pairs: Pairs
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch on the device.

    Attributes:
        users, items: ``[n_u]``, ``[n_i]`` the distinct ones, sorted; items of positives, negatives and
            neighbours.
        user_share, item_share: ``[n_u]``, ``[n_i]`` share of the batch's pairs that each has.
        user, item: ``[B]`` the pairs, as places in ``users`` and ``items``.
        negative: ``[J]`` places in ``items`` of the negatives that all pairs share; empty if ``drawn``.
        drawn: ``B * J`` pairs (place in the batch, place in ``items``) of negatives drawn per pair.
        kept: ``[n_i]`` 1 where the batch sees the item's ID part; ``None`` if it sees all.
        modalities: ``[n_i, M]`` what each of the item's modalities weighs; ``None`` if all weigh 1.
        neighbours: of the positives' items; ``None`` without an item-item term.
        features: ``[n_i, F]`` of ``items``, where the features are not on the device.
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
    neighbours: NeighbourPairs | None = None
    modalities: Tensor | None = None
    features: Tensor | None = None


def make_batch(
    user: Tensor,
    item: Tensor,
    negative: Tensor,
    kept: Tensor | None,
    device: torch.device,
    neighbours: ItemNeighbours | None = None,
    modalities: Tensor | None = None,
    features: StreamedFeatures | None = None,
) -> Batch:
    """Index a batch by the rows that it touches.

    Args:
        user: ``[B]`` on the CPU.
        item: ``[B]`` on the CPU.
        negative: ``[J]`` items that all pairs share, or ``[B, J]`` items, on the CPU.
        kept: ``[I]`` on the CPU, or ``None``.
        device: where the batch goes.
        neighbours: of all items, on the CPU.
        modalities: ``[I, M]`` on the CPU, or ``None``.
        features: of all items, where they are not on the device.
    """
    size = user.shape[0]
    users, user_place, user_count = torch.unique(user, return_inverse=True, return_counts=True)
    near = item.new_empty(0) if neighbours is None else neighbours.index[item]
    wanted = [item, negative.flatten(), near.flatten()]
    items, place = torch.unique(torch.cat(wanted), return_inverse=True)
    item_place, negative_place, near_place = place.split([len(part) for part in wanted])
    item_count = torch.bincount(item_place, minlength=items.shape[0])
    drawn = None
    if negative.ndim == 2:
        drawn = sort_pairs(_listed(negative_place.view_as(negative), items.shape[0]))
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
        modalities=None if modalities is None else there(modalities[items]),
        neighbours=None
        if neighbours is None
        else _neighbour_pairs(near_place.view_as(near), neighbours.weight[item], items.shape[0], there),
        features=None if features is None else features.gathered(items),
    )


def _listed(item: Tensor, n_items: int) -> Interactions:
    """``[B, K]`` places of items as ``B * K`` pairs with their row."""
    rows, each = item.shape
    return Interactions(
        user=torch.arange(rows).repeat_interleave(each), item=item.flatten(), n_users=rows, n_items=n_items
    )


def _neighbour_pairs(
    item: Tensor, weight: Tensor, n_items: int, there: Callable[[Tensor], Tensor]
) -> NeighbourPairs:
    listed = _listed(item, n_items)
    # Only fillers repeat a pair, and all of them weigh 0: the order of equal pairs does not matter.
    order = canonical_order(listed)
    return NeighbourPairs(pairs=sort_pairs(listed).map(there), weight=there(weight.flatten()[order]))


def epoch_of_batches(
    data: TrainingData,
    loss: MiniBatchLoss,
    id_dropout: float,
    generator: torch.Generator,
    device: torch.device,
    *,
    neighbours: ItemNeighbours | None = None,
    modalities: Callable[[torch.Generator], Tensor | None] = lambda _: None,
    features: StreamedFeatures | None = None,
) -> Iterator[Batch]:
    """A permutation of the training pairs in batches, each with fresh negatives and dropout.

    Negatives are uniform over the warm items: cold ones must be invisible in training.

    Args:
        data: the training part.
        loss: sizes, and whether pairs share their negatives.
        id_dropout: the backbone's.
        generator: a CPU generator.
        device: where the batches go.
        neighbours: for the item-item term.
        modalities: draws what each modality of each item weighs, ``[I, M]`` on the CPU.
        features: of all items, where they are not on the device.
    """
    host = data.host
    for rows in torch.randperm(data.n_pairs, generator=generator).split(loss.batch_size):
        shape = (loss.negatives,) if loss.negatives_per == "batch" else (rows.shape[0], loss.negatives)
        negative = host.warm_items[torch.randint(host.warm_items.shape[0], shape, generator=generator)]
        kept = None
        if id_dropout > 0:
            kept = (torch.rand(data.n_items, generator=generator) >= id_dropout).float()
        weights = modalities(generator)
        yield make_batch(
            host.user[rows], host.item[rows], negative, kept, device, neighbours, weights, features
        )
