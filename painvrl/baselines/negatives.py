"""Items that a user did not take, for the baselines that learn from pairs.

Shape letters: ``I`` items, ``N`` training interactions, ``B`` of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from painvrl.data.interactions import Interactions, among

ROUNDS = 100
"""A user who took every item would be drawn for without end: the last draw stands."""


class NegativeSampler:
    """Draws uniformly among the warm items that a user did not take; cold ones are invisible in training."""

    def __init__(self, train: Interactions) -> None:
        self._n_items = train.n_items
        self._warm = train.item.unique()
        self._taken = train.cells().unique()

    def draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """An item for each of ``users`` ``[B]``, on the CPU as ``generator`` is."""
        items: Tensor = self._warm[torch.randint(len(self._warm), users.shape, generator=generator)]
        for _ in range(ROUNDS):
            again = self._is_taken(users, items).nonzero(as_tuple=True)[0]
            if len(again) == 0:
                break
            items[again] = self._warm[torch.randint(len(self._warm), again.shape, generator=generator)]
        return items

    def _is_taken(self, users: Tensor, items: Tensor) -> Tensor:
        return among(users * self._n_items + items, self._taken)
