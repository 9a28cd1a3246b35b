"""Module 1, heterogeneous identification: which latent environment did each interaction come from?

The default, ``soft_mixture``, is our extension. InvRL's hard EM maximises the classification
likelihood, which always gains by cutting along the widest direction of the features, invariant
ones too; a mixture likelihood does not. One shared, calibrated model is tilted by each environment,

    p_e(i | u) = softmax_i( tau s(u, i) + beta log(1 + d_i) + w_e . v_i ),   v = (1 - m) f,

and ``-mean log sum_e p_e(i | u) / E`` is minimised in the tilts ``w_e``. The shares are equal: with
learned ones, one environment swallows the rest wherever the features say little. The shared part
is frozen, so the normaliser ``Z_e(u) = sum_i A_ui exp(w_e . v_i)`` is one matrix product for
all environments and restarts together, and ``sum_e exp(w_e . v_i) / Z_e(u)`` is the dot product of two
vectors of width ``E``: no tensor of the fit has a row a pair and a column an environment. The tilts
carry no item ID embeddings, or they would cluster by popularity.

Shape letters: ``U`` users, ``I`` items, ``N`` interactions, ``F`` features, ``E`` environments, ``R``
restarts, ``S`` users that the fit sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from painvrl.compilation import step_function
from painvrl.data.interactions import Interactions
from painvrl.errors import Diverged, EmptyEnvironment
from painvrl.invariance.shared_model import SharedModel
from painvrl.model.pairs import Pairs, pair_scores, sort_pairs
from painvrl.model.training_data import TrainingData
from painvrl.settings import Settings


class EnvironmentConfig(Settings):
    """How environments are identified.

    ``assignment``: ``soft_mixture``; ``random`` draws labels (a control: nothing is identified);
    ``given`` takes the data set's own labels (planted data only). ``min_share``: an environment
    below this share of the interactions is re-seeded with the worst-explained ones.
    ``fit_cells``: at most so many (user, item) cells enter the normalisers of a fit; beyond it a
    random subset of the users is fitted, so that memory stays bounded.
    """

    assignment: Literal["soft_mixture", "random", "given"] = "soft_mixture"
    count: int = Field(default=2, ge=2, le=50)
    restarts: int = Field(default=3, ge=1, le=20)
    steps: int = Field(default=60, ge=1)
    learning_rate: float = Field(default=0.2, gt=0)
    ridge: float = Field(default=1e-4, ge=0)
    min_share: float = Field(default=0.02, ge=0, lt=0.5)
    fit_cells: int = Field(default=1_500_000, ge=1)


@dataclass(frozen=True, kw_only=True)
class Environments:
    """The labels of one round.

    Attributes:
        label: ``[N]`` int64 in ``[0, E)``, in the canonical order of the training pairs.
        tilts: ``[E, F]`` on the variant features, or ``None`` where labels were not fitted.
        sizes: interactions of each environment.
        moved_share: share of the interactions whose label changed since the round before (1 in
            the first).
        reseeded: environments that the guard had to fill.
        log_likelihood: what the mixture gains over the shared model, as the mean log-likelihood of
            a fitted interaction; NaN where nothing was fitted.
    """

    label: Tensor
    tilts: Tensor | None
    sizes: tuple[int, ...]
    moved_share: float
    reseeded: int
    log_likelihood: float


def mixture_loss(tilts: Tensor, variant: Tensor, sample: FitSample, ridge: float) -> Tensor:
    """``[R]``: each restart's negative mean log-likelihood, relative to the shared model, plus its ridge.

    Args:
        tilts: ``[R, E, F]``.
        variant: ``[I, F]``.
        sample: the users and pairs of the fit.
        ridge: weight of ``|w|^2``.
    """
    restarts, n_environments, width = tilts.shape
    tilt = variant @ tilts.reshape(-1, width).T
    tilt = (tilt - tilt.amax(dim=0)).unflatten(1, (restarts, n_environments))  # [I, R, E], at most 0
    log_z = (sample.weights @ tilt.exp().flatten(1)).clamp_min(1e-30).log().view(-1, *tilt.shape[1:])
    # Each user's least normaliser and each item's greatest tilt are taken out of the sum, so that no factor
    # is above 1 and an item that every environment dislikes does not vanish; both are put back as
    # constants, since the sum does not depend on them.
    least, greatest = log_z.detach().amin(dim=2), tilt.detach().amax(dim=2)  # [S, R], [I, R]
    shares = (least[:, :, None] - log_z).exp().unbind(1)
    numerators = (tilt - greatest[:, :, None]).exp().unbind(1)
    mixtures = [pair_scores(u, i, sample.pairs) for u, i in zip(shares, numerators, strict=True)]
    log_mixture = torch.stack(mixtures).clamp_min(1e-30).log()
    log_mixture = log_mixture + greatest.index_select(0, sample.pairs.item).T
    log_mixture = log_mixture - least.index_select(0, sample.pairs.user).T
    log_likelihood: Tensor = log_mixture.mean(dim=1) - math.log(n_environments)
    loss: Tensor = ridge * tilts.square().sum(dim=(1, 2)) - log_likelihood
    return loss


@dataclass(frozen=True, kw_only=True)
class FitSample:
    """What a fit sees: ``weights`` ``[S, I]`` are the shared model's probabilities of the fitted
    users, ``pairs`` their interactions, whose users are rows of ``weights``.
    """

    weights: Tensor
    pairs: Pairs


def identify(
    variant: Tensor,
    shared: SharedModel,
    data: TrainingData,
    config: EnvironmentConfig,
    generator: torch.Generator,
    *,
    last: Environments | None = None,
    given: Tensor | None = None,
    compiled: bool = False,
) -> Environments:
    """Label every training interaction with its environment.

    Args:
        variant: ``[I, F]`` the variant part ``(1 - m) f``.
        shared: the calibrated model that all environments share.
        data: the training part.
        config: which assignment, and its knobs.
        generator: a CPU generator.
        last: the round before; its tilts are the start of this fit.
        given: ``[N]`` true labels for ``assignment: given``.
        compiled: whether steps go through ``torch.compile``.

    Raises:
        EmptyEnvironment: fewer interactions than environments need.
        Diverged: the fit is not finite.
    """
    needed = max(2, round(config.min_share * data.n_pairs))
    if config.count * needed > data.n_pairs:
        raise EmptyEnvironment(
            f"{data.n_pairs} training interactions cannot fill {config.count} environments with at "
            f"least {needed} each; lower environments.count or environments.min_share"
        )
    if config.assignment == "given":
        assert given is not None
        return _summary(given, None, last, config.count, 0, float("nan"))
    if config.assignment == "random":
        label = torch.randint(config.count, (data.n_pairs,), generator=generator)
        label = label.to(variant.device) if last is None else last.label
        return _summary(label, None, last, config.count, 0, float("nan"))
    tilts, likelihood = _fit(variant, shared, data, config, generator, last, compiled)
    log_posterior = posterior(variant, shared, data, tilts)
    label, reseeded = _with_least_size(log_posterior.argmax(dim=1), log_posterior, needed)
    return _summary(label, tilts, last, config.count, reseeded, likelihood)


def _fit(
    variant: Tensor,
    shared: SharedModel,
    data: TrainingData,
    config: EnvironmentConfig,
    generator: torch.Generator,
    last: Environments | None,
    compiled: bool,
) -> tuple[Tensor, float]:
    """Fit all restarts at once and keep the likeliest: tilts ``[E, F]`` and its log-likelihood."""
    sample = _fit_sample(shared, data, config, generator)
    shape = (config.restarts, config.count, variant.shape[1])
    if last is not None and last.tilts is not None:
        start = last.tilts[None].clone()
    else:
        start = 0.1 * torch.randn(shape, generator=generator)
    tilts = start.to(variant.device).requires_grad_()
    optimizer = torch.optim.Adam([tilts], lr=config.learning_rate)
    step_loss = step_function(mixture_loss, compiled=compiled)
    for _ in range(config.steps):
        optimizer.zero_grad(set_to_none=True)
        step_loss(tilts, variant, sample, config.ridge).sum().backward()
        optimizer.step()
    with torch.no_grad():
        losses = mixture_loss(tilts, variant, sample, 0.0)
        best = int(losses.argmin())
    if not bool(torch.isfinite(losses).all()):
        raise Diverged("the mixture's likelihood is not finite; lower environments.learning_rate")
    return tilts.detach()[best], -float(losses[best])


def _fit_sample(
    shared: SharedModel, data: TrainingData, config: EnvironmentConfig, generator: torch.Generator
) -> FitSample:
    """All users where their cells fit the budget, else a random subset of them."""
    n_users, n_items = data.user_degree.shape[0], data.warm.shape[0]
    budget = max(1, config.fit_cells // n_items)
    pairs = data.pairs
    if budget >= n_users:
        users = torch.arange(n_users, device=data.warm.device)
        return FitSample(weights=shared.probabilities(users), pairs=pairs)
    users = torch.randperm(n_users, generator=generator)[:budget].sort().values.to(data.warm.device)
    row = torch.full((n_users,), -1, device=data.warm.device)
    row[users] = torch.arange(budget, device=data.warm.device)
    inside = row[pairs.user] >= 0
    fitted = Interactions(
        user=row[pairs.user[inside]], item=pairs.item[inside], n_users=budget, n_items=n_items
    )
    return FitSample(weights=shared.probabilities(users), pairs=sort_pairs(fitted))


@torch.no_grad()
def posterior(variant: Tensor, shared: SharedModel, data: TrainingData, tilts: Tensor) -> Tensor:
    """``[N, E]`` log of ``p_e(i | u) / p_0(i | u)``: the argmax is the likeliest environment.

    The normalisers are computed in blocks of users, so memory does not grow with ``U * I``.
    """
    tilt = variant @ tilts.T
    tilt = tilt - tilt.amax(dim=0)
    lifted = tilt.exp()
    users = torch.arange(data.user_degree.shape[0], device=variant.device)
    normaliser = torch.cat(
        [(shared.probabilities(block) @ lifted).clamp_min(1e-30).log() for block in users.split(1024)]
    )
    pairs = data.pairs
    return tilt[pairs.item] - normaliser[pairs.user]


def _with_least_size(label: Tensor, log_posterior: Tensor, needed: int) -> tuple[Tensor, int]:
    """Fill environments below ``needed`` with the interactions that the mixture explains worst.

    Donors keep at least ``needed`` themselves. Returns the labels and how many were filled.
    """
    n_environments = log_posterior.shape[1]
    sizes = torch.bincount(label, minlength=n_environments)
    reseeded = 0
    explained = torch.logsumexp(log_posterior, dim=1)
    while int(sizes.min()) < needed:
        poor, rich = int(sizes.argmin()), int(sizes.argmax())
        members = (label == rich).nonzero(as_tuple=True)[0]
        take = min(needed - int(sizes[poor]), int(sizes[rich]) - needed)
        worst = explained[members].argsort(stable=True)[:take]
        label = label.index_fill(0, members[worst], poor)
        sizes = torch.bincount(label, minlength=n_environments)
        reseeded += 1
    return label, reseeded


def _summary(
    label: Tensor,
    tilts: Tensor | None,
    last: Environments | None,
    count: int,
    reseeded: int,
    likelihood: float,
) -> Environments:
    sizes = torch.bincount(label, minlength=count)
    if int(sizes.min()) == 0:
        raise EmptyEnvironment(f"an environment has no interactions (sizes {sizes.tolist()})")
    moved = 1.0 if last is None else float((label != last.label).float().mean())
    return Environments(
        label=label,
        tilts=tilts,
        sizes=tuple(sizes.tolist()),
        moved_share=moved,
        reseeded=reseeded,
        log_likelihood=likelihood,
    )
