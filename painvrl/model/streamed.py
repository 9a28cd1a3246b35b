"""Features that do not fit the device: they stay on the host, and pass the device in blocks of items.

On the host nothing is held but what the reader has mapped from its file: the system reads pages as they are
wanted, and takes them back. A block is copied to the device, scaled there, multiplied and let go. Sums over
items are made block by block, so products are those of the whole matrix to rounding.

Shape letters: ``I`` items, ``F`` features, ``C`` columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from painvrl.data.features import FeatureRows

BLOCK_BYTES = 32 << 20
"""Of a block in float32; a few times as much is held while it is scaled."""


@dataclass(frozen=True, kw_only=True)
class StreamedFeatures:
    """The matrix ``[I, F]`` as far as models and masks ask for it: its products with what lies on the device.

    Attributes:
        made: makes the rows.
        device: where products are made.
        dtype: of the factors.
        items: ``[n]`` on the device, which items this is about; all of them without it.
    """

    made: FeatureRows
    device: torch.device
    dtype: torch.dtype = torch.float32
    items: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """``(I, F)``, or ``(n, F)``."""
        count = self.made.n_items if self.items is None else self.items.shape[0]
        return torch.Size((count, self.made.width))

    @property
    def T(self) -> TransposedFeatures:  # noqa: N802
        """``[F, I]``."""
        return TransposedFeatures(self)

    def to(self, dtype: torch.dtype) -> StreamedFeatures:
        """The same with factors of this type."""
        return self if dtype == self.dtype else replace(self, dtype=dtype)

    def cpu(self) -> Tensor:
        """The whole matrix on the CPU."""
        rows: slice | Tensor = slice(None) if self.items is None else self.items.cpu()
        return self.made.rows(rows, torch.device("cpu")).to(self.dtype)

    def index_select(self, dim: int, index: Tensor) -> StreamedFeatures:
        """The rows of some items; products with them cost as much as those with all."""
        assert dim == 0
        assert self.items is None
        return replace(self, items=index)

    def gathered(self, items: Tensor) -> Tensor:
        """``[n, F]`` on the device: the rows of ``items``, which lie on the CPU."""
        return self.made.rows(items, self.device).to(self.dtype)

    def __getitem__(self, items: Tensor) -> Tensor:
        """``[n, F]``: the rows of ``items``, which the host waits for. So it is not for a step."""
        assert self.items is None
        return self.gathered(items.cpu())

    def __matmul__(self, columns: Tensor) -> Tensor:
        """``[I, C]``: the product with ``columns`` ``[F, C]``, differentiable in them."""
        return _Product.apply(columns, self)  # type: ignore[no-any-return, no-untyped-call]

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """All items, some neighbours at a time, with their rows on the device."""
        size = max(1, BLOCK_BYTES // (4 * self.made.width))
        for start in range(0, self.made.n_items, size):
            place = slice(start, min(start + size, self.made.n_items))
            yield place, self.made.rows(place, self.device).to(self.dtype)


@dataclass(frozen=True)
class TransposedFeatures:
    """``features.T``."""

    features: StreamedFeatures

    def __matmul__(self, values: Tensor) -> Tensor:
        """``[F, C]``: the product with ``values`` ``[I, C]``, differentiable in them."""
        return _TransposedProduct.apply(values, self.features)  # type: ignore[no-any-return, no-untyped-call]


Features: TypeAlias = Tensor | StreamedFeatures
"""``[I, F]``: a tensor on the device, or what stands for one that does not fit."""


class _Product(torch.autograd.Function):
    """All items are multiplied, in the order of the file, and the wanted rows of the result are taken."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, features: StreamedFeatures) -> Tensor:
        ctx.features = features
        out = columns.new_empty(features.made.n_items, columns.shape[1])
        for place, block in features.blocks():
            torch.mm(block, columns, out=out[place])
        return out if features.items is None else out.index_select(0, features.items)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.features.T @ grad, None


class _TransposedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, features: StreamedFeatures) -> Tensor:
        ctx.features = features
        if features.items is not None:
            everything = values.new_zeros(features.made.n_items, values.shape[1])
            values = everything.index_copy_(0, features.items, values)
        total = torch.zeros(features.made.width, values.shape[1], device=values.device)
        for place, block in features.blocks():
            total += block.T @ values[place]
        return total.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.features @ grad, None
