"""The invariance penalties: how differently the environments see one recommender.

With ``R_e`` the risk in environment ``e``, ``W`` the projection and ``m`` the gates,

    gradient_variance   sum over entries of Var_e(dR_e/dW) m         (HRM's form)
    iga                 sum over entries of Var_e(dR_e/dW)
    legacy              sum over entries of (Var_e(dR_e/dW) m)^2     (InvRL's code)
    irmv1               mean_e (d R_e(w s)/dw at w = 1)^2
    vrex                Var_e(R_e)

A square of noisy numbers is mostly noise. Each environment's interactions are therefore cut into
random parts, and what is squared becomes the product of two parts' values. The interactions of a
partition are exchangeable under random labels, so there every variance is zero in the mean, exactly.
``legacy`` squares a variance, and the square of an unbiased estimate is not unbiased: it takes
quarters, one variance from the first two and one from the last two, and multiplies those. ``irmv1`` is
no variance; its mean under random labels is the squared slope of the whole risk, which is zero only
where the scale of the scores is the best one.

The first three cost what their contrasts cost (:mod:`painvrl.invariance.contrasts`, ``legacy`` twice
that), the last two one sum over the interactions, for any number of environments.

Shape letters: ``N`` interactions, ``F`` features, ``k`` content width, ``E`` environments, ``B`` blocks of
columns, ``C`` columns in all blocks, ``S`` pairs of parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from painvrl.invariance.contrasts import ContrastPlan, contrast_gradients, weigh_halves
from painvrl.invariance.risks import Frozen, Scored, interaction_risks, scale_slopes

Penalty = Literal["gradient_variance", "iga", "irmv1", "vrex", "legacy"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A penalty, 0-dim tensors.

    Attributes:
        value: unbiased, so it may be negative.
        naive: the mean square in place of the product of two parts, a positive scale to compare it with.
    """

    value: Tensor
    naive: Tensor


def part_pairs(penalty: Penalty) -> int:
    """``S``: a step cuts each environment into ``2 S`` parts."""
    return 2 if penalty == "legacy" else 1


def estimate_penalty(
    penalty: Penalty,
    scored: Scored,
    frozen: Frozen,
    label: Tensor,
    part: Tensor,
    contrasts: Tensor,
    plan: ContrastPlan,
) -> Estimate:
    """Estimate ``P`` at some gates; differentiable in them.

    Args:
        penalty: which one.
        scored: the forward pass.
        frozen: the features and the pretrained parts.
        label: ``[N]`` environments in ``[0, E)``, in the canonical order.
        part: ``[N]`` int64 in ``[0, 2 S)``, drawn at random.
        contrasts: ``[S, B, E]``, independent turns; risks (``irmv1``, ``vrex``) read none.
        plan: which columns see which contrast.
    """
    if penalty == "vrex":
        return risk_variance(part_means(interaction_risks(scored, frozen), label, part, plan.n_environments))
    if penalty == "irmv1":
        return squared_mean(part_means(scale_slopes(scored, frozen), label, part, plan.n_environments))
    if penalty != "legacy":
        halves = weigh_halves(label, part, contrasts[0], frozen)
        gradients = contrast_gradients(scored, frozen, halves, plan)
        return gradient_variance(gradients, scored.gates, penalty, plan.scale)
    sides = []
    for side, rows in enumerate(contrasts):
        member = (part // 2 == side).to(rows.dtype)
        halves = weigh_halves(label, part % 2, rows, frozen, member)
        sides.append(contrast_gradients(scored, frozen, halves, plan))
    return squared_variance(sides[0], sides[1], scored, plan.scale)


def gradient_variance(
    gradients: Tensor, gates: Tensor, penalty: Literal["gradient_variance", "iga"], scale: float
) -> Estimate:
    """The variance over environments of the gradients on ``W``.

    Args:
        gradients: ``[2, F, C]``, the contrasts of each half (:mod:`painvrl.invariance.contrasts`).
        gates: ``[F]``; ``gradient_variance`` weighs each feature's variance with its gate.
        penalty: with the gates, or ``iga``, without.
        scale: the contrasts' own.
    """
    first, second = gradients
    weight = gates if penalty == "gradient_variance" else torch.ones_like(gates)
    return Estimate(
        value=scale * ((first * second).sum(dim=1) * weight).sum(),
        naive=scale * ((first.square() + second.square()).sum(dim=1) * weight).sum() / 2,
    )


def gated_variance(value: Tensor, naive: Tensor, gates: Tensor) -> Estimate:
    """``sum_f m_f V_f`` for variances ``[F]`` that do not depend on the gates ``[F]``."""
    return Estimate(value=(gates * value).sum(), naive=(gates * naive).sum())


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
    """``Var_e(R_e)`` from the halves' risks ``[E, 2]``."""
    return squared_mean(means - means.mean(dim=0))


def squared_mean(means: Tensor) -> Estimate:
    """``mean_e (x_e)^2`` from the halves' means ``[E, 2]`` of any ``x``."""
    first, second = means.unbind(1)
    return Estimate(value=(first * second).mean(), naive=means.square().mean())
