"""Module 3, convert: how the invariant and the variant part of the features make one score.

A learned fusion undoes the mask: with a binary mask the two parts together span every linear map
of ``f``, so retraining by risk makes the mask a reparametrisation. The default therefore trains
the invariant model first, freezes it, and fits a variant branch on what is left. ``sum``, ``scalar``
and ``item`` are one model on both parts, trained end to end, and carry that warning.

Shape letters: ``n`` items, ``C`` gated copies of the features, ``F`` features, ``k`` content width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from painvrl.settings import Settings

MixingKind = Literal["sum", "scalar", "item"]


class FusionConfig(Settings):
    """Which fusion, and how much of the variant branch the final score holds.

    ``branch``: ``s = s_inv + v s_var`` with ``variant_weight`` v. ``invariant``: v = 0 without training
    a branch (InvRL). The others are one model on ``m f`` and ``(1 - m) f``, which undoes the mask:
    ``sum`` adds both parts, ``scalar`` weighs them with the softmax of two learned numbers, ``item`` with
    an attention over both parts of each item. ``popularity_weight`` b adds ``b log(1 + d_i)`` to every
    score of the trained model, with the item's number of train interactions ``d_i``: below 0 rarer items,
    cold ones first of all, are shown more often.
    """

    kind: Literal["branch", "invariant", "sum", "scalar", "item"] = "branch"
    variant_weight: float = Field(default=0.3, ge=0, le=1)
    popularity_weight: float = Field(default=0.0, ge=-1, le=1)


def weighted_branch(item_vectors: Tensor, base_width: int, variant_weight: float) -> Tensor:
    """Item vectors ``[I, D]`` whose columns after ``base_width``, the branch, weigh ``variant_weight``."""
    scale = torch.ones(item_vectors.shape[1], device=item_vectors.device)
    scale[base_width:] = variant_weight
    return item_vectors * scale


def with_popularity(
    user_vectors: Tensor, item_vectors: Tensor, degree: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Vectors ``[U, 1 + D]`` and ``[I, 1 + D]`` whose products are ``s(u, i) + weight log(1 + d_i)``.

    The new column comes first, so that a variant branch keeps the last ones. Users without a vector, who
    have nothing to be ranked by, stay without one.

    Args:
        user_vectors: ``[U, D]``.
        item_vectors: ``[I, D]``.
        degree: ``[I]``, interactions of each item in train.
        weight: b.
    """
    known = user_vectors.any(dim=1, keepdim=True).to(user_vectors.dtype)
    popularity = weight * torch.log1p(degree.to(item_vectors))[:, None]
    return torch.cat([known, user_vectors], dim=1), torch.cat([popularity, item_vectors], dim=1)


class Sum(nn.Module):
    """``h = sum_c f W_c``; nothing is learned beside the projections."""

    def forward(self, features: Tensor, projections: Tensor) -> Tensor:
        """``[n, k]`` of features ``[n, F]`` and gated projections ``[C, F, k]``."""
        return _project(features, projections.sum(dim=0))


class ScalarWeights(nn.Module):
    """``h = sum_c a_c f W_c`` with ``a = softmax(logits)``, one number a part (our reading).

    The projections could take the weights in: what it computes is ``sum``, learned at another pace.
    """

    def __init__(self, parts: int, device: torch.device) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(parts, device=device))

    def forward(self, features: Tensor, projections: Tensor) -> Tensor:
        """``[n, k]`` of features ``[n, F]`` and gated projections ``[C, F, k]``."""
        return _project(features, (self.logits.softmax(dim=0)[:, None, None] * projections).sum(dim=0))


class ItemAttention(nn.Module):
    """``h_i = sum_c a_ic h_ic`` with ``h_ic = f_i W_c`` and ``a_i = softmax_c(<h_ic, query> / sqrt(k))``.

    Our reading. The query is learned. The weights come from the content alone, so cold items have them, too.
    """

    def __init__(self, content_dim: int, device: torch.device) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(content_dim, device=device))

    def forward(self, features: Tensor, projections: Tensor) -> Tensor:
        """``[n, k]`` of features ``[n, F]`` and gated projections ``[C, F, k]``."""
        parts, width, content_dim = projections.shape
        side_by_side = projections.transpose(0, 1).reshape(width, parts * content_dim)
        each = _project(features, side_by_side).view(-1, parts, content_dim)
        share = ((each @ self.query) / math.sqrt(content_dim)).softmax(dim=1)
        return (share[:, :, None] * each).sum(dim=1)


def make_mixing(kind: MixingKind, parts: int, content_dim: int, device: torch.device) -> nn.Module:
    """How the projections of ``parts`` gated copies of the features make one; equal weights at first."""
    if kind == "scalar":
        return ScalarWeights(parts, device)
    return ItemAttention(content_dim, device) if kind == "item" else Sum()


def _project(features: Tensor, projection: Tensor) -> Tensor:
    """The product in the features' precision, its result in float32."""
    return (features @ projection.to(features.dtype)).float()
