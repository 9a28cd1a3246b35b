"""Environments that differ in how much each user's *own* affinity counts.

A logit offset of :mod:`painvrl.invariance.soft_mixture` is the same for every user, so it sees only what an
environment does to a trend that all users share. Here an environment also rescales the affinity for each
feature (:mod:`painvrl.invariance.shared_model`),

    p_e(i | u)  ~  p_0(i | u) exp( sum_f (w_ef + delta_ef b_uf) v_if ),

which is linear in the logit offsets again, with the rows ``[v_i ; b_u * v_i]``. The normaliser has no product
form
any more: the fit takes its mean over ``candidates`` items a user drawn from ``p_0`` (systematic sampling:
equal steps through the cumulated probabilities from one random start), labels are given by the exact one.
All of this is our extension.

Shape letters: ``U`` users, ``I`` items, ``N`` interactions, ``F`` features, ``E`` environments, ``R``
restarts, ``S`` users that the fit sees, ``M`` candidates of each, ``C`` columns, ``F`` or ``2 F``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.core.device import to_device
from painvrl.invariance.shared_model import Affinities, SharedModel, sample_users
from painvrl.invariance.soft_mixture import (
    Mixture,
    MixtureSettings,
    OffsetKind,
    first_offsets,
    likeliest,
)
from painvrl.invariance.variant import ItemFeatures
from painvrl.model.pairs import pair_scores
from painvrl.model.training_data import TrainingData


@dataclass(frozen=True, kw_only=True)
class Design:
    """The rows of a fit.

    Attributes:
        rows: ``[N_S, C]`` of the fitted interactions.
        user: ``[N_S]`` which of the ``S`` users each belongs to.
        candidates: ``[S, M, C]``.
    """

    rows: Tensor
    user: Tensor
    candidates: Tensor


def per_user_mixture_loss(offsets: Tensor, design: Design, ridge: float) -> Tensor:
    """``[R]``: each restart's negative mean log-likelihood, relative to the shared model, plus its ridge.

    Args:
        offsets: ``[R, E, C]``.
        design: the rows of the fit.
        ridge: weight of the logit offsets' squares.
    """
    restarts, n_environments, width = offsets.shape
    columns = offsets.reshape(-1, width).T
    n_candidates = design.candidates.shape[1]
    log_z = (design.candidates @ columns).logsumexp(dim=1) - math.log(n_candidates)  # [S, R E]
    log_ratio = design.rows @ columns - log_z.index_select(0, design.user)
    log_mixture = log_ratio.unflatten(1, (restarts, n_environments)).logsumexp(dim=2)
    loss: Tensor = ridge * offsets.square().sum(dim=(1, 2)) - (
        log_mixture.mean(dim=0) - math.log(n_environments)
    )
    return loss


def fit_per_user_mixture(
    variant: ItemFeatures,
    shared: SharedModel,
    affinities: Affinities,
    data: TrainingData,
    count: int,
    settings: MixtureSettings,
    generator: torch.Generator,
    *,
    start: Tensor | None = None,
    compiled: bool = False,
) -> Mixture:
    """Fit all restarts at once and keep the likeliest; see :func:`soft_mixture.fit_mixture`.

    Raises:
        Diverged: the likelihood is not finite.
    """
    design = draw_design(variant, shared, affinities, data, settings, generator)
    starts = first_offsets(start, count, design.rows.shape[1], settings, generator).to(variant.device)
    ridge = settings.per_user_ridge
    return likeliest(per_user_mixture_loss, (design,), starts, ridge, settings, compiled=compiled)


def draw_design(
    variant: ItemFeatures,
    shared: SharedModel,
    affinities: Affinities,
    data: TrainingData,
    settings: MixtureSettings,
    generator: torch.Generator,
) -> Design:
    """The rows of as many users as the budgets allow.

    Args:
        variant: ``[I, F]``.
        shared: whose probabilities candidates are drawn with.
        affinities: of all users.
        data: the training part.
        settings: budgets, candidates and the kind of logit offset.
        generator: a CPU generator; draws users and candidates.
    """
    n_users, n_items = data.user_degree.shape[0], data.warm.shape[0]
    width = variant.shape[1] * (2 if settings.logit_offset == "both" else 1)
    by_user = width * (settings.candidates + data.n_pairs / n_users)
    budget = min(settings.fit_cells // n_items, int(settings.design_cells / by_user))
    sample = sample_users(data, budget, generator)
    count = sample.users.shape[0]
    place = (
        torch.arange(settings.candidates) + torch.rand(count, 1, generator=generator)
    ) / settings.candidates
    cumulated = shared.probabilities(sample.users).cumsum(dim=1)
    place = to_device(place, variant.device) * cumulated[:, -1:]
    items = torch.searchsorted(cumulated, place).clamp_max(n_items - 1)  # [S, M]
    affinity = affinities.of(sample.users)
    owner = torch.arange(count, device=variant.device)[:, None].expand_as(items)
    candidates = _rows(variant, affinity, owner.reshape(-1), items.reshape(-1), settings.logit_offset)
    return Design(
        rows=_rows(variant, affinity, sample.pairs.user, sample.pairs.item, settings.logit_offset),
        user=sample.pairs.user,
        candidates=candidates.view(count, settings.candidates, -1),
    )


def _rows(variant: ItemFeatures, affinity: Tensor, user: Tensor, item: Tensor, offset: OffsetKind) -> Tensor:
    """``[B, C]``: ``b_u * v_i``, for ``both`` beside ``v_i``."""
    features = variant[item]
    own = affinity[user] * features
    return torch.cat([features, own], dim=1) if offset == "both" else own


@torch.no_grad()
def per_user_posterior(
    variant: ItemFeatures,
    shared: SharedModel,
    affinities: Affinities,
    data: TrainingData,
    offsets: Tensor,
    settings: MixtureSettings,
) -> Tensor:
    """``[N, E]`` log of ``p_e(i | u) / p_0(i | u)`` for ``offsets`` ``[E, C]``: the argmax is the likeliest.

    The logit offset is a product of user and item vectors of width ``k + 1``, computed in blocks of users of
    at most ``fit_cells`` cells.
    """
    n_users, width = data.user_degree.shape[0], variant.shape[1]
    own = offsets[:, -width:]
    trend = offsets[:, :width] if settings.logit_offset == "both" else torch.zeros_like(own)
    users = torch.cat([offsets.new_ones(n_users, 1), affinities.user_content], dim=1)  # [U, 1 + k]
    block = max(1, settings.fit_cells // variant.shape[0])
    columns = []
    for shared_offset, own_offset in zip(trend, own, strict=True):
        items = variant @ torch.cat([shared_offset[:, None], own_offset[:, None] * affinities.weight], dim=1)
        log_z = [
            (users[some] @ items.T + shared.probabilities(some).log()).logsumexp(dim=1)
            for some in torch.arange(n_users, device=variant.device).split(block)
        ]
        columns.append(pair_scores(users, items, data.pairs) - torch.cat(log_z)[data.pairs.user])
    return torch.stack(columns, dim=1)
