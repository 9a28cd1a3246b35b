"""The penalty ``coefficient_variance``: how differently the environments weigh each feature.

A gradient of the risk on one feature also moves where another, correlated feature varies: with the
planted environments it rated invariant features that are correlated with spurious ones by chance as
variant. Coefficients of a *joint* fit do not. Over the calibrated shared model ``p_0``, each
environment's choices follow

    p_e(i | u)  ~  p_0(i | u) exp( sum_f w_ef f_if + delta_ef (b_uf - mean b_f) f_if )

where ``b_uf`` (:mod:`painvrl.invariance.shared_model`) is what the pretrained model says of the feature for
the user: ``w`` is a trend that all users share, ``delta`` the part by which their own affinity counts more.
One step of Newton's method from zero on the multinomial likelihood gives both in closed form,

    w_e = H^-1 mean over e's interactions of (f_i - E_p0 f),     H = Cov_p0(f),

and ``delta`` the same with ``f_i`` weighed by ``b_u - mean b``, ``H`` by its second moments (``b`` and the
choice set taken as independent there: H is shared by all environments and only sets the metric).

Coefficients of two logit models are comparable up to a common scale only (Swait and Louviere, Journal of
Marketing Research 1993): what a model leaves unexplained shrinks all of them alike, and ``p_0`` explains
environments unequally well. Each environment's scale ``kappa_e`` is therefore taken out. It is the median
of ``delta_ef``, weighed by ``H'_ff``, over the half of the features with the least ``H_ff Var_e(w_ef)``:
a trend that differs between environments is not a matter of scale, so the others are the better anchor
(our assumption; without it, environments in which the spurious features stay and everything else shrinks
would fit as well, and where no shared trend shifts that is what may be found). What is left,

    V_f = H_ff Var_e(w_ef - kappa_e mean b_f) + H'_ff Var_e(delta_ef - kappa_e),

is the variance of a feature's contribution to the log-odds, and ``P(m) = sum_f m_f V_f``. Each
environment's interactions are cut into two random halves, and a variance is the mean product of both
halves' deviations: with random labels it is zero in the mean. ``V`` does not depend on the gates, so a
step of the mask costs only the risk. All of this is our extension.

Shape letters: ``U`` users, ``I`` items, ``N`` interactions, ``F`` features, ``E`` environments, ``S`` users
that the fit sees, ``G`` groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.invariance.shared_model import Affinities, SharedModel, UserSample
from painvrl.model.pairs import weighted_rows

_LEAST_SCALE = 1e-6
"""Of the mean ``H_ff``; below it a feature is constant but for rounding."""
_RIDGE = 1e-2
"""Beside the mean of each H's diagonal; a feature that hardly varies gets no coefficient of noise."""


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """What each half of each environment says of each feature.

    Attributes:
        trend: ``w``, ``[E, 2, F]``.
        affinity: ``delta``, ``[E, 2, F]``.
        trend_scale: ``H_ff``, ``[F]``, variance of the log-odds for a ``w`` of 1.
        affinity_scale: ``H'_ff``, ``[F]``, the same for a ``delta`` of 1.
        mean_affinity: ``[F]``.
    """

    trend: Tensor
    affinity: Tensor
    trend_scale: Tensor
    affinity_scale: Tensor
    mean_affinity: Tensor


@dataclass(frozen=True, kw_only=True)
class FeatureVariances:
    """``V``: how differently the environments weigh each feature.

    Attributes:
        value: ``[F]``, unbiased, so it may be negative.
        naive: ``[F]`` the mean square in place of the product of two halves.
    """

    value: Tensor
    naive: Tensor


def fit_coefficients(
    features: Tensor,
    shared: SharedModel,
    affinities: Affinities,
    sample: UserSample,
    label: Tensor,
    half: Tensor,
    n_environments: int,
) -> Coefficients:
    """Fit every half of every environment.

    Args:
        features: ``[I, F]``.
        shared: the calibrated model.
        affinities: of all users.
        sample: the users that are seen; the cost is that of ``S * I`` probabilities and of ``2 E`` sums over
            their interactions.
        label: ``[N]`` environments of all training interactions, in the canonical order.
        half: ``[N]`` of 0 and 1, at random.
        n_environments: ``E``.
    """
    pairs, n_users = sample.pairs, sample.users.shape[0]
    group, n_groups = (2 * label + half)[sample.kept], 2 * n_environments
    weights = shared.probabilities(sample.users)  # [S, I]
    expected = weights @ features  # [S, F]
    counts = _counts(group, n_groups, pairs.user, n_users)  # [G, S]
    sizes = counts.sum(dim=1, keepdim=True).clamp_min(1)
    share = counts.sum(dim=0) / max(1, len(pairs))  # [S] of all fitted interactions
    affinity = affinities.of(sample.users)
    mean_affinity = share @ affinity
    affinity = affinity - mean_affinity
    # Sums over interactions of what differs from the expectation; those of an empty half are zero.
    taken = _counts(group, n_groups, pairs.item, features.shape[0])  # [G, I]
    trend_slope = (taken @ features - counts @ expected) / sizes
    own = [
        (
            affinity
            * weighted_rows(features, pairs.item, (group == g).to(affinity.dtype), pairs.user_offsets)
        ).sum(0)
        for g in range(n_groups)
    ]
    affinity_slope = (torch.stack(own) - counts @ (affinity * expected)) / sizes
    choice = (share @ weights)[:, None] * features
    covariance = features.T @ choice - expected.T @ (share[:, None] * expected)
    moments = covariance * (affinity.T @ (share[:, None] * affinity))
    shape = (n_environments, 2, features.shape[1])
    return Coefficients(
        trend=_newton(covariance, trend_slope).view(shape),
        affinity=_newton(moments, affinity_slope).view(shape),
        trend_scale=covariance.diagonal().clamp_min(0),  # rounding leaves constant features below 0
        affinity_scale=moments.diagonal().clamp_min(0),
        mean_affinity=mean_affinity,
    )


def _counts(group: Tensor, n_groups: int, index: Tensor, n_rows: int) -> Tensor:
    """``[G, R]`` how many interactions of each group name each row."""
    zeros = torch.zeros(n_groups * n_rows, device=group.device)
    ones = torch.ones(1, device=group.device).expand(group.shape)
    return zeros.scatter_add_(0, group * n_rows + index, ones).view(n_groups, n_rows)


def _newton(curvature: Tensor, slope: Tensor) -> Tensor:
    """``[G, F]`` one step from zero for the slopes ``[G, F]`` of all groups."""
    ridge = _RIDGE * curvature.diagonal().mean().clamp_min(1e-20)
    damped = curvature + ridge * torch.eye(curvature.shape[0], device=curvature.device)
    factor: Tensor = torch.linalg.cholesky_ex(damped)[0]
    return torch.cholesky_solve(slope.T, factor).T


def feature_variances(coefficients: Coefficients) -> FeatureVariances:
    """``V`` with every environment's common scale taken out."""
    spread = _deviations(coefficients.trend).square().mean(dim=0) * coefficients.trend_scale  # [2, F]
    # A feature that does not vary among the warm items says nothing, and is no anchor.
    varies = coefficients.trend_scale > _LEAST_SCALE * coefficients.trend_scale.mean()
    spread = torch.where(varies, spread, torch.nan)
    # Anchors of a half are chosen by that half alone, so that the halves stay independent.
    anchor = spread <= spread.nanmedian(dim=1, keepdim=True).values
    scale = weighted_median(coefficients.affinity, anchor * coefficients.affinity_scale)  # [E, 2, 1]
    trend = _deviations(coefficients.trend - scale * coefficients.mean_affinity)
    affinity = _deviations(coefficients.affinity - scale)
    by_trend, by_affinity = coefficients.trend_scale, coefficients.affinity_scale
    return FeatureVariances(
        value=(trend[:, 0] * trend[:, 1]).mean(dim=0) * by_trend
        + (affinity[:, 0] * affinity[:, 1]).mean(dim=0) * by_affinity,
        naive=trend.square().mean(dim=(0, 1)) * by_trend + affinity.square().mean(dim=(0, 1)) * by_affinity,
    )


def _deviations(values: Tensor) -> Tensor:
    """``[E, 2, F]`` from the mean over environments, half by half."""
    return values - values.mean(dim=0)


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """``[..., 1]`` the lower weighted median along the last axis; ``weights`` are broadcast."""
    ordered, order = values.sort(dim=-1)
    below = weights.expand_as(values).gather(-1, order).cumsum(dim=-1)
    place = (below < below[..., -1:] / 2).sum(dim=-1, keepdim=True)
    return ordered.gather(-1, place.clamp_max(values.shape[-1] - 1))
