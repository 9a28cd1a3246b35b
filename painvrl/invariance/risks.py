"""The empirical risk of gated features, with everything but the gates and the projection frozen.

The invariance modules measure risk by the whole-data (gramian) loss, whichever loss trains the
backbone: an environment's gradient then carries no sampling noise of negatives (our choice).

With ``x_u`` the frozen user vectors, ``y_i = [q_i ; h_i]`` the item vectors and ``n_u`` a user's
interactions, the risk of a group ``g`` of interactions is the mean over them of

    l(u, i) = (1 - s_ui)^2 - a0 s_ui^2 + (a0 / n_u) x_u' (Y'Y) x_u

The last term gives each of a user's interactions an equal share of the user's all-pairs term, so
``sum_g n_g R_g`` over any partition is the whole loss, and interactions with random labels are
exchangeable (which makes the penalty's estimate exactly unbiased).

Cold items enter no risk: everything here is about the warm ones.

Shape letters: ``U`` users, ``I`` warm items, ``N`` interactions, ``F`` features, ``d`` ID width, ``k``
content width, ``D`` width of the score vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.model.losses import pointwise_gramian
from painvrl.model.pairs import Pairs, pair_scores
from painvrl.model.streamed import Features
from painvrl.model.training_data import TrainingData


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """What stays at the pretrained values while the mask is learned, and what follows from it alone.

    Attributes:
        pairs: the training pairs; items numbered among the warm ones.
        user_degree: ``[U]``.
        features: ``[I, F]``.
        users: ``[U, D]``: ID part, then content part.
        item_id: ``[I, d]``.
        user_content: ``[U, k]``.
        id_scores: ``[N]`` scores of the pairs' ID parts.
        id_reach: ``[F, d]`` ``f' q``.
        id_energy: 0-dim, the sum of the squared ID scores of all pairs.
        id_pull: ``[I, k]`` the half gradient of the sum of all squared scores on ``h`` at ``h = 0``.
        content_gram: ``[k, k]`` of the users' content part.
        all_pairs_weight: ``a0``.
    """

    pairs: Pairs
    user_degree: Tensor
    features: Features
    users: Tensor
    item_id: Tensor
    user_content: Tensor
    id_scores: Tensor
    id_reach: Tensor
    id_energy: Tensor
    id_pull: Tensor
    content_gram: Tensor
    all_pairs_weight: float


def freeze(
    data: TrainingData,
    features: Features,
    user_id: Tensor,
    item_id: Tensor,
    user_content: Tensor,
    all_pairs_weight: float,
) -> Frozen:
    """Detach the pretrained vectors (``[U, d]``, ``[I, d]``, ``[U, k]``) and keep the warm items' rows.

    Rows of users without a training interaction become zeros.
    """
    users = (torch.cat([user_id, user_content], dim=1) * data.active[:, None]).detach()
    item_id, features = data.warm_rows(item_id.detach()), data.warm_features(features)
    width = item_id.shape[1]
    gram = users.T @ users
    return Frozen(
        pairs=data.warm_pairs,
        user_degree=data.user_degree,
        features=features,
        users=users,
        item_id=item_id,
        user_content=users[:, width:].contiguous(),
        id_scores=pair_scores(users[:, :width], item_id, data.warm_pairs),
        id_reach=features.T @ item_id,
        id_energy=(gram[:width, :width] * (item_id.T @ item_id)).sum(),
        id_pull=item_id @ gram[:width, width:],
        content_gram=gram[width:, width:],
        all_pairs_weight=all_pairs_weight,
    )


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One forward pass at some gates.

    Attributes:
        gates: ``[F]``.
        content: ``[I, k]``.
        scores: ``[N]`` of the pairs.
    """

    gates: Tensor
    content: Tensor
    scores: Tensor


def score(gates: Tensor, weight: Tensor, bias: Tensor, frozen: Frozen) -> Scored:
    """Score the pairs with ``h = (gates * f) W + bias``, for ``gates`` ``[F]`` and ``W`` ``[F, k]``."""
    content = frozen.features @ (gates[:, None] * weight) + bias
    return Scored(
        gates=gates,
        content=content,
        scores=frozen.id_scores + pair_scores(frozen.user_content, content, frozen.pairs),
    )


def empirical_risk(scored: Scored, frozen: Frozen) -> Tensor:
    """``R_ERM = sum_e (n_e / N) R_e``: the whole loss per interaction, without its L2 term."""
    content = scored.content
    # <X'X, Y'Y>, of which only the content part moves.
    everything = frozen.id_energy + (content * (2 * frozen.id_pull + content @ frozen.content_gram)).sum()
    pairs = pointwise_gramian(scored.scores, frozen.all_pairs_weight).sum()
    return (pairs + frozen.all_pairs_weight * everything) / len(frozen.pairs)


def interaction_risks(scored: Scored, frozen: Frozen) -> Tensor:
    """``[N]`` ``l(u, i)`` of every interaction; the mean over a group is its risk."""
    a0 = frozen.all_pairs_weight
    return pointwise_gramian(scored.scores, a0) + a0 * _all_pairs_share(scored, frozen)


def scale_slopes(scored: Scored, frozen: Frozen) -> Tensor:
    """``[N]`` ``d l(u, i) / dw`` at ``w = 1`` for scores ``w s``; the mean over a group is ``dR/dw``."""
    a0, s = frozen.all_pairs_weight, scored.scores
    return -2 * (1 - s) * s - 2 * a0 * s.square() + 2 * a0 * _all_pairs_share(scored, frozen)


def _all_pairs_share(scored: Scored, frozen: Frozen) -> Tensor:
    """``[N]`` ``x_u' (Y'Y) x_u / n_u``: an interaction's share of its user's squared scores."""
    items = torch.cat([frozen.item_id, scored.content], dim=1)
    energy = ((frozen.users @ (items.T @ items)) * frozen.users).sum(dim=1)
    return (energy / frozen.user_degree.clamp_min(1)).index_select(0, frozen.pairs.user)
