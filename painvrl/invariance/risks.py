"""Risks and their gradients per environment, all environments in one batched computation.

The invariance modules measure risk by the whole-data (gramian) loss, whichever loss trains the
backbone: an environment's gradient then carries no sampling noise of negatives (our choice).

With ``x_u`` the frozen user vectors, ``y_i = [q_i ; h_i]`` the item vectors and ``n_u`` a user's
interactions, the risk of a group ``g`` of interactions is the mean over them of

    l(u, i) = (1 - s_ui)^2 - a0 s_ui^2 + (a0 / n_u) x_u' (Y'Y) x_u

The last term gives each of a user's interactions an equal share of the user's all-pairs term, so
``sum_g n_g R_g`` over any partition is the whole loss, and interactions with random labels are
exchangeable (which makes the penalty's estimate exactly unbiased).

Shape letters: ``U`` users, ``I`` items, ``N`` interactions, ``F`` features, ``k`` content width, ``D``
width of the score vectors, ``G`` groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.model.losses import pointwise_gramian
from painvrl.model.pairs import pair_scores, weighted_rows
from painvrl.model.ultragcn import TrainingData


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """What stays at the pretrained values while the mask is learned.

    Attributes:
        data: the training part.
        features: ``[I, F]``.
        user_id, item_id: ``[U, d]``, ``[I, d]``; cold items have zero rows.
        user_content: ``[U, k]``.
        id_scores: ``[N]`` scores of the pairs' ID parts.
        id_reach: ``[F, d]`` ``f' q``, constant over the steps.
        all_pairs_weight: ``a0``.
    """

    data: TrainingData
    features: Tensor
    user_id: Tensor
    item_id: Tensor
    user_content: Tensor
    id_scores: Tensor
    id_reach: Tensor
    all_pairs_weight: float

    @property
    def users(self) -> Tensor:
        """``[U, D]``."""
        return torch.cat([self.user_id, self.user_content], dim=1)


def freeze(
    data: TrainingData,
    features: Tensor,
    user_id: Tensor,
    item_id: Tensor,
    user_content: Tensor,
    all_pairs_weight: float,
) -> Frozen:
    """Detach the pretrained vectors and score the pairs' ID parts once.

    Rows of users and ID rows of items without a training interaction become zeros.
    """
    user_id, item_id = (user_id * data.active[:, None]).detach(), (item_id * data.warm[:, None]).detach()
    return Frozen(
        data=data,
        features=features,
        user_id=user_id,
        item_id=item_id,
        user_content=(user_content * data.active[:, None]).detach(),
        id_scores=pair_scores(user_id, item_id, data.pairs),
        id_reach=features.T @ item_id,
        all_pairs_weight=all_pairs_weight,
    )


@dataclass(frozen=True, kw_only=True)
class Groups:
    """A partition of the interactions into ``G`` groups, indexed for one pass over all of them.

    Attributes:
        label: ``[N]`` group of each pair.
        sizes: ``[G]`` float, at least 1 (an empty group has risk and gradient zero).
        order: ``[N]`` pairs sorted by item, then by group.
        user_in_order: ``[N]`` ``user[order]``.
        offsets: ``[I * G + 1]`` where the pairs of each (item, group) start in that order.
        user_share: ``[G, U]`` share of each user's interactions that lie in each group.
    """

    label: Tensor
    sizes: Tensor
    order: Tensor
    user_in_order: Tensor
    offsets: Tensor
    user_share: Tensor


def group_pairs(label: Tensor, n_groups: int, data: TrainingData) -> Groups:
    """Index a partition; ``label`` is ``[N]`` int64 in ``[0, n_groups)``."""
    pairs = data.pairs
    n_items, n_users = data.item_degree.shape[0], data.user_degree.shape[0]
    cell = pairs.item * n_groups + label
    order = torch.argsort(cell, stable=True)
    ones = torch.ones_like(label, dtype=torch.float32)
    counts = label.new_zeros(n_groups * n_items).scatter_add_(0, cell, torch.ones_like(label))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    shares = ones.new_zeros(n_groups * n_users).scatter_add_(0, label * n_users + pairs.user, ones)
    shares = shares.view(n_groups, n_users)
    return Groups(
        label=label,
        sizes=shares.sum(dim=1).clamp_min(1),
        order=order,
        user_in_order=pairs.user[order],
        offsets=offsets,
        user_share=shares / data.user_degree.clamp_min(1),
    )


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One forward pass at some gates.

    Attributes:
        gates: ``[F]``.
        content: ``[I, k]`` the content part of warm items, zeros for cold ones.
        scores: ``[N]`` of the pairs.
        gram: ``[D, D]`` ``Y'Y`` over warm items.
    """

    gates: Tensor
    content: Tensor
    scores: Tensor
    gram: Tensor


def score(gates: Tensor, weight: Tensor, bias: Tensor, frozen: Frozen) -> Scored:
    """Score the pairs with ``h = (gates * f) W + bias``, for ``gates`` ``[F]`` and ``W`` ``[F, k]``."""
    content = (frozen.features @ (gates[:, None] * weight) + bias) * frozen.data.warm[:, None]
    items = torch.cat([frozen.item_id, content], dim=1)
    return Scored(
        gates=gates,
        content=content,
        scores=frozen.id_scores + pair_scores(frozen.user_content, content, frozen.data.pairs),
        gram=items.T @ items,
    )


def empirical_risk(scored: Scored, frozen: Frozen) -> Tensor:
    """``R_ERM = sum_e (n_e / N) R_e``: the whole loss per interaction, without its L2 term."""
    users = frozen.users
    everything = ((users.T @ users) * scored.gram).sum()
    pairs = pointwise_gramian(scored.scores, frozen.all_pairs_weight).sum()
    return (pairs + frozen.all_pairs_weight * everything) / len(frozen.data.pairs)


def group_risks(scored: Scored, frozen: Frozen, groups: Groups) -> Tensor:
    """``[G]``: the mean of ``l(u, i)`` over each group."""
    a0 = frozen.all_pairs_weight
    own = torch.zeros_like(groups.sizes)
    own = own.scatter_add(0, groups.label, pointwise_gramian(scored.scores, a0))
    users = frozen.users
    per_user = ((users @ scored.gram) * users).sum(dim=1)
    return (own + a0 * groups.user_share @ per_user) / groups.sizes


def group_gradients(scored: Scored, frozen: Frozen, groups: Groups) -> Tensor:
    """``[G, F, k]``: the gradient of each group's risk on the projection ``W``, in closed form.

    The result is differentiable in the gates (through the scores, too), which is what the penalty
    needs; no second backward pass per group. All groups share one product with the features.
    """
    a0, features = frozen.all_pairs_weight, frozen.features
    n_groups, (n_items, width) = groups.sizes.shape[0], features.shape
    slope = -2 * (1 - scored.scores) - 2 * a0 * scored.scores  # [N] d l / d s of a pair's own part
    pulled = weighted_rows(
        frozen.user_content, groups.user_in_order, slope[groups.order], groups.offsets
    )  # [I G, k]
    own = (features.T @ pulled.view(n_items, -1)).view(width, n_groups, -1).transpose(0, 1)
    # All pairs: 2 a0 Y (sum over users in g of share * x_u c_u'), with [G, D, k] moments.
    moments = torch.einsum("gu,ud,uk->gdk", groups.user_share, frozen.users, frozen.user_content)
    reach = torch.cat([frozen.id_reach, features.T @ scored.content], dim=1)  # [F, D]
    gradient = own + 2 * a0 * torch.matmul(reach, moments)
    return scored.gates[:, None] * gradient / groups.sizes[:, None, None]
