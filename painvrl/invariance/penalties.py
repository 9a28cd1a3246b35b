"""The invariance penalties: how differently the environments see one recommender.

With ``R_e`` the risk in environment ``e``, ``W`` the projection and ``m`` the gates,

    gradient_variance   sum over entries of Var_e(dR_e/dW) m         (HRM's form)
    iga                 sum over entries of Var_e(dR_e/dW)
    legacy              sum over entries of (Var_e(dR_e/dW) m)^2     (InvRL's code)
    irmv1               mean_e (d R_e(w s)/dw at w = 1)^2
    vrex                Var_e(R_e)

and ``coefficient_variance``, of which see :mod:`painvrl.invariance.coefficients`. Each is one object, found
by its name in :data:`PENALTIES`.

A square of noisy numbers is mostly noise. Each environment's interactions are therefore cut into
random parts, and what is squared becomes the product of two parts' values. The interactions of a
partition are exchangeable under random labels, so there every variance is zero in the mean, exactly.
``invrl`` squares a variance, and the square of an unbiased estimate is not unbiased: it takes
quarters, one variance from the first two and one from the last two, and multiplies those. ``irmv1`` is
no variance; its mean under random labels is the squared slope of the whole risk, which is zero only
where the scale of the scores is the best one.

The first three cost what their contrasts cost (:mod:`painvrl.invariance.contrasts`, ``invrl`` twice
that), the last two one sum over the interactions, for any number of environments.

Shape letters: ``N`` interactions, ``F`` features, ``k`` content width, ``E`` environments, ``B`` blocks of
columns, ``C`` columns in all blocks, ``S`` pairs of parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from painvrl.core.registry import Registry
from painvrl.invariance.coefficients import FeatureVariances
from painvrl.invariance.contrasts import ContrastPlan, contrast_gradients, weigh_halves
from painvrl.invariance.risks import Frozen, Scored, interaction_risks, scale_slopes


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A penalty, 0-dim tensors.

    Attributes:
        value: unbiased, so it may be negative.
        naive: the mean square in place of the product of two parts, a positive scale to compare it with.
    """

    value: Tensor
    naive: Tensor


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a penalty may look at in one step.

    Attributes:
        scored: the forward pass, at gates that the estimate is to be differentiable in.
        frozen: the features and the pretrained parts.
        label: ``[N]`` environments in ``[0, E)``, in the canonical order.
        plan: which columns see which contrast.
        part: ``[N]`` int64 in ``[0, 2 S)``, drawn at random; ``None`` where ``S`` is 0.
        contrasts: ``[S, B, E]``, independent turns.
        variances: how differently the environments weigh each feature; only where they are read.
    """

    scored: Scored
    frozen: Frozen
    label: Tensor
    plan: ContrastPlan
    part: Tensor | None = None
    contrasts: Tensor | None = None
    variances: FeatureVariances | None = None

    def means(self, values: Tensor) -> Tensor:
        """``[E, 2]`` means of ``values`` ``[N]`` over each environment's halves."""
        assert self.part is not None
        return part_means(values, self.label, self.part, self.plan.n_environments)

    def gradients(self, side: int) -> Tensor:
        """``[2, F, C]`` contrasts of the gradients on ``W``, each half of pair ``side`` of the parts."""
        assert self.part is not None
        assert self.contrasts is not None
        rows = self.contrasts[side]
        if len(self.contrasts) == 1:
            halves = weigh_halves(self.label, self.part, rows, self.frozen)
        else:
            member = (self.part // 2 == side).to(rows.dtype)
            halves = weigh_halves(self.label, self.part % 2, rows, self.frozen, member)
        return contrast_gradients(self.scored, self.frozen, halves, self.plan)


@dataclass(frozen=True)
class Penalty(ABC):
    """The base of all penalties: an object with a name, settings if it has any, and a formula.

    ``part_pairs``: ``S``; a step cuts each environment into ``2 S`` parts. ``reads_variances``: whether it
    wants ``Seen.variances``, which are estimated once a round.
    """

    part_pairs: ClassVar[int] = 1
    reads_variances: ClassVar[bool] = False

    name: str

    @abstractmethod
    def estimate(self, seen: Seen) -> Estimate:
        """Estimate ``P``, differentiable in the gates. It runs compiled, and must not wait for the device."""


PENALTIES = Registry[Penalty]("penalty", group="painvrl.penalties", within="painvrl.invariance")


@dataclass(frozen=True)
class CoefficientVariance(Penalty):
    """``sum_f m_f V_f`` for the variances ``V`` of the environments' coefficients."""

    part_pairs: ClassVar[int] = 0
    reads_variances: ClassVar[bool] = True

    def estimate(self, seen: Seen) -> Estimate:
        """See :class:`Penalty`."""
        assert seen.variances is not None
        gates, variances = seen.scored.gates, seen.variances
        return Estimate(value=(gates * variances.value).sum(), naive=(gates * variances.naive).sum())


@dataclass(frozen=True)
class GradientVariance(Penalty):
    """The variance over environments of the gradients on ``W``, weighed with the gates or not.

    With them it is the form of HRM (Liu et al., ICML 2021), without them IGA (Koyama and Yamaguchi, 2020).
    """

    gated: bool

    def estimate(self, seen: Seen) -> Estimate:
        """See :class:`Penalty`."""
        gates = seen.scored.gates
        weight = gates if self.gated else torch.ones_like(gates)
        return gradient_variance(seen.gradients(0), weight, seen.plan.scale)


@dataclass(frozen=True)
class ScaleSlope(Penalty):
    """The squared slope of each environment's risk on a factor of all scores (Arjovsky et al., 2019)."""

    def estimate(self, seen: Seen) -> Estimate:
        """See :class:`Penalty`."""
        return squared_mean(seen.means(scale_slopes(seen.scored, seen.frozen)))


@dataclass(frozen=True)
class RiskVariance(Penalty):
    """The variance over environments of the risk (Krueger et al., ICML 2021)."""

    def estimate(self, seen: Seen) -> Estimate:
        """See :class:`Penalty`."""
        return risk_variance(seen.means(interaction_risks(seen.scored, seen.frozen)))


@dataclass(frozen=True)
class SquaredVariance(Penalty):
    """The square of each entry's gated variance, as in the code of InvRL (Du et al., ACM MM 2022)."""

    part_pairs: ClassVar[int] = 2

    def estimate(self, seen: Seen) -> Estimate:
        """See :class:`Penalty`."""
        return squared_variance(seen.gradients(0), seen.gradients(1), seen.scored, seen.plan.scale)


for _penalty in (
    CoefficientVariance("coefficient_variance"),
    GradientVariance("gradient_variance", gated=True),
    GradientVariance("iga", gated=False),
    ScaleSlope("irmv1"),
    RiskVariance("vrex"),
    SquaredVariance("invrl"),
):
    PENALTIES.register(_penalty)


def gradient_variance(gradients: Tensor, weight: Tensor, scale: float) -> Estimate:
    """The variance over environments of the gradients on ``W``.

    Args:
        gradients: ``[2, F, C]``, the contrasts of each half (:mod:`painvrl.invariance.contrasts`).
        weight: ``[F]`` of each feature's variance.
        scale: the contrasts' own.
    """
    first, second = gradients
    return Estimate(
        value=scale * ((first * second).sum(dim=1) * weight).sum(),
        naive=scale * ((first.square() + second.square()).sum(dim=1) * weight).sum() / 2,
    )


def squared_variance(first: Tensor, second: Tensor, scored: Scored, scale: float) -> Estimate:
    """The sum over the entries of ``W`` of ``(Var_e m)^2``.

    Args:
        first: ``[2, F, C]`` contrasts of the first two quarters.
        second: ``[2, F, C]`` of the last two, which share no interaction with ``first``.
        scored: whose gates weigh the features, and whose ``k`` columns the contrasts are about.
        scale: the contrasts' own.
    """
    width, depth = scored.gates.shape[0], scored.content.shape[1]
    weight = scale * scored.gates[:, None]

    def by_entry(columns: Tensor) -> Tensor:
        """``[F, k]``: each entry's variance times its gate, from all the contrasts that it saw."""
        return weight * columns.view(width, -1, depth).sum(dim=1)

    (a, b), (c, d) = first, second
    value = by_entry(a * b) * by_entry(c * d)
    naive = by_entry(a.square() + b.square()) * by_entry(c.square() + d.square()) / 4
    return Estimate(value=value.sum(), naive=naive.sum())


def part_means(values: Tensor, label: Tensor, part: Tensor, n_environments: int) -> Tensor:
    """``[E, 2]`` means of ``values`` ``[N]`` over each environment's halves.

    An empty half takes the mean over all environments: it knows of no difference.
    """
    group = 2 * label + part

    def sums(of: Tensor) -> Tensor:
        zeros = of.new_zeros(2 * n_environments)
        return zeros.scatter_add(0, group, of).view(n_environments, 2)

    totals, sizes = sums(values), sums(torch.ones_like(values))
    overall = totals.sum(dim=0) / sizes.sum(dim=0).clamp_min(1)
    return torch.where(sizes > 0, totals / sizes.clamp_min(1), overall)


def risk_variance(means: Tensor) -> Estimate:
    """``Var_e(R_e)`` from the halves' risks ``[E, 2]``.

    >>> risk_variance(torch.tensor([[0.2, 0.4], [0.4, 0.6]]))
    Estimate(value=tensor(0.0100), naive=tensor(0.0100))
    """
    return squared_mean(means - means.mean(dim=0))


def squared_mean(means: Tensor) -> Estimate:
    """``mean_e (x_e)^2`` from the halves' means ``[E, 2]`` of any ``x``."""
    first, second = means.unbind(1)
    return Estimate(value=(first * second).mean(), naive=means.square().mean())
