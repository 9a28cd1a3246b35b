"""The backbone's losses: the whole-data ``gramian`` one, the paper's ``sampled`` one, and a ``softmax``.

The first is that of implicit ALS (Hu et al., ICDM 2008; Rendle et al., RecSys 2022), the second that of
UltraGCN (Mao et al., CIKM 2021), the third the sampled softmax loss (Wu et al., TOIS 2024).

Shape letters: ``U`` users, ``I`` items, ``N`` training pairs, ``D`` width of the score vectors,
``B`` pairs of a batch, ``J`` negatives.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from painvrl.core.settings import Settings


class GramianLoss(Settings):
    """Squared loss over every pair, computed with two Gram matrices (iALS family)."""

    kind: Literal["gramian"] = "gramian"
    """Which loss; decides which other keys there are."""
    all_pairs_weight: float = Field(default=0.1, gt=0)
    """``a0``, the weight of a pair whether interacted or not."""


class SampledLoss(Settings):
    """UltraGCN's weighted logistic loss on mini-batches with uniform negatives (InvRL's code).

    A positive weighs ``w1 + w2 b_ui``, a negative ``w3 + w4 b_uj``, with ``b_ui = sqrt(d_u + 1) / d_u /
    sqrt(d_i + 1)``.
    """

    kind: Literal["sampled"] = "sampled"
    """Which loss; decides which other keys there are."""
    w1: float = Field(default=1.0, ge=0)
    """Constant part of a positive's weight."""
    w2: float = Field(default=1.0, ge=0)
    """Factor of ``b_ui`` in a positive's weight."""
    w3: float = Field(default=1.0, ge=0)
    """Constant part of a negative's weight."""
    w4: float = Field(default=1.0, ge=0)
    """Factor of ``b_uj`` in a negative's weight."""
    negative_weight: float = Field(default=1.0, ge=0)
    """Weight of the negatives' mean beside the positives."""
    negatives: int = Field(default=200, ge=1)
    """Negatives drawn for each ``negatives_per``."""
    negatives_per: Literal["batch", "pair"] = "batch"
    """Share negatives in a ``batch``, so that one matrix product scores them, or draw them for each ``pair``
    (InvRL's code). Both estimate the same loss.
    """
    batch_size: int = Field(default=2048, ge=1)
    """Train interactions in a step."""


class SoftmaxLoss(Settings):
    """Softmax over a positive and uniform negatives: ``-log exp(s_ui / t) / sum exp(s / t)``.

    The pairs of a batch share their negatives. A pair's own item among them is left out; other positives of
    its user count as negatives. Negatives are uniform over the warm items, and logits are not corrected for
    that. Scores are dot products, not cosines.
    """

    kind: Literal["softmax"] = "softmax"
    """Which loss; decides which other keys there are."""
    temperature: float = Field(default=0.2, gt=0)
    """``t``: the smaller, the more the strongest negatives count."""
    negatives: int = Field(default=200, ge=1)
    """Negatives drawn for each batch, whose pairs share them."""
    batch_size: int = Field(default=2048, ge=1)
    """Train interactions in a step."""

    negatives_per: ClassVar[Literal["batch", "pair"]] = "batch"


MiniBatchLoss: TypeAlias = SampledLoss | SoftmaxLoss
"""A loss that is trained on batches of pairs; the other takes all of them in a step."""


class _GramProduct(torch.autograd.Function):
    """``<U'U, I'I>``; autograd by itself would take six products with the rows instead of four."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor) -> Tensor:
        of_users, of_items = users.T @ users, items.T @ items
        ctx.save_for_backward(users, items, of_users, of_items)
        return (of_users * of_items).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        users, items, of_users, of_items = ctx.saved_tensors
        return users @ (2 * grad * of_items), items @ (2 * grad * of_users)


def gram_product(users: Tensor, items: Tensor) -> Tensor:
    """``<U'U, I'I>``, the sum of all squared scores, for ``[U, D]`` and ``[I, D]``; differentiable once."""
    product: Tensor = _GramProduct.apply(users, items)  # type: ignore[no-untyped-call]
    return product


def gramian_loss(positive: Tensor, users: Tensor, items: Tensor, all_pairs_weight: float) -> Tensor:
    """``1/N [ sum over pairs of (1 - s)^2 - a0 s^2 + a0 <U'U, I'I> ]`` (method, "gramian").

    Args:
        positive: ``[N]`` scores of the training pairs.
        users: ``[U, D]``.
        items: ``[I_w, D]`` of the warm items; cold ones would be trained as negatives.
        all_pairs_weight: ``a0``.
    """
    pairs = pointwise_gramian(positive, all_pairs_weight).sum()
    return (pairs + all_pairs_weight * gram_product(users, items)) / positive.shape[0]


def pointwise_gramian(positive: Tensor, all_pairs_weight: float) -> Tensor:
    """``(1 - s)^2 - a0 s^2``: a pair's own part of the loss."""
    return (1 - positive).square() - all_pairs_weight * positive.square()


def ultragcn_weights(user_degree: Tensor, item_degree: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of ``b_ui``: ``sqrt(d_u + 1) / d_u`` ``[U]`` and ``1 / sqrt(d_i + 1)`` ``[I]``."""
    degree = user_degree.clamp_min(1)
    return (degree + 1).sqrt() / degree, (item_degree + 1).rsqrt()


def shared_repulsion(negative: Tensor, user_b: Tensor, item_b: Tensor, config: SampledLoss) -> Tensor:
    """``[B]``: for each pair the mean over shared negatives of ``(w3 + w4 b_uj) softplus(s_uj)``.

    Args:
        negative: ``[B, J]`` scores.
        user_b: ``[B]`` the users' factor of ``b``.
        item_b: ``[J]`` the negatives' factor.
        config: weights.
    """
    # Both sums over the negatives in one product; no weights of size [B, J].
    sums = softplus(negative) @ torch.stack([torch.ones_like(item_b), item_b], dim=1)
    return (config.w3 * sums[:, 0] + config.w4 * user_b * sums[:, 1]) / negative.shape[1]


def drawn_repulsion(negative: Tensor, negative_b: Tensor, config: SampledLoss) -> Tensor:
    """``[B]``: the same for negatives drawn per pair; ``[B, J]`` scores and their ``b_uj``."""
    return ((config.w3 + config.w4 * negative_b) * softplus(negative)).mean(dim=1)


def sampled_loss(positive: Tensor, positive_b: Tensor, repulsion: Tensor, config: SampledLoss) -> Tensor:
    """The mean over a batch of UltraGCN's loss.

    Args:
        positive: ``[B]`` scores of the pairs.
        positive_b: ``[B]`` their ``b_ui``.
        repulsion: ``[B]`` what each pair's negatives say.
        config: weights.
    """
    attract = (config.w1 + config.w2 * positive_b) * softplus(-positive)
    return (attract + config.negative_weight * repulsion).mean()


def softmax_loss(positive: Tensor, negative: Tensor, hit: Tensor, temperature: float) -> Tensor:
    """The mean over a batch of the sampled softmax loss.

    >>> alike = torch.zeros(1), torch.zeros(1, 3)
    >>> round(float(softmax_loss(*alike, torch.zeros(1, 3, dtype=torch.bool), 0.1).exp()), 4)  # one of four
    4.0

    Args:
        positive: ``[B]`` scores of the pairs.
        negative: ``[B, J]`` of the negatives.
        hit: ``[B, J]`` bool, where a negative is the pair's own item; it does not count.
        temperature: ``t``.
    """
    logits = torch.cat([positive[:, None], negative.masked_fill(hit, -torch.inf)], dim=1) / temperature
    return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


def neighbour_attraction(scores: Tensor, weight: Tensor, n_pairs: int) -> Tensor:
    """UltraGCN's ``L_I`` of a batch: ``1/B sum over (u, i) and neighbours j of i of w_ij softplus(-s_uj)``.

    Args:
        scores: ``[M]`` ``<p_u, q_j>`` for each pair of the batch and neighbour of its item.
        weight: ``[M]`` ``w_ij``.
        n_pairs: ``B``.
    """
    return (weight * softplus(-scores)).sum() / n_pairs
