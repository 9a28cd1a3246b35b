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

from painvrl.errors import Diverged
from painvrl.invariance.gates import final_mask, sample_gates, with_density
from painvrl.invariance.pareto import Balance, Balancer, balance
from painvrl.invariance.risks import (
    Frozen,
    Scored,
    empirical_risk,
    group_gradients,
    group_pairs,
    score,
)
from painvrl.rng import generator
from painvrl.settings import Settings

Penalty = Literal["gradient_variance", "iga"]


class MaskConfig(Settings):
    """How the mask is learned.

    ``sparsity``: share of gates that end closed. ``irm_weight``: ``lambda``, the wanted ratio of the
    penalty's descent to the risk's. ``source``: ``learned``; ``ones`` keeps every feature (all
    features); ``given`` takes the data set's own mask (planted data only); ``half`` fixes m = 1/2.
    """

    source: Literal["learned", "ones", "given", "half"] = "learned"
    sparsity: float = Field(default=0.5, ge=0, lt=1)
    irm_weight: float = Field(default=100.0, gt=0)
    balancer: Balancer = "mgda"
    penalty: Penalty = "gradient_variance"
    steps: int = Field(default=60, ge=1)
    gate_rate: float = Field(default=0.05, gt=0)
    learning_rate: float = Field(default=0.02, gt=0)
    sigma: float = Field(default=0.5, gt=0)
    final_sigma: float = Field(default=0.1, gt=0)


@dataclass(frozen=True, kw_only=True)
class MaskState:
    """The learned mask and how it came about.

    Attributes:
        mask: ``[F]`` in [0, 1], exactly ``round(sparsity F)`` zeros.
        mu: ``[F]``; the next round starts from it. weight: ``[F, k]``. bias: ``[k]``.
        risk, penalty, epsilon, cosine: means over the last quarter of the steps.
    """

    mask: Tensor
    mu: Tensor
    weight: Tensor
    bias: Tensor
    risk: float
    penalty: float
    epsilon: float
    cosine: float


def invariance_penalty(
    gradients: Tensor, gates: Tensor, penalty: Penalty
) -> tuple[Tensor, Tensor]:
    """The variance over environments of the gradients on ``W``, and its naive estimate.

    A variance of noisy gradients is mostly noise. Each environment's interactions are cut into two
    random halves; the product of the halves' deviations has the variance between environments as
    its mean, whatever the noise: it is zero for random labels.

    Args:
        gradients: ``[2 E, F, k]``; rows ``2 e`` and ``2 e + 1`` are the halves of environment ``e``.
        gates: ``[F]``; ``gradient_variance`` weighs each feature's variance with its gate.
        penalty: ``gradient_variance`` (HRM's form) or ``iga`` (without the gates).

    Returns:
        ``P``, which may be negative, and the mean square of the halves' deviations, a positive
        scale to compare it with.
    """
    first, second = gradients[0::2], gradients[1::2]
    first = first - first.mean(dim=0)
    second = second - second.mean(dim=0)
    weight = gates if penalty == "gradient_variance" else torch.ones_like(gates)
    unbiased = ((first * second).mean(dim=0).sum(dim=1) * weight).sum()
    naive = ((first.square() + second.square()).mean(dim=0).sum(dim=1) * weight).sum() / 2
    return unbiased, naive


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
    mu: Tensor,
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    frozen: Frozen,
    label: Tensor,
    n_environments: int,
    noise: Tensor,
    half: Tensor,
    sigma: float,
    config: MaskConfig,
    projection_l2: float,
) -> GateStep:
    """One evaluation of both risks at sampled gates, and the balanced direction on ``mu``.

    Args:
        mu, weight, bias: ``[F]``, ``[F, k]``, ``[k]``.
        features: ``[I, F]``. label: ``[N]`` environments.
        noise: ``[F]`` from N(0, 1). half: ``[N]`` of 0 and 1, which half each pair falls in.
        sigma: the gates' noise.
    """
    mu, weight, bias = (tensor.detach().requires_grad_() for tensor in (mu, weight, bias))
    gates = sample_gates(mu, sigma, noise)
    scored = score((features * gates) @ weight + bias, frozen)
    risk = empirical_risk(scored, frozen)
    objective = risk + projection_l2 * weight.square().sum()
    need_penalty = config.balancer != "erm"
    risk_mu, risk_weight, risk_bias = torch.autograd.grad(
        objective, (mu, weight, bias), retain_graph=need_penalty
    )
    if need_penalty:
        penalty, penalty_mu = _penalty_gradient(
            mu, gates, scored, features, frozen, 2 * label + half, 2 * n_environments, config.penalty
        )
    else:
        penalty, penalty_mu = torch.zeros_like(risk), torch.zeros_like(risk_mu)
    step = balance(risk_mu / risk.detach().clamp_min(1e-12), penalty_mu, config.irm_weight, config.balancer)
    return GateStep(
        balance=step,
        weight_gradient=risk_weight,
        bias_gradient=risk_bias,
        risk=risk.detach(),
        penalty=penalty.detach(),
    )


def _penalty_gradient(
    mu: Tensor,
    gates: Tensor,
    scored: Scored,
    features: Tensor,
    frozen: Frozen,
    group: Tensor,
    n_groups: int,
    kind: Penalty,
) -> tuple[Tensor, Tensor]:
    """``P`` and the gradient of ``log P`` on ``mu``; zeros where ``P <= 0``, which gives no direction."""
    groups = group_pairs(group, n_groups, frozen.data)
    gradients = group_gradients(scored, features, gates, frozen, groups)
    penalty, naive = invariance_penalty(gradients, gates, kind)
    (slope,) = torch.autograd.grad(penalty, mu)
    scale = torch.maximum(penalty, _PENALTY_FLOOR * naive).detach().clamp_min(1e-30)
    return penalty, torch.where(penalty.detach() > 0, slope / scale, 0.0)


def learn_mask(
    features: Tensor,
    frozen: Frozen,
    label: Tensor,
    n_environments: int,
    config: MaskConfig,
    *,
    start: tuple[Tensor, Tensor, Tensor],
    projection_l2: float,
    seed: int,
) -> MaskState:
    """Learn the gates for fixed environments.

    Args:
        features: ``[I, F]``. frozen: the pretrained parts.
        label: ``[N]`` environments of the training pairs.
        config: knobs.
        start: ``mu`` ``[F]``, ``W`` ``[F, k]``, bias ``[k]``; the round before, or the pretrained ones.
        projection_l2: the backbone's.
        seed: of the gates' noise and the halves.

    Raises:
        Diverged: a parameter is not finite at the end.
    """
    draws = generator(seed, "gates")
    device = features.device
    mu, weight, bias = (tensor.detach().clone() for tensor in start)
    width, n_pairs = mu.shape[0], label.shape[0]
    optimizer = torch.optim.Adam([weight, bias], lr=config.learning_rate)
    log: list[Tensor] = []
    for step in range(config.steps):
        progress = step / max(1, config.steps - 1)
        sigma = config.sigma + (config.final_sigma - config.sigma) * progress
        noise = torch.randn(width, generator=draws).to(device, non_blocking=True)
        half = torch.randint(2, (n_pairs,), generator=draws).to(device, non_blocking=True)
        taken = gate_step(
            mu, weight, bias, features, frozen, label, n_environments, noise, half, sigma, config, projection_l2
        )
        # A gate's gradient shrinks with the number of gates; the rate is per mean gate.
        mu = mu - config.gate_rate * width * taken.balance.direction
        if config.sparsity > 0:
            mu = with_density(mu, sigma, 1 - config.sparsity)
        weight.grad, bias.grad = taken.weight_gradient, taken.bias_gradient
        optimizer.step()
        log.append(torch.stack([taken.risk, taken.penalty, taken.balance.epsilon, taken.balance.cosine]))
    if not bool(torch.isfinite(mu).all() & torch.isfinite(weight).all()):
        raise Diverged("the mask's gates are not finite; lower mask.gate_rate or mask.learning_rate")
    tail = torch.stack(log[-max(1, config.steps // 4) :]).mean(dim=0).tolist()
    return MaskState(
        mask=final_mask(mu, config.sparsity),
        mu=mu,
        weight=weight,
        bias=bias,
        risk=tail[0],
        penalty=tail[1],
        epsilon=tail[2],
        cosine=tail[3],
    )
