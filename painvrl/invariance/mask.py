"""Module 2, the invariant mask: gates learned as a Pareto step between empirical and invariant risk.

Users and ID embeddings stay at the pretrained values; the projection ``W`` and the gates' ``mu``
learn. ``W`` follows the empirical risk; ``mu`` follows the balance of :mod:`painvrl.invariance.pareto`.

Shape letters: ``F`` features, ``E`` environments, ``k`` content width, ``N`` interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from painvrl.compilation import step_function
from painvrl.errors import Diverged
from painvrl.invariance.contrasts import (
    ContrastKind,
    ContrastPlan,
    contrast_gradients,
    draw_contrasts,
    plan_contrasts,
    weigh_halves,
)
from painvrl.invariance.gates import final_mask, sample_gates, with_density
from painvrl.invariance.pareto import Balance, Balancer, balance
from painvrl.invariance.risks import Frozen, Scored, empirical_risk, score
from painvrl.rng import generator
from painvrl.settings import Settings
from painvrl.transfer import to_device

Penalty = Literal["gradient_variance", "iga"]


class MaskConfig(Settings):
    """How the mask is learned.

    ``sparsity``: share of gates that end closed. ``irm_weight``: ``lambda``, the wanted ratio of the
    penalty's descent to the risk's. ``contrasts``: how the penalty sees the environments
    (:mod:`painvrl.invariance.contrasts`). ``source``: ``learned``; ``ones`` keeps every feature (all
    features); ``given`` takes the data set's own mask (planted data only); ``half`` fixes m = 1/2.
    """

    source: Literal["learned", "ones", "given", "half"] = "learned"
    sparsity: float = Field(default=0.5, ge=0, lt=1)
    irm_weight: float = Field(default=100.0, gt=0)
    balancer: Balancer = "mgda"
    penalty: Penalty = "gradient_variance"
    contrasts: ContrastKind = "sketched"
    steps: int = Field(default=60, ge=1)
    gate_rate: float = Field(default=0.05, gt=0)
    learning_rate: float = Field(default=0.02, gt=0)
    sigma: float = Field(default=0.5, gt=0)
    final_sigma: float = Field(default=0.1, gt=0)


@dataclass(frozen=True, kw_only=True)
class Gated:
    """What module 2 learns: ``mu`` ``[F]``, ``weight`` ``[F, k]`` and ``bias`` ``[k]`` of the projection."""

    mu: Tensor
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, kw_only=True)
class MaskState:
    """The learned mask and how it came about.

    Attributes:
        mask: ``[F]`` in [0, 1], exactly ``round(sparsity F)`` zeros.
        learned: the next round starts from it.
        risk: mean over the last quarter of the steps, like the three below.
        penalty: may be negative: it is an unbiased estimate.
        epsilon: weight of the risk in the min-norm point.
        cosine: between the two gradients.
    """

    mask: Tensor
    learned: Gated
    risk: float
    penalty: float
    epsilon: float
    cosine: float


def invariance_penalty(
    gradients: Tensor, gates: Tensor, penalty: Penalty, scale: float
) -> tuple[Tensor, Tensor]:
    """The variance over environments of the gradients on ``W``, and its naive estimate.

    A variance of noisy gradients is mostly noise. Each environment's interactions are cut into two
    random halves; the product of the halves' deviations has the variance between environments as
    its mean, whatever the noise: it is zero for random labels.

    Args:
        gradients: ``[2, F, C]``, the contrasts of each half (:mod:`painvrl.invariance.contrasts`).
        gates: ``[F]``; ``gradient_variance`` weighs each feature's variance with its gate.
        penalty: ``gradient_variance`` (HRM's form) or ``iga`` (without the gates).
        scale: the contrasts' own.

    Returns:
        ``P``, which may be negative, and the mean square of the halves' deviations, a positive
        scale to compare it with.
    """
    first, second = gradients
    weight = gates if penalty == "gradient_variance" else torch.ones_like(gates)
    unbiased = scale * ((first * second).sum(dim=1) * weight).sum()
    naive = scale * ((first.square() + second.square()).sum(dim=1) * weight).sum() / 2
    return unbiased, naive


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The randomness of one step.

    Attributes:
        noise: ``[F]`` from N(0, 1). sigma: 0-dim, how much of it the gates see.
        half: ``[N]`` of 0 and 1, which half of its environment each pair falls in.
        contrasts: ``[B, E]``.
    """

    noise: Tensor
    sigma: Tensor
    half: Tensor
    contrasts: Tensor


@dataclass(frozen=True, kw_only=True)
class GateStep:
    """The gradients of one step; all on the device."""

    balance: Balance
    weight_gradient: Tensor
    bias_gradient: Tensor
    risk: Tensor
    penalty: Tensor


# A penalty below this share of its naive estimate is indistinguishable from noise; dividing by
# less would make a gradient of noise arbitrarily long.
_PENALTY_FLOOR = 0.01


def gate_step(
    at: Gated,
    draw: Draw,
    label: Tensor,
    plan: ContrastPlan,
    frozen: Frozen,
    config: MaskConfig,
    projection_l2: float,
) -> GateStep:
    """One evaluation of both risks at sampled gates, and the balanced direction on ``mu``.

    Args:
        at: the parameters.
        draw: the step's randomness.
        label: ``[N]`` environments of the training pairs.
        plan: which columns see which contrast.
        frozen: the features and the pretrained parts.
        config: penalty, balancer and IRM weight.
        projection_l2: weight of ``|W|^2`` beside the risk.
    """
    mu, weight, bias = (tensor.detach().requires_grad_() for tensor in (at.mu, at.weight, at.bias))
    scored = score(sample_gates(mu, draw.sigma, draw.noise), weight, bias, frozen)
    risk = empirical_risk(scored, frozen)
    objective = risk + projection_l2 * weight.square().sum()
    need_penalty = config.balancer != "erm"
    risk_mu, risk_weight, risk_bias = torch.autograd.grad(
        objective, (mu, weight, bias), retain_graph=need_penalty
    )
    if need_penalty:
        halves = weigh_halves(label, draw.half, draw.contrasts, frozen)
        gradients = contrast_gradients(scored, frozen, halves, plan)
        penalty, penalty_mu = _penalty_gradient(mu, scored, gradients, config.penalty, plan.scale)
    else:
        penalty, penalty_mu = torch.zeros_like(risk), torch.zeros_like(risk_mu)
    return GateStep(
        balance=balance(
            risk_mu / risk.detach().clamp_min(1e-12), penalty_mu, config.irm_weight, config.balancer
        ),
        weight_gradient=risk_weight,
        bias_gradient=risk_bias,
        risk=risk.detach(),
        penalty=penalty.detach(),
    )


def _penalty_gradient(
    mu: Tensor, scored: Scored, gradients: Tensor, kind: Penalty, scale: float
) -> tuple[Tensor, Tensor]:
    """``P`` and the gradient of ``log P`` on ``mu``; zeros where ``P <= 0``, which gives no direction."""
    penalty, naive = invariance_penalty(gradients, scored.gates, kind, scale)
    (slope,) = torch.autograd.grad(penalty, mu)
    size = torch.maximum(penalty, _PENALTY_FLOOR * naive).detach().clamp_min(1e-30)
    return penalty, torch.where(penalty.detach() > 0, slope / size, 0.0)


def learn_mask(
    start: Gated,
    label: Tensor,
    n_environments: int,
    frozen: Frozen,
    config: MaskConfig,
    *,
    projection_l2: float,
    seed: int,
    compiled: bool = False,
) -> MaskState:
    """Learn the gates for fixed environments.

    Args:
        start: the round before, or gates at 1/2 and the pretrained projection.
        label: ``[N]`` environments of the training pairs.
        n_environments: ``E``.
        frozen: the features and the pretrained parts.
        config: knobs.
        projection_l2: the backbone's.
        seed: of the gates' noise, the halves and the contrasts.
        compiled: whether steps go through ``torch.compile``.

    Raises:
        Diverged: a parameter is not finite at the end.
    """
    draws = generator(seed, "gates")
    device = frozen.features.device
    mu, weight, bias = (tensor.detach().clone() for tensor in (start.mu, start.weight, start.bias))
    width, n_pairs = mu.shape[0], label.shape[0]
    optimizer = torch.optim.Adam([weight, bias], lr=config.learning_rate)
    plan = plan_contrasts(config.contrasts, n_environments, frozen.user_content)
    step_gates = step_function(gate_step, compiled=compiled)
    keep_density = step_function(with_density, compiled=compiled)
    log: list[Tensor] = []
    for step in range(config.steps):
        progress = step / max(1, config.steps - 1)
        sigma = torch.tensor(config.sigma + (config.final_sigma - config.sigma) * progress)
        sigma = to_device(sigma.to(mu.dtype), device)
        noise = to_device(torch.randn(width, generator=draws), device)
        # A byte a pair travels; the draws are those of whole numbers of any width.
        half = to_device(torch.randint(2, (n_pairs,), generator=draws, dtype=torch.uint8), device).long()
        contrasts = to_device(draw_contrasts(plan, draws).to(weight.dtype), device)
        taken = step_gates(
            Gated(mu=mu, weight=weight, bias=bias),
            Draw(noise=noise, sigma=sigma, half=half, contrasts=contrasts),
            label,
            plan,
            frozen,
            config,
            projection_l2,
        )
        # A gate's gradient shrinks with the number of gates; the rate is per mean gate.
        mu = mu - config.gate_rate * width * taken.balance.direction
        if config.sparsity > 0:
            mu = keep_density(mu, sigma, 1 - config.sparsity)
        weight.grad, bias.grad = taken.weight_gradient, taken.bias_gradient
        optimizer.step()
        log.append(torch.stack([taken.risk, taken.penalty, taken.balance.epsilon, taken.balance.cosine]))
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (mu, weight, bias)):
        raise Diverged("the mask's gates are not finite; lower mask.gate_rate or mask.learning_rate")
    risk, penalty, epsilon, cosine = torch.stack(log[-max(1, config.steps // 4) :]).mean(dim=0).tolist()
    return MaskState(
        mask=final_mask(mu, config.sparsity),
        learned=Gated(mu=mu, weight=weight, bias=bias),
        risk=risk,
        penalty=penalty,
        epsilon=epsilon,
        cosine=cosine,
    )
