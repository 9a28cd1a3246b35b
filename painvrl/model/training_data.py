"""The training interactions as the losses need them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from weakref import ref

import torch
from torch import Tensor

from painvrl.core.ranks import n_ranks
from painvrl.data.interactions import Interactions
from painvrl.model.item_graph import ItemNeighbours, strongest_neighbours
from painvrl.model.pairs import Pairs, by_sides, offsets, sort_pairs
from painvrl.model.streamed import Features

BLOCK_USERS = 1 << 17
"""Of more users, the whole-data loss sees so many at a time; beside parameters and items it holds no more."""


@dataclass(frozen=True, kw_only=True)
class HostLists:
    """What batches are drawn from, on the CPU: the pairs' ``user`` ``[N]`` and ``item`` ``[N]``, and the
    ``warm_items`` ``[I_w]``.
    """

    user: Tensor
    item: Tensor
    warm_items: Tensor


@dataclass(frozen=True, kw_only=True)
class UserBlock:
    """Neighbouring users, ``start`` up to ``stop``, with all their training pairs.

    ``pairs`` number users from ``start`` and items among the warm ones.
    """

    start: int
    stop: int
    pairs: Pairs


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Everything about the training part that does not depend on a model; made once a split.

    Attributes:
        pairs: ``N`` training pairs.
        warm_pairs: the same pairs with items numbered among the warm ones; ``pairs`` if all are warm.
        host: where batches are drawn.
        user_degree: ``[U]``. item_degree: ``[I]``.
        warm: ``[I]`` float, 1 for items with a training interaction.
        warm_items: their ``I_w`` indices.
        active: ``[U]`` float, 1 for users with a training interaction.
        user_blocks: all users in blocks, where a step of the whole-data loss takes them one after the other.
    """

    pairs: Pairs
    warm_pairs: Pairs
    host: HostLists
    user_degree: Tensor
    item_degree: Tensor
    warm: Tensor
    warm_items: Tensor
    active: Tensor
    user_blocks: tuple[UserBlock, ...] = ()
    _neighbours: dict[int, ItemNeighbours] = field(default_factory=dict, init=False, compare=False)
    _warm: list[tuple[ref[Features], ref[Features]]] = field(default_factory=list, init=False, compare=False)

    @property
    def n_pairs(self) -> int:
        """``N``, known without asking the device."""
        return len(self.pairs)

    @property
    def n_items(self) -> int:
        """``I``."""
        return self.warm.shape[0]

    @property
    def all_warm(self) -> bool:
        """Whether every item has a training interaction."""
        return self.warm_items.shape[0] == self.n_items

    def warm_rows(self, rows: Tensor) -> Tensor:
        """``[I_w, ...]`` of ``[I, ...]``; no copy where all items are warm."""
        return rows if self.all_warm else rows.index_select(0, self.warm_items)

    def warm_features(self, features: Features) -> Features:
        """:meth:`warm_rows` of the features ``[I, F]``: one copy for all models that live at a time.

        It fills a fair part of the memory. None of them may write to it.
        """
        for known, rows in self._warm:
            if known() is features and (warm := rows()) is not None:
                return warm
        warm = features if self.all_warm else features.index_select(0, self.warm_items)
        self._warm[:] = [(ref(features), ref(warm))]
        return warm

    def item_neighbours(self, count: int) -> ItemNeighbours:
        """Each item's ``count`` strongest neighbours, on the CPU; computed at the first call."""
        if count not in self._neighbours:
            self._neighbours[count] = strongest_neighbours(
                self.host.user, self.host.item, self.active.shape[0], self.n_items, count
            )
        return self._neighbours[count]


def users_at_a_time(n_users: int) -> int:
    """A size of blocks by which all of them, and each of the processes that train together, have as many."""
    of_each = -(-n_users // n_ranks())
    return -(-of_each // -(-of_each // BLOCK_USERS))


def training_data(
    train: Interactions, device: torch.device, *, block_users: int | None = None
) -> TrainingData:
    """Index the training part for the losses on ``device``.

    ``block_users``: where there are more users, the whole-data loss sees so many at a time; by default
    :func:`users_at_a_time`.
    """
    block_users = block_users or users_at_a_time(train.n_users)
    train = train.to(device)
    degree, user_degree = train.item_degree(), train.user_degree()
    pairs = sort_pairs(train)
    warm_items = (degree > 0).nonzero(as_tuple=True)[0]
    warm_pairs = _among(pairs, warm_items, train.n_items)
    return TrainingData(
        pairs=pairs,
        warm_pairs=warm_pairs,
        host=HostLists(user=pairs.user.cpu(), item=pairs.item.cpu(), warm_items=warm_items.cpu()),
        user_blocks=_user_blocks(warm_pairs, block_users) if train.n_users > block_users else (),
        user_degree=user_degree,
        item_degree=degree,
        active=(user_degree > 0).float(),
        warm=(degree > 0).float(),
        warm_items=warm_items,
    )


def _among(pairs: Pairs, warm_items: Tensor, n_items: int) -> Pairs:
    """``pairs`` with each item's place in ``warm_items``; both orders of the pairs stay as they are."""
    n_warm = warm_items.shape[0]
    if n_warm == n_items:
        return pairs
    place = torch.full((n_items,), -1, device=warm_items.device)
    place[warm_items] = torch.arange(n_warm, device=warm_items.device)
    item = place[pairs.item]
    return replace(pairs, item=item, item_offsets=offsets(item, n_warm))


def _user_blocks(pairs: Pairs, size: int) -> tuple[UserBlock, ...]:
    """``pairs`` cut where a block of ``size`` users ends; they stand in the order of the users."""
    n_users, n_items = len(pairs.user_offsets) - 1, len(pairs.item_offsets) - 1
    starts = range(0, n_users, size)
    ends = [min(n_users, start + size) for start in starts]
    cuts = [0, *pairs.user_offsets[ends].tolist()]
    return tuple(
        UserBlock(
            start=start,
            stop=stop,
            pairs=by_sides(pairs.user[first:last] - start, pairs.item[first:last], stop - start, n_items),
        )
        for start, stop, (first, last) in zip(starts, ends, pairwise(cuts), strict=True)
    )
