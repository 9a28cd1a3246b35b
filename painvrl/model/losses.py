"""The backbone's two losses: the whole-data ``gramian`` one and the paper's ``sampled`` one.

Shape letters: ``U`` users, ``I`` items, ``N`` training pairs, ``D`` width of the score vectors,
``B`` pairs of a batch, ``J`` negatives.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from painvrl.settings import Settings


class GramianLoss(Settings):
    """Squared loss over every pair, computed with two Gram matrices (iALS family).

    ``all_pairs_weight``: ``a0``, the weight of a pair whether interacted or not.
    """

    kind: Literal["gramian"] = "gramian"
    all_pairs_weight: float = Field(default=0.1, gt=0)


class SampledLoss(Settings):
    """UltraGCN's weighted logistic loss on mini-batches with uniform negatives (InvRL's code).

    A positive weighs ``w1 + w2 b_ui``, a negative ``w3 + w4 b_uj``, with
    ``b_ui = sqrt(d_u + 1) / d_u / sqrt(d_i + 1)``; the negatives' mean weighs
    ``negative_weight``. The ``negatives`` of a batch are shared by its pairs: one matrix product
    scores them all, and their mean estimates the same loss as negatives drawn per pair.
    """

    kind: Literal["sampled"] = "sampled"
    w1: float = Field(default=1.0, ge=0)
    w2: float = Field(default=1.0, ge=0)
    w3: float = Field(default=1.0, ge=0)
    w4: float = Field(default=1.0, ge=0)
    negative_weight: float = Field(default=1.0, ge=0)
    negatives: int = Field(default=200, ge=1)
    batch_size: int = Field(default=2048, ge=1)


def gramian_loss(
    positive: Tensor, users: Tensor, items: Tensor, warm: Tensor, all_pairs_weight: float
) -> Tensor:
    """``1/N [ sum over pairs of (1 - s)^2 - a0 s^2 + a0 <U'U, I'I> ]`` (method, "gramian").

    Args:
        positive: ``[N]`` scores of the training pairs.
        users: ``[U, D]``.
        items: ``[I, D]``.
        warm: ``[I]`` float, 1 for items with a training interaction; only these count as pairs,
            or cold items would be trained as negatives.
        all_pairs_weight: ``a0``.
    """
    warm_items = items * warm[:, None]
    everything = ((users.T @ users) * (warm_items.T @ warm_items)).sum()
    return (pointwise_gramian(positive, all_pairs_weight).sum() + all_pairs_weight * everything) / (
        positive.shape[0]
    )


def pointwise_gramian(positive: Tensor, all_pairs_weight: float) -> Tensor:
    """``(1 - s)^2 - a0 s^2``: a pair's own part of the loss."""
    return (1 - positive).square() - all_pairs_weight * positive.square()


def ultragcn_weights(user_degree: Tensor, item_degree: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of ``b_ui``: ``sqrt(d_u + 1) / d_u`` ``[U]`` and ``1 / sqrt(d_i + 1)`` ``[I]``."""
    degree = user_degree.clamp_min(1)
    return (degree + 1).sqrt() / degree, (item_degree + 1).rsqrt()


def sampled_loss(
    positive: Tensor,
    positive_b: Tensor,
    negative: Tensor,
    negative_b: Tensor,
    config: SampledLoss,
) -> Tensor:
    """The mean over a batch of UltraGCN's loss.

    Args:
        positive: ``[B]`` scores of the pairs.
        positive_b: ``[B]`` their ``b_ui``.
        negative: ``[B, J]`` scores of the sampled negatives.
        negative_b: ``[B, J]`` their ``b_uj``.
        config: weights.
    """
    attract = (config.w1 + config.w2 * positive_b) * softplus(-positive)
    repel = ((config.w3 + config.w4 * negative_b) * softplus(negative)).mean(dim=1)
    return (attract + config.negative_weight * repel).mean()
