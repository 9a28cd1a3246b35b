"""Environments by a mixture of logit offsets of one shared model (our extension, and the default).

InvRL's hard EM (:mod:`painvrl.invariance.hard_em`) maximises the classification likelihood, which
always gains by cutting along the widest direction of the features, invariant ones too; a mixture
likelihood does not. One shared, calibrated model is shifted by each environment,

    p_e(i | u) = softmax_i( tau s(u, i) + beta log(1 + d_i) + w_e . v_i ),   v = (1 - m) f,

and ``-mean log sum_e p_e(i | u) / E`` is minimised in the logit offsets ``w_e``. The shares are equal: with
learned ones, one environment swallows the rest wherever the features say little. The shared part
is frozen, so the normaliser ``Z_e(u) = sum_i A_ui exp(w_e . v_i)`` is one matrix product for
all environments and restarts together, and ``sum_e exp(w_e . v_i) / Z_e(u)`` is the dot product of two
vectors of width ``E``: no tensor of the fit has a row a pair and a column an environment. The logit offsets
carry no item ID embeddings, or they would cluster by popularity.

Shape letters: ``U`` users, ``I`` items, ``N`` interactions, ``F`` features, ``E`` environments, ``R``
restarts, ``S`` users that the fit sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.compilation import step_function
from painvrl.core.errors import Diverged
from painvrl.core.settings import Settings
from painvrl.data.interactions import Interactions
from painvrl.invariance.shared_model import SharedModel, sample_users
from painvrl.invariance.variant import ItemFeatures
from painvrl.model.pairs import Pairs, pair_scores, sort_pairs
from painvrl.model.training_data import TrainingData

_POSTERIOR_USERS = 1024
_POSTERIOR_CELLS = 1 << 26
"""(user, item) probabilities that are held at a time, a few times over."""

OffsetKind = Literal["shared", "per_user", "both"]


class MixtureSettings(Settings):
    """How the mixture is fitted."""

    logit_offset: OffsetKind = "shared"
    """What an environment changes: a trend that users share (``shared``), the weight of each user's own
    affinity (``per_user``), or ``both``.
    """

    restarts: int = Field(default=3, ge=1, le=20)
    """Fits made at once from random starts; the likeliest is kept."""
    steps: int = Field(default=60, ge=1)
    """Steps of Adam of a fit."""
    learning_rate: float = Field(default=0.2, gt=0)
    """Step size of Adam."""
    ridge: float = Field(default=1e-4, ge=0)
    """Weight of the logit offsets' squares where all are shared."""
    per_user_ridge: float = Field(default=1e-3, ge=0)
    """Weight of the logit offsets' squares where some are per-user."""
    fit_cells: int = Field(default=1_500_000, ge=1)
    """Most (user, item) cells in the normalisers of a fit. Beyond it a random subset of the users is fitted,
    so that memory stays bounded.
    """
    design_cells: int = Field(default=8_000_000, ge=1)
    """Most numbers in the design of a per-user fit, rows times columns. Beyond it a random subset of the
    users is fitted.
    """
    candidates: int = Field(default=32, ge=2)
    """Items that stand for the catalogue in a per-user fit, for each user."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A fitted mixture.

    Attributes:
        offsets: ``[E, F]``; ``[E, 2 F]`` for both kinds of logit offset, the shared ones first.
        log_likelihood: what the mixture gains over the shared model, as the mean log-likelihood of
            a fitted interaction.
    """

    offsets: Tensor
    log_likelihood: float


@dataclass(frozen=True, kw_only=True)
class FitSample:
    """What a fit sees: ``weights`` ``[S, I]`` are the shared model's probabilities of the fitted
    users, ``pairs`` their interactions, whose users are rows of ``weights``.
    """

    weights: Tensor
    pairs: Pairs


def mixture_loss(offsets: Tensor, variant: ItemFeatures, sample: FitSample, ridge: float) -> Tensor:
    """``[R]``: each restart's negative mean log-likelihood, relative to the shared model, plus its ridge.

    Args:
        offsets: ``[R, E, F]``.
        variant: ``[I, F]``.
        sample: the users and pairs of the fit.
        ridge: weight of ``|w|^2``.
    """
    restarts, n_environments, width = offsets.shape
    offset = variant @ offsets.reshape(-1, width).T
    offset = (offset - offset.amax(dim=0)).unflatten(1, (restarts, n_environments))  # [I, R, E], at most 0
    log_z = (sample.weights @ offset.exp().flatten(1)).clamp_min(1e-30).log().view(-1, *offset.shape[1:])
    # Each user's least normaliser and each item's greatest logit offset are taken out of the sum, so that no
    # factor is above 1 and an item that every environment dislikes does not vanish; both are put back as
    # constants, since the sum does not depend on them.
    least, greatest = log_z.detach().amin(dim=2), offset.detach().amax(dim=2)  # [S, R], [I, R]
    shares = (least[:, :, None] - log_z).exp().unbind(1)
    numerators = (offset - greatest[:, :, None]).exp().unbind(1)
    mixtures = [pair_scores(u, i, sample.pairs) for u, i in zip(shares, numerators, strict=True)]
    log_mixture = torch.stack(mixtures).clamp_min(1e-30).log()
    log_mixture = log_mixture + greatest.index_select(0, sample.pairs.item).T
    log_mixture = log_mixture - least.index_select(0, sample.pairs.user).T
    log_likelihood: Tensor = log_mixture.mean(dim=1) - math.log(n_environments)
    loss: Tensor = ridge * offsets.square().sum(dim=(1, 2)) - log_likelihood
    return loss


def fit_mixture(
    variant: ItemFeatures,
    shared: SharedModel,
    data: TrainingData,
    count: int,
    settings: MixtureSettings,
    generator: torch.Generator,
    *,
    start: Tensor | None = None,
    compiled: bool = False,
) -> Mixture:
    """Fit all restarts at once and keep the likeliest.

    Args:
        variant: ``[I, F]``.
        shared: the calibrated model that all environments share.
        data: the training part.
        count: ``E``.
        settings: see there.
        generator: a CPU generator.
        start: ``[E, F]`` logit offsets of the round before, instead of random restarts.
        compiled: whether steps go through ``torch.compile``.

    Raises:
        Diverged: the likelihood is not finite.
    """
    sample = fit_sample(shared, data, settings, generator)
    starts = first_offsets(start, count, variant.shape[1], settings, generator).to(variant.device)
    return likeliest(mixture_loss, (variant, sample), starts, settings.ridge, settings, compiled=compiled)


def labelled_offsets(
    variant: ItemFeatures,
    shared: SharedModel,
    data: TrainingData,
    label: Tensor,
    count: int,
    settings: MixtureSettings,
    generator: torch.Generator,
    *,
    compiled: bool = False,
) -> Tensor:
    """``[E, F]`` the likeliest logit offsets of each group of interactions: where a mixture may start.

    Args:
        variant: ``[I, F]``.
        shared: the calibrated model that all environments share.
        data: the training part.
        label: ``[N]`` in ``[0, E)``, or -1 of an interaction that tells nothing.
        count: ``E``.
        settings: of each fit.
        generator: a CPU generator; draws the users of the fits.
        compiled: whether steps go through ``torch.compile``.

    Raises:
        Diverged: a likelihood is not finite.
    """
    users = sample_users(data, settings.fit_cells // data.n_items, generator)
    weights, pairs, everything = shared.probabilities(users.users), users.pairs, data.pairs
    cells = everything.user * data.n_items + everything.item
    of_pair = label[torch.searchsorted(cells, users.users[pairs.user] * data.n_items + pairs.item)]
    found = []
    for environment in range(count):
        mine = of_pair == environment
        rows = Interactions(
            user=pairs.user[mine], item=pairs.item[mine], n_users=len(users.users), n_items=data.n_items
        )
        sample = FitSample(weights=weights, pairs=sort_pairs(rows))
        zeros = torch.zeros(1, 1, variant.shape[1], device=weights.device, dtype=weights.dtype)
        if len(rows) == 0:  # none of the users of the fit has one
            found.append(zeros[0, 0])
            continue
        seen = (variant, sample)  # a mixture of one
        fitted = likeliest(mixture_loss, seen, zeros, settings.ridge, settings, compiled=compiled)
        found.append(fitted.offsets[0])
    return torch.stack(found)


def first_offsets(
    start: Tensor | None, count: int, width: int, settings: MixtureSettings, generator: torch.Generator
) -> Tensor:
    """``[R, E, C]``: random restarts, or ``start`` ``[E, C]`` alone."""
    if start is not None:
        return start[None].clone()
    return 0.1 * torch.randn(settings.restarts, count, width, generator=generator)


def likeliest(
    loss: Callable[..., Tensor],
    seen: tuple[object, ...],
    starts: Tensor,
    ridge: float,
    settings: MixtureSettings,
    *,
    compiled: bool,
) -> Mixture:
    """Minimise ``loss`` from every start ``[R, E, C]`` at once and keep the likeliest end.

    Args:
        loss: from logit offsets ``[R, E, C]``, what is ``seen``, and the ridge to ``[R]`` losses.
        seen: what the loss is about.
        starts: on the device of the fit.
        ridge: weight of the logit offsets' squares; it does not count in the choice of the end.
        settings: steps and learning rate.
        compiled: whether steps go through ``torch.compile``.

    Raises:
        Diverged: the likelihood is not finite.
    """
    offsets = starts.requires_grad_()
    step_loss = step_function(loss, compiled=compiled)
    optimizer = torch.optim.Adam([offsets], lr=settings.learning_rate)
    for _ in range(settings.steps):
        optimizer.zero_grad(set_to_none=True)
        step_loss(offsets, *seen, ridge).sum().backward()
        optimizer.step()
    with torch.no_grad():
        losses = loss(offsets, *seen, 0.0)
        best = int(losses.argmin())
    if not bool(torch.isfinite(losses).all()):
        raise Diverged("the mixture's likelihood is not finite; lower environments.learning_rate")
    return Mixture(offsets=offsets.detach()[best], log_likelihood=-float(losses[best]))


def fit_sample(
    shared: SharedModel, data: TrainingData, settings: MixtureSettings, generator: torch.Generator
) -> FitSample:
    """All users where their cells fit the budget, else a random subset of them."""
    sample = sample_users(data, settings.fit_cells // data.warm.shape[0], generator)
    return FitSample(weights=shared.probabilities(sample.users), pairs=sample.pairs)


@torch.no_grad()
def posterior(variant: ItemFeatures, shared: SharedModel, data: TrainingData, offsets: Tensor) -> Tensor:
    """``[N, E]`` log of ``p_e(i | u) / p_0(i | u)``: the argmax is the likeliest environment.

    The normalisers are computed in blocks of users, so memory does not grow with ``U * I``, and of fewer
    users where there are many items.
    """
    offset = variant @ offsets.T
    offset = offset - offset.amax(dim=0)
    lifted = offset.exp()
    users = torch.arange(data.user_degree.shape[0], device=variant.device)
    block_size = max(1, min(_POSTERIOR_USERS, _POSTERIOR_CELLS // variant.shape[0]))
    normaliser = torch.cat(
        [(shared.probabilities(block) @ lifted).clamp_min(1e-30).log() for block in users.split(block_size)]
    )
    pairs = data.pairs
    return offset[pairs.item] - normaliser[pairs.user]
