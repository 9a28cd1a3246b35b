"""The empirical risk of gated features, with everything but the gates and the projection frozen.

The invariance modules measure risk by the whole-data (gramian) loss, whichever loss trains the
backbone: an environment's gradient then carries no sampling noise of negatives (our choice).

With ``x_u`` the frozen user vectors, ``y_i = [q_i ; h_i]`` the item vectors and ``n_u`` a user's
interactions, the risk of a group ``g`` of interactions is the mean over them of

    l(u, i) = (1 - s_ui)^2 - a0 s_ui^2 + (a0 / n_u) x_u' (Y'Y) x_u

The last term gives each of a user's interactions an equal share of the user's all-pairs term, so
``sum_g n_g R_g`` over any partition is the whole loss, and interactions with random labels are
exchangeable (which makes the penalty's estimate exactly unbiased).

Shape letters: ``U`` users, ``I`` items, ``N`` interactions, ``F`` features, ``k`` content width, ``D``
width of the score vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.model.losses import pointwise_gramian
from painvrl.model.pairs import pair_scores
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
