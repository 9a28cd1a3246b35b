"""The pretrained backbone as a calibrated probability over items, its affinities, and users to fit on."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.model.pairs import Pairs, sort_pairs
from painvrl.model.training_data import TrainingData

_logger = logging.getLogger(__name__)

_FEW_USERS = 20
"""A fit on fewer users says so: with very many items the budget of cells is used up by these."""
_LONGEST_STEP = 2.0
"""Of Newton's method on each number, so that a flat start does not throw it far away."""


@dataclass(frozen=True, kw_only=True)
class SharedModel:
    """``p_0(i | u) = softmax_i( temperature * s(u, i) + popularity * log(1 + d_i) )`` over warm items.

    Attributes:
        users, items: ``[U, D]``, ``[I, D]`` the backbone's score vectors.
        log_degree: ``[I]`` ``log(1 + d_i)``. warm: ``[I]`` bool; cold items have probability 0.
        temperature, popularity: 0-dim, fitted by :func:`calibrate`.
    """

    users: Tensor
    items: Tensor
    log_degree: Tensor
    warm: Tensor
    temperature: Tensor
    popularity: Tensor

    def probabilities(self, users: Tensor) -> Tensor:
        """``[B, I]``: the probability of every item for the given users ``[B]``."""
        scores = self.users[users] @ self.items.T
        offset = torch.where(self.warm, self.popularity * self.log_degree, -torch.inf)
        return torch.softmax(self.temperature * scores + offset, dim=1)


@dataclass(frozen=True, kw_only=True)
class Affinities:
    """What the pretrained content part says of a feature for a user, factored: ``b_uf = tau (W c_u)_f``.

    With ``f_i`` the features of an item, ``sum_f b_uf f_if`` is the content part of the calibrated score.
    An environment that follows the users' affinities more or less, feature by feature, changes it to
    ``sum_f (1 + delta_f) b_uf f_if``, the score of the same user for the item ``(delta * f_i) W``.

    Attributes:
        user_content: ``[U, k]`` content part of the users' vectors, times the temperature ``tau``.
        weight: ``[F, k]`` the projection.
    """

    user_content: Tensor
    weight: Tensor

    def of(self, users: Tensor) -> Tensor:
        """``[B, F]``: ``b`` of the given users ``[B]``."""
        return self.user_content[users] @ self.weight.T


@dataclass(frozen=True, kw_only=True)
class UserSample:
    """Some users with all their interactions.

    Attributes:
        users: ``[S]``, ascending.
        kept: ``[N_S]`` places of their interactions in the canonical order.
        pairs: their interactions; users are places in ``users``.
    """

    users: Tensor
    kept: Tensor
    pairs: Pairs


def sample_users(data: TrainingData, budget: int, generator: torch.Generator) -> UserSample:
    """All users where there are no more than ``budget``, else so many at random, but one at least."""
    n_users, n_items = data.user_degree.shape[0], data.warm.shape[0]
    budget, pairs = max(1, budget), data.pairs
    if budget < min(_FEW_USERS, n_users):
        told = f"{budget} of {n_users:,} users", f"{n_items:,} items"
        _logger.info("%s are fitted, since more do not fit beside %s; environments may be poor", *told)
    if budget >= n_users:
        device = data.warm.device
        return UserSample(
            users=torch.arange(n_users, device=device),
            kept=torch.arange(len(pairs), device=device),
            pairs=pairs,
        )
    users = torch.randperm(n_users, generator=generator)[:budget].sort().values.to(data.warm.device)
    row = torch.full((n_users,), -1, device=data.warm.device)
    row[users] = torch.arange(budget, device=data.warm.device)
    kept = (row[pairs.user] >= 0).nonzero()[:, 0]
    fitted = Interactions(user=row[pairs.user[kept]], item=pairs.item[kept], n_users=budget, n_items=n_items)
    return UserSample(users=users, kept=kept, pairs=sort_pairs(fitted))


def calibration_loss(
    temperature: Tensor,
    popularity: Tensor,
    warm_scores: Tensor,
    warm_degree: Tensor,
    degree: Tensor,
    score_sum: Tensor,
    degree_sum: Tensor,
) -> Tensor:
    """Negative mean log-likelihood of the fitted users' pairs; convex in both numbers.

    Args:
        temperature: 0-dim.
        popularity: 0-dim.
        warm_scores: ``[S, I_w]`` scores of the fitted users for warm items.
        warm_degree: ``[I_w]`` their ``log(1 + d_i)``.
        degree: ``[S]`` interactions of the fitted users.
        score_sum: 0-dim, sum of the pairs' scores.
        degree_sum: 0-dim, sum of the pairs' ``log(1 + d_i)``.
    """
    normaliser = torch.logsumexp(temperature * warm_scores + popularity * warm_degree, dim=1)
    fit = temperature * score_sum + popularity * degree_sum - (degree * normaliser).sum()
    return -fit / degree.sum()


def calibration_step(at: Tensor, *fitted: Tensor) -> Tensor:
    """One step of Newton's method from ``at`` ``[2]``, temperature and popularity, to the next.

    ``fitted``: what else :func:`calibration_loss` takes.
    """
    at = at.detach().requires_grad_()
    loss = calibration_loss(at[0], at[1], *fitted)
    (slope,) = torch.autograd.grad(loss, at, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(part, at, retain_graph=True)[0] for part in slope])
    # A pair of collinear scores and degrees would make the 2 x 2 system singular.
    ridge = 1e-6 * torch.eye(2, device=at.device)
    newton: Tensor = torch.linalg.solve_ex(curvature + ridge, slope.detach())[0]
    return (at - newton.clamp(-_LONGEST_STEP, _LONGEST_STEP)).detach()


def calibrate(
    users: Tensor,
    items: Tensor,
    data: TrainingData,
    generator: torch.Generator,
    *,
    steps: int = 12,
    cells: int = 1_000_000,
) -> SharedModel:
    """Fit temperature and popularity weight by maximum likelihood of the training pairs.

    Scores trained by a squared loss order items but are no log-probabilities; without this step
    the logit offsets of the mixture would first of all repair the shared model.

    Args:
        users: ``[U, D]`` the backbone's vectors.
        items: ``[I, D]``.
        data: the training part.
        generator: a CPU generator; draws the users of the fit.
        steps: of Newton's method on the two numbers.
        cells: at most so many (user, item) scores are held; beyond, a subset of the users is fitted.
    """
    log_degree = (1 + data.item_degree).log()
    sample = sample_users(data, cells // data.n_items, generator)
    pairs, scores = sample.pairs, users[sample.users] @ items.T
    # The log-likelihood needs the pairs only through two sums and the users' counts.
    degree = torch.bincount(pairs.user, minlength=len(sample.users)).float()
    score_sum, degree_sum = scores[pairs.user, pairs.item].sum(), log_degree[pairs.item].sum()
    warm = data.warm > 0
    warm_scores, warm_degree = scores[:, warm], log_degree[warm]
    at = torch.tensor([1.0, 0.0], device=users.device)
    for _ in range(steps):
        at = calibration_step(at, warm_scores, warm_degree, degree, score_sum, degree_sum)
    return SharedModel(
        users=users,
        items=items,
        log_degree=log_degree,
        warm=warm,
        temperature=at[0],
        popularity=at[1],
    )
