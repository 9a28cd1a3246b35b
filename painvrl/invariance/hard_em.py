"""Environments by hard EM over one recommender an environment (InvRL's code).

As InvRL (Du et al., ACM MM 2022) has it, ``E`` models are in turn fitted for a few steps, each on the
interactions that carry its label, and every interaction goes to the model that scores it highest,

    e(u, i) = argmax_e <c^e_u, h^e_i>,   h^e = v W_e + bias_e,   v = (1 - m) f,

until at most 1% of them move. The models see features alone; with item ID embeddings they would
cluster by popularity. Each is fitted by the whole-data (gramian) loss of its own interactions,

    R_e = 1 / n_e [ sum over (u, i) in e of (1 - s)^2 - a0 s^2  +  a0 <U_e' D_e U_e, H_e' H_e> ],

with ``D_e`` = diag(share of the user's interactions that lie in ``e``), so that the scores of an
environment with few interactions are as large as those of one with many (our choice; InvRL samples
negatives). All models are one stacked model: a step scores each interaction once, by its own model.

Shape letters: ``U`` users, ``I`` warm items, ``N`` interactions, ``F`` features, ``k`` content width,
``E`` environments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.compilation import step_function
from painvrl.core.errors import Diverged
from painvrl.core.settings import Settings
from painvrl.data.interactions import Interactions
from painvrl.invariance.labels import SETTLED_SHARE, moved_share, with_least_size
from painvrl.invariance.variant import ItemFeatures
from painvrl.model.losses import pointwise_gramian
from painvrl.model.pairs import Pairs, pair_scores, sort_pairs
from painvrl.model.training_data import TrainingData


class HardEMSettings(Settings):
    """How the environments' own models are fitted."""

    max_rounds: int = Field(default=20, ge=1)
    """Most rounds of fitting and relabelling."""
    steps: int = Field(default=30, ge=1)
    """Steps of full-batch Adam between two relabellings."""
    learning_rate: float = Field(default=0.03, gt=0)
    """Step size of Adam."""
    content_dim: int = Field(default=16, ge=1, le=1024)
    """Width of each model."""
    l2: float = Field(default=0.3, ge=0)
    """Weight of the squared user vectors, scaled as the backbone's."""
    projection_l2: float = Field(default=1e-5, ge=0)
    """Weight of the squared projection."""
    all_pairs_weight: float = Field(default=0.1, gt=0)
    """Weight of a pair whether interacted or not, as in the ``gramian`` loss."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentModels:
    """``E`` recommenders side by side.

    Attributes:
        users: ``[E, U, k]``. weight: ``[E, F, k]``. bias: ``[E, k]``.
    """

    users: Tensor
    weight: Tensor
    bias: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> EnvironmentModels:
        """The same recommenders with every tensor changed."""
        return EnvironmentModels(users=change(self.users), weight=change(self.weight), bias=change(self.bias))

    def content(self, variant: ItemFeatures) -> Tensor:
        """``[E, I, k]``: ``h^e`` of every item; one product with the features ``[I, F]``."""
        n_environments, width, depth = self.weight.shape
        stacked = self.weight.transpose(0, 1).reshape(width, n_environments * depth)
        reached = (variant @ stacked).view(-1, n_environments, depth)
        return reached.transpose(0, 1) + self.bias[:, None]


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """The interactions as the stacked model sees them; made once a relabelling.

    Attributes:
        pairs: ``N`` pairs of rows in ``[E U]`` and ``[E I]``.
        label: ``[N]`` in the order of ``pairs``.
        sizes: ``[E]`` interactions of each environment, at least 1.
        shares: ``[E, U]`` share of the user's interactions that lie in the environment.
        row_weights: ``[E, U]`` weights of the users' squared rows.
    """

    pairs: Pairs
    label: Tensor
    sizes: Tensor
    shares: Tensor
    row_weights: Tensor


def assign(label: Tensor, n_environments: int, data: TrainingData, all_pairs_weight: float) -> Assigned:
    """Hand every interaction to its model; ``label`` ``[N]`` is in the canonical order of the pairs.

    A user's row weighs ``sqrt(d + a0 I share)`` for ``d`` interactions in the environment and ``I`` items,
    cold ones included, as in the backbone.
    """
    n_users, n_warm = data.user_degree.shape[0], data.warm_items.shape[0]
    pairs = sort_pairs(
        Interactions(
            user=label * n_users + data.warm_pairs.user,
            item=label * n_warm + data.warm_pairs.item,
            n_users=n_environments * n_users,
            n_items=n_environments * n_warm,
        )
    )
    degree = pairs.user_offsets.diff().view(n_environments, n_users).to(data.user_degree.dtype)
    shares = degree / data.user_degree.clamp_min(1)
    return Assigned(
        pairs=pairs,
        label=pairs.user // n_users,
        sizes=degree.sum(dim=1).clamp_min(1),
        shares=shares,
        row_weights=(degree + all_pairs_weight * data.n_items * shares).sqrt(),
    )


def environment_losses(
    models: EnvironmentModels, variant: ItemFeatures, assigned: Assigned, settings: HardEMSettings
) -> Tensor:
    """``[E]``: each model's loss on its own interactions, with its L2 term; none reads another's parameters.

    Args:
        models: what is fitted.
        variant: ``[I, F]`` of the warm items.
        assigned: whose interactions are whose.
        settings: weights.
    """
    a0, content = settings.all_pairs_weight, models.content(variant)
    scores = pair_scores(models.users.flatten(0, 1), content.flatten(0, 1), assigned.pairs)
    own = torch.zeros_like(assigned.sizes).index_add(0, assigned.label, pointwise_gramian(scores, a0))
    of_users = (models.users * assigned.shares[:, :, None]).transpose(1, 2) @ models.users  # [E, k, k]
    everything = (of_users * (content.transpose(1, 2) @ content)).sum(dim=(1, 2))
    rows = (assigned.row_weights * models.users.square().sum(dim=2)).sum(dim=1)
    penalty = settings.projection_l2 * models.weight.square().sum(dim=(1, 2))
    loss: Tensor = (own + a0 * everything + settings.l2 * rows) / assigned.sizes + penalty
    return loss


@torch.no_grad()
def environment_scores(models: EnvironmentModels, variant: ItemFeatures, pairs: Pairs) -> Tensor:
    """``[N, E]``: what every model gives every interaction."""
    content = models.content(variant)
    return torch.stack(
        [pair_scores(users, items, pairs) for users, items in zip(models.users, content, strict=True)], dim=1
    )


@dataclass(frozen=True, kw_only=True)
class HardEM:
    """The outcome.

    Attributes:
        label: ``[N]`` int64 in ``[0, E)``, in the canonical order of the training pairs.
        models: the last fit; a later call starts from it.
        moves: share of the interactions that moved, by round.
        reseeded: environments that the guard had to fill in the last round.
    """

    label: Tensor
    models: EnvironmentModels
    moves: tuple[float, ...]
    reseeded: int


def fit_hard_em(
    variant: ItemFeatures,
    data: TrainingData,
    count: int,
    needed: int,
    settings: HardEMSettings,
    generator: torch.Generator,
    *,
    start: tuple[Tensor, EnvironmentModels] | None = None,
    labels: Tensor | None = None,
    compiled: bool = False,
) -> HardEM:
    """Fit and relabel in turn until the labels have settled, or ``max_rounds`` are over.

    Args:
        variant: ``[I, F]`` of the warm items.
        data: the training part.
        count: ``E``.
        needed: the least size of an environment; smaller ones are filled after each relabelling.
        settings: see there.
        generator: a CPU generator.
        start: labels and models to go on with, instead of random ones.
        labels: ``[N]`` that the first fit has in the place of random ones, where they are not -1.
        compiled: whether steps go through ``torch.compile``.

    Raises:
        Diverged: a score is not finite.
    """
    label, models = start or _random_start(variant, data, count, settings, generator)
    if start is None and labels is not None:
        label = torch.where(labels < 0, label, labels)
    models = models.map(lambda tensor: tensor.clone().requires_grad_())
    optimizer = torch.optim.Adam([models.users, models.weight, models.bias], lr=settings.learning_rate)
    step_losses = step_function(environment_losses, compiled=compiled)
    moves: list[float] = []
    reseeded = 0
    for _ in range(settings.max_rounds):
        assigned = assign(label, count, data, settings.all_pairs_weight)
        for _ in range(settings.steps):
            optimizer.zero_grad(set_to_none=True)
            step_losses(models, variant, assigned, settings).sum().backward()
            optimizer.step()
        scores = environment_scores(models, variant, data.warm_pairs)
        if not bool(torch.isfinite(scores).all()):
            raise Diverged("an environment's scores are not finite; lower environments.hard_em.learning_rate")
        best = scores.max(dim=1)
        before = label
        label, reseeded = with_least_size(best.indices, best.values, count, needed)
        moves.append(moved_share(label, before))
        if moves[-1] <= SETTLED_SHARE:
            break
    return HardEM(
        label=label,
        models=models.map(torch.Tensor.detach),
        moves=tuple(moves),
        reseeded=reseeded,
    )


def _random_start(
    variant: ItemFeatures,
    data: TrainingData,
    count: int,
    settings: HardEMSettings,
    generator: torch.Generator,
) -> tuple[Tensor, EnvironmentModels]:
    """Random labels, and models as the backbone begins."""
    device, depth = variant.device, settings.content_dim

    def normal(*shape: int) -> Tensor:
        return (0.1 * torch.randn(*shape, generator=generator)).to(device)

    label = torch.randint(count, (data.n_pairs,), generator=generator).to(device)
    return label, EnvironmentModels(
        users=normal(count, data.user_degree.shape[0], depth),
        weight=normal(count, variant.shape[1], depth),
        bias=torch.zeros(count, depth, device=device),
    )
