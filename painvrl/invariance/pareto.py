"""The Pareto step: one direction on the mask that lowers both risks as the preference asks.

The IRM weight ``lambda`` is the wanted ratio of the descent of the penalty to the descent of the
empirical risk (our reading of the paper's "Pareto-optimal solution between ERM and IRM").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from painvrl.invariance.upgrad import upgrad_weights

Balancer = Literal["mgda", "fixed", "upgrad", "erm"]


@dataclass(frozen=True, kw_only=True)
class Balance:
    """A common descent direction and how it came about; 0-dim tensors stay on the device.

    Attributes:
        direction: ``[F]``; descend along it. Zero at a Pareto-stationary point.
        epsilon: weight of the empirical risk in the min-norm point, or its share of the weights of
            ``fixed`` and ``upgrad``; in [0, 1].
        cosine: of the angle between the two gradients; below 0 they are in conflict.
    """

    direction: Tensor
    epsilon: Tensor
    cosine: Tensor


def min_norm_weight(a: Tensor, b: Tensor) -> Tensor:
    """``eps`` in [0, 1] for which ``eps a + (1 - eps) b`` is the shortest point of the segment.

    Equal points have no direction of their own; ``eps`` is 1/2 there.
    """
    gap = a - b
    length = gap.square().sum()
    eps = ((b - a) * b).sum() / torch.where(length > 0, length, 1.0)
    return torch.where(length > 0, eps.clamp(0.0, 1.0), 0.5)


def balance(
    risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float, balancer: Balancer
) -> Balance:
    """Combine the gradients of ``log R_ERM`` and ``log P`` on the mask.

    ``mgda`` takes the min-norm point of the segment from ``g_E`` to ``g_I / lambda`` and divides it
    by ``eps + (1 - eps) / lambda``: a convex combination of ``g_E`` and ``g_I`` whose length does not
    depend on ``lambda``. At an interior point both inner products agree, so the penalty falls
    ``lambda`` times as fast as the risk. ``fixed`` is InvRL's weighted sum ``g_E + lambda g_I``
    divided by ``1 + lambda``. ``upgrad`` adds up as ``fixed`` does, after each gradient was projected
    off the other's conflict (:mod:`painvrl.invariance.upgrad`). ``erm`` follows the risk alone, and so
    do ``mgda`` and ``upgrad`` where the penalty has no gradient.

    Args:
        risk_gradient: ``g_E``, ``[F]``, gradient of the risk divided by the risk.
        penalty_gradient: ``g_I``, ``[F]``, the same of the penalty; zeros where it gives no direction.
        irm_weight: ``lambda`` > 0.
        balancer: which rule.
    """
    norms = risk_gradient.norm() * penalty_gradient.norm()
    cosine = (risk_gradient * penalty_gradient).sum() / norms.clamp_min(1e-30)
    if balancer == "erm":
        return Balance(direction=risk_gradient, epsilon=torch.ones_like(cosine), cosine=cosine)
    if balancer == "fixed":
        share = torch.full_like(cosine, 1.0 / (1.0 + irm_weight))
        direction = share * risk_gradient + (1 - share) * penalty_gradient
        return Balance(direction=direction, epsilon=share, cosine=cosine)
    no_penalty = penalty_gradient.square().sum() == 0  # a NaN is no zero, and must come through
    if balancer == "upgrad":
        weights = upgrad_weights(risk_gradient, penalty_gradient, irm_weight)
        direction = weights[0] * risk_gradient + weights[1] * penalty_gradient
        return Balance(
            direction=torch.where(no_penalty, risk_gradient, direction),
            epsilon=torch.where(no_penalty, 1.0, weights[0] / weights.sum()),
            cosine=cosine,
        )
    scaled = penalty_gradient / irm_weight
    epsilon = min_norm_weight(risk_gradient, scaled)
    # Without a penalty gradient the min-norm point is the origin; the risk alone has a say then.
    epsilon = torch.where(no_penalty, 1.0, epsilon)
    direction = epsilon * risk_gradient + (1 - epsilon) * scaled
    return Balance(
        direction=direction / (epsilon + (1 - epsilon) / irm_weight), epsilon=epsilon, cosine=cosine
    )
