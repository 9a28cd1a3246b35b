"""How the projections of gated copies of the features make one content part.

Shape letters: ``n`` items, ``C`` gated copies of the features, ``F`` features, ``k`` content width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from painvrl.model.streamed import Features


@dataclass(frozen=True, kw_only=True)
class Projection:
    """From features to content columns, whatever made it: ``h = sum_c a_c f W_c + bias``.

    ``a = softmax_c(<f W_c, query>)``, so with one part the query is of no effect.

    Attributes:
        weight: ``[C, F, k]``, gates included.
        query: ``[k]``.
        bias: ``[k]``; of whole score vectors ``[D]``, whose last ``k`` columns are the content's.
    """

    weight: Tensor
    query: Tensor
    bias: Tensor

    def beside(self, other: Projection) -> Projection | None:
        """Both side by side; ``None`` where one has several parts, since each has a softmax of its own."""
        if len(self.weight) > 1 or len(other.weight) > 1:
            return None
        pairs = ((self.weight, other.weight), (self.query, other.query), (self.bias, other.bias))
        weight, query, bias = (torch.cat(pair, dim=-1) for pair in pairs)
        return Projection(weight=weight, query=query, bias=bias)


torch.serialization.add_safe_globals([Projection])  # a file of a run's state may hold one


class Mixing(nn.Module, ABC):
    """The base of all: a part of the backbone, which learns its parameters with its own.

    Args:
        parts: ``C``.
        content_dim: ``k``.
        device: of its parameters.
    """

    def __init__(self, parts: int, content_dim: int, device: torch.device) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, features: Features, projections: Tensor) -> Tensor:
        """``[n, k]`` in float32, of features ``[n, F]`` and gated projections ``[C, F, k]``."""

    def kept(self, projections: Tensor) -> tuple[Tensor, Tensor] | None:
        """The weight and the query of the :class:`Projection` that computes the same.

        ``None``, as here, of one that has no such form: checkpoints then make no vectors of features.
        """
        return None


class Sum(Mixing):
    """``h = sum_c f W_c``; nothing is learned beside the projections."""

    def forward(self, features: Features, projections: Tensor) -> Tensor:
        """See :class:`Mixing`."""
        return project(features, projections.sum(dim=0))

    def kept(self, projections: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Mixing`."""
        return projections.sum(dim=0, keepdim=True), projections.new_zeros(projections.shape[2])


class ScalarWeights(Mixing):
    """``h = sum_c a_c f W_c`` with ``a = softmax(logits)``, one number a part (our reading).

    The projections could take the weights in: what it computes is ``sum``, learned at another pace.
    """

    def __init__(self, parts: int, content_dim: int, device: torch.device) -> None:
        super().__init__(parts, content_dim, device)
        self.logits: nn.Parameter = nn.Parameter(torch.zeros(parts, device=device))

    def forward(self, features: Features, projections: Tensor) -> Tensor:
        """See :class:`Mixing`."""
        return project(features, self._weighed(projections).sum(dim=0))

    def kept(self, projections: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Mixing`."""
        weight = self._weighed(projections).sum(dim=0, keepdim=True)
        return weight, projections.new_zeros(projections.shape[2])

    def _weighed(self, projections: Tensor) -> Tensor:
        return self.logits.softmax(dim=0)[:, None, None] * projections


class ItemAttention(Mixing):
    """``h_i = sum_c a_ic h_ic`` with ``h_ic = f_i W_c`` and ``a_i = softmax_c(<h_ic, query> / sqrt(k))``.

    Our reading. The query is learned. The weights come from the content alone, so cold items have them, too.
    """

    def __init__(self, parts: int, content_dim: int, device: torch.device) -> None:
        super().__init__(parts, content_dim, device)
        self.query: nn.Parameter = nn.Parameter(torch.zeros(content_dim, device=device))

    def forward(self, features: Features, projections: Tensor) -> Tensor:
        """See :class:`Mixing`."""
        parts, width, content_dim = projections.shape
        side_by_side = projections.transpose(0, 1).reshape(width, parts * content_dim)
        each = project(features, side_by_side).view(-1, parts, content_dim)
        share = ((each @ self.query) / math.sqrt(content_dim)).softmax(dim=1)
        return (share[:, :, None] * each).sum(dim=1)

    def kept(self, projections: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Mixing`."""
        return projections, self.query / math.sqrt(projections.shape[2])


def project(features: Features, projection: Tensor) -> Tensor:
    """The product in the features' precision, its result in float32."""
    return (features @ projection.to(features.dtype)).float()
