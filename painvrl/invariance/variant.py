"""The variant part ``(1 - m) f`` of the items' features, which is never made as a matrix.

Features are the largest thing that a training holds (2.5 GiB of Kwai), so the gates multiply what the
features are multiplied with instead: ``((1 - m) f) W = f ((1 - m) W)``.

Shape letters: ``I`` items, ``F`` features, ``C`` columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.model.streamed import Features


@dataclass(frozen=True)
class VariantPart:
    """``features`` ``[I, F]`` times ``gates`` ``[F]``, column by column.

    >>> part = VariantPart(torch.tensor([[1.0, 2.0]]), torch.tensor([0.0, 0.5]))
    >>> part[torch.tensor([0])], part @ torch.ones(2, 1)
    (tensor([[0., 1.]]), tensor([[1.]]))
    """

    features: Features
    gates: Tensor

    @property
    def shape(self) -> torch.Size:
        """``(I, F)``."""
        return self.features.shape

    @property
    def device(self) -> torch.device:
        """Where the features lie."""
        return self.features.device

    def __matmul__(self, columns: Tensor) -> Tensor:
        """``[I, C]``: the product with ``columns`` ``[F, C]``."""
        return self.features @ (self.gates[:, None] * columns)

    def __getitem__(self, items: Tensor) -> Tensor:
        """``[B, F]``: the rows of ``items`` ``[B]``."""
        return self.features[items] * self.gates


ItemFeatures = Features | VariantPart
"""``[I, F]``: features, or a :class:`VariantPart` of one."""
