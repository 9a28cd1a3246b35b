"""The backbone: UltraGCN with an ID part and a content part, ``s = <p_u, q_i> + <c_u, h_i>``.

Shape letters: ``U`` users, ``I`` items, ``F`` features, ``d`` ID width, ``k`` content width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from painvrl.data.interactions import Interactions
from painvrl.model.losses import (
    GramianLoss,
    SampledLoss,
    gramian_loss,
    sampled_loss,
    ultragcn_weights,
)
from painvrl.model.pairs import Pairs, pair_scores, sort_pairs
from painvrl.settings import Settings


class BackboneConfig(Settings):
    """Widths, regularisation and loss of the backbone.

    ``id_dim`` 0 leaves the content part alone. ``l2``: weight of the users' and the items' ID rows,
    each scaled by ``(degree + a0 * count)^0.5`` as in the iALS family. ``projection_l2``: weight
    of the squared projection ``W``. ``id_dropout``: probability that a step does not see an
    item's ID part, so that the content part learns to stand alone.
    """

    id_dim: int = Field(default=64, ge=0, le=1024)
    content_dim: int = Field(default=64, ge=1, le=1024)
    l2: float = Field(default=0.3, ge=0)
    projection_l2: float = Field(default=1e-5, ge=0)
    id_dropout: float = Field(default=0.0, ge=0, lt=1)
    loss: Annotated[GramianLoss | SampledLoss, Field(discriminator="kind")] = GramianLoss()


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The training interactions as the losses need them; made once a split.

    Attributes:
        pairs: ``N`` training pairs.
        user_degree: ``[U]``. item_degree: ``[I]``.
        warm: ``[I]`` float, 1 for items with a training interaction.
        warm_items: their indices.
        active: ``[U]`` float, 1 for users with a training interaction.
    """

    pairs: Pairs
    user_degree: Tensor
    item_degree: Tensor
    warm: Tensor
    warm_items: Tensor
    active: Tensor

    @property
    def n_pairs(self) -> int:
        """``N``, known without asking the device."""
        return len(self.pairs)


def training_data(train: Interactions, device: torch.device) -> TrainingData:
    """Index the training part for the losses on ``device``."""
    train = train.to(device)
    degree, user_degree = train.item_degree(), train.user_degree()
    return TrainingData(
        pairs=sort_pairs(train),
        user_degree=user_degree,
        item_degree=degree,
        active=(user_degree > 0).float(),
        warm=(degree > 0).float(),
        warm_items=(degree > 0).nonzero(as_tuple=True)[0],
    )


class Backbone(nn.Module):
    """Trainable parameters, and the vectors whose dot products are the scores.

    ``base`` holds the frozen vectors of an earlier model to which this one is added (the variant
    branch of :mod:`painvrl.model.fusion` learns what an invariant model left over).
    """

    def __init__(
        self,
        features: Tensor,
        data: TrainingData,
        config: BackboneConfig,
        generator: torch.Generator,
        *,
        base: tuple[Tensor, Tensor] | None = None,
        base_id_dim: int = 0,
    ) -> None:
        """Initialise from ``generator``, the same for every device.

        Args:
            features: ``[I, F]`` as the content part sees them (masked, if a mask applies).
            data: the training part.
            config: widths and loss.
            generator: a CPU generator.
            base: ``([U, D], [I, D])`` frozen vectors of an earlier model.
            base_id_dim: how many leading columns of ``base`` are its ID part.
        """
        super().__init__()
        n_items, width = features.shape
        n_users = data.user_degree.shape[0]
        device = features.device

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter((0.1 * torch.randn(*shape, generator=generator)).to(device))

        self.config = config
        self.data = data
        self.features = features
        self.user_id = normal(n_users, config.id_dim)
        self.item_id = normal(n_items, config.id_dim)
        self.user_content = normal(n_users, config.content_dim)
        self.weight = normal(width, config.content_dim)
        self.bias = nn.Parameter(torch.zeros(config.content_dim, device=device))
        self.base = base
        base_width = base[0].shape[1] if base else 0
        id_columns = torch.zeros(base_width + config.id_dim + config.content_dim)
        id_columns[:base_id_dim] = 1
        id_columns[base_width : base_width + config.id_dim] = 1
        self.id_columns = id_columns.to(device)
        a0 = config.loss.all_pairs_weight if isinstance(config.loss, GramianLoss) else 0.0
        self.user_l2 = (data.user_degree + a0 * n_items).sqrt()
        self.item_l2 = (data.item_degree + a0 * n_users).sqrt() * data.warm

    def content(self) -> Tensor:
        """``h``, ``[I, k]``: what the features say about every item."""
        return self.features @ self.weight + self.bias

    def user_vectors(self) -> Tensor:
        """``[U, D]``: base, ID part and content part side by side.

        Users without a training interaction have zero vectors: nothing is known about them, and
        they must not add to the all-pairs term.
        """
        own = torch.cat([self.user_id, self.user_content], dim=1) * self.data.active[:, None]
        return own if self.base is None else torch.cat([self.base[0], own], dim=1)

    def item_vectors(self) -> Tensor:
        """``[I, D]``. Cold items have a zero ID part."""
        own = torch.cat([self.item_id * self.data.warm[:, None], self.content()], dim=1)
        return own if self.base is None else torch.cat([self.base[1], own], dim=1)

    def kept_items(self, generator: torch.Generator) -> Tensor | None:
        """``[I]`` float, 1 where this step sees the item's ID part; ``None`` where all do."""
        rate = self.config.id_dropout
        if rate == 0:
            return None
        draw = torch.rand(self.data.warm.shape[0], generator=generator)
        return (draw >= rate).float().to(self.data.warm.device, non_blocking=True)

    def visible_items(self, kept: Tensor | None) -> Tensor:
        """The item vectors with the ID columns of dropped items set to zero."""
        items = self.item_vectors()
        if kept is None:
            return items
        return items * (1 - self.id_columns * (1 - kept[:, None]))

    def penalty(self) -> Tensor:
        """The L2 term, per training pair."""
        rows = (self.user_l2 * (self.user_id.square().sum(1) + self.user_content.square().sum(1))).sum()
        rows = rows + (self.item_l2 * self.item_id.square().sum(1)).sum()
        return (
            self.config.l2 * rows / self.data.n_pairs + self.config.projection_l2 * self.weight.square().sum()
        )

    def full_loss(self, kept: Tensor | None) -> Tensor:
        """The gramian loss of the whole training part, with its L2 term."""
        assert isinstance(self.config.loss, GramianLoss)
        users, items = self.user_vectors(), self.visible_items(kept)
        positive = pair_scores(users, items, self.data.pairs)
        loss = gramian_loss(positive, users, items, self.data.warm, self.config.loss.all_pairs_weight)
        return loss + self.penalty()

    def batch_loss(self, rows: Tensor, negatives: Tensor, kept: Tensor | None) -> Tensor:
        """The sampled loss of a batch of training pairs, with its L2 term.

        Args:
            rows: ``[B]`` positions in ``data.pairs``.
            negatives: ``[J]`` items, warm ones.
            kept: see :meth:`kept_items`.
        """
        assert isinstance(self.config.loss, SampledLoss)
        pairs = self.data.pairs
        user, item = pairs.user[rows], pairs.item[rows]
        users, items = self.user_vectors()[user], self.visible_items(kept)
        by_user, by_item = ultragcn_weights(self.data.user_degree, self.data.item_degree)
        loss = sampled_loss(
            positive=(users * items[item]).sum(1),
            positive_b=by_user[user] * by_item[item],
            negative=users @ items[negatives].T,
            negative_b=by_user[user][:, None] * by_item[negatives],
            config=self.config.loss,
        )
        return loss + self.penalty()
