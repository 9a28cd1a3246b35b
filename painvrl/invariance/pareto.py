"""The Pareto step: one direction on the mask that lowers both risks as the preference asks.

The IRM weight ``lambda`` is the wanted ratio of the descent of the penalty to the descent of the
empirical risk (our reading of the paper's "Pareto-optimal solution between ERM and IRM").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from painvrl.core.registry import Registry
from painvrl.invariance.upgrad import MISSING, is_installed, upgrad_weights


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

    >>> min_norm_weight(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0]))
    tensor(0.2000)
    """
    gap = a - b
    length = gap.square().sum()
    eps = ((b - a) * b).sum() / torch.where(length > 0, length, 1.0)
    return torch.where(length > 0, eps.clamp(0.0, 1.0), 0.5)


Combined = tuple[Tensor, Tensor]
"""A direction ``[F]``, and the share of the risk in it (0-dim)."""


class Balancer(ABC):
    """The base of all balancers: an object with a name and a rule.

    ``reads_penalty``: whether a step has to estimate the penalty. ``compiles``: whether a step may go
    through ``torch.compile``.
    """

    name: ClassVar[str]
    reads_penalty: ClassVar[bool] = True
    compiles: ClassVar[bool] = True

    def missing(self) -> str | None:
        """What to install for it, as a sentence; ``None`` if all is there."""
        return None

    @abstractmethod
    def combine(self, risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float) -> Combined:
        """The direction, and the share of the risk in it.

        Args:
            risk_gradient: ``g_E``, ``[F]``, gradient of the risk divided by the risk.
            penalty_gradient: ``g_I``, ``[F]``, the same of the penalty; zeros where it gives no direction.
            irm_weight: ``lambda`` > 0.
        """


BALANCERS = Registry[Balancer]("balancer", group="painvrl.balancers", within="painvrl.invariance")


class MinNorm(Balancer):
    """The min-norm point of the segment from ``g_E`` to ``g_I / lambda``, by its share of both.

    Divided by ``eps + (1 - eps) / lambda`` it is a convex combination of ``g_E`` and ``g_I`` whose length
    does not depend on ``lambda``. At an interior point both inner products agree, so the penalty falls
    ``lambda`` times as fast as the risk. The point is that of MGDA (Désidéri, Comptes Rendus Mathématique
    2012), for two gradients in closed form (Sener and Koltun, NeurIPS 2018).

    >>> risk, penalty = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> direction, share = MinNorm().combine(risk, penalty, irm_weight=3.0)
    >>> [round(float(direction @ gradient), 2) for gradient in (risk, penalty)]  # the penalty falls faster
    [0.25, 0.75]
    """

    name: ClassVar[str] = "mgda"

    def combine(self, risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float) -> Combined:
        """See :class:`Balancer`."""
        scaled = penalty_gradient / irm_weight
        epsilon = min_norm_weight(risk_gradient, scaled)
        # Without a penalty gradient the min-norm point is the origin; the risk alone has a say then.
        epsilon = torch.where(_is_zero(penalty_gradient), 1.0, epsilon)
        direction = epsilon * risk_gradient + (1 - epsilon) * scaled
        return direction / (epsilon + (1 - epsilon) / irm_weight), epsilon


class WeightedSum(Balancer):
    """The weighted sum ``g_E + lambda g_I`` of InvRL (Du et al., ACM MM 2022), divided by ``1 + lambda``.

    >>> WeightedSum().combine(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0]), irm_weight=1.0)
    (tensor([0.0000, 0.5000]), tensor(0.5000))
    """

    name: ClassVar[str] = "fixed"

    def combine(self, risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float) -> Combined:
        """See :class:`Balancer`."""
        share = risk_gradient.new_full((), 1.0 / (1.0 + irm_weight))
        return share * risk_gradient + (1 - share) * penalty_gradient, share


class Unconflicting(Balancer):
    """Adds up as ``fixed`` does, after each gradient was projected off the other's conflict.

    It is UPGrad (Quinton and Rey, 2024; :mod:`painvrl.invariance.upgrad`). Without a penalty gradient the
    risk alone has a say.
    """

    name: ClassVar[str] = "upgrad"
    compiles: ClassVar[bool] = False  # it asks the host for its weights

    def missing(self) -> str | None:
        """See :class:`Balancer`."""
        return None if is_installed() else MISSING

    def combine(self, risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float) -> Combined:
        """See :class:`Balancer`."""
        no_penalty = _is_zero(penalty_gradient)
        weights = upgrad_weights(risk_gradient, penalty_gradient, irm_weight)
        direction = weights[0] * risk_gradient + weights[1] * penalty_gradient
        return (
            torch.where(no_penalty, risk_gradient, direction),
            torch.where(no_penalty, 1.0, weights[0] / weights.sum()),
        )


class RiskAlone(Balancer):
    """Follows the risk alone."""

    name: ClassVar[str] = "erm"
    reads_penalty: ClassVar[bool] = False

    def combine(self, risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float) -> Combined:
        """See :class:`Balancer`."""
        return risk_gradient, risk_gradient.new_ones(())


for _balancer in (MinNorm(), WeightedSum(), Unconflicting(), RiskAlone()):
    BALANCERS.register(_balancer)


def _is_zero(gradient: Tensor) -> Tensor:
    return gradient.square().sum() == 0  # a NaN is no zero, and must come through


def balance(risk_gradient: Tensor, penalty_gradient: Tensor, irm_weight: float, balancer: str) -> Balance:
    """Combine the gradients of ``log R_ERM`` and ``log P`` on the mask by the balancer of that name.

    The other arguments are those of :meth:`Balancer.combine`.
    """
    norms = risk_gradient.norm() * penalty_gradient.norm()
    cosine = (risk_gradient * penalty_gradient).sum() / norms.clamp_min(1e-30)
    direction, epsilon = BALANCERS.get(balancer).combine(risk_gradient, penalty_gradient, irm_weight)
    return Balance(direction=direction, epsilon=epsilon, cosine=cosine)
