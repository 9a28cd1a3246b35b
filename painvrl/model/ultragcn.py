"""The backbone: UltraGCN with an ID part and a content part, ``s = <p_u, q_i> + <c_u, h_i>``.

UltraGCN (Mao et al., CIKM 2021) has the ID part only; InvRL (Du et al., ACM MM 2022) gives it the items'
features.

Shape letters: ``U`` users, ``I`` items, ``I_w`` warm items, ``F`` features, ``d`` ID width, ``k``
content width, ``D`` width of the score vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from painvrl.core.device import to_device
from painvrl.core.settings import Settings
from painvrl.model.batches import Batch
from painvrl.model.item_graph import ItemNeighbours
from painvrl.model.losses import (
    GramianLoss,
    SampledLoss,
    SoftmaxLoss,
    drawn_repulsion,
    gramian_loss,
    neighbour_attraction,
    pointwise_gramian,
    sampled_loss,
    shared_repulsion,
    softmax_loss,
    ultragcn_weights,
)
from painvrl.model.mixing import Mixing, Projection, Sum
from painvrl.model.pairs import pair_scores
from painvrl.model.robust import KnownEnvironments, MeanRisk, Risks, environment_risks
from painvrl.model.streamed import Features
from painvrl.model.training_data import TrainingData, UserBlock


class BackboneConfig(Settings):
    """Widths, regularisation and loss of the backbone."""

    id_dim: int = Field(default=64, ge=0, le=1024)
    """Width of the ID part; 0 leaves the content part alone."""
    content_dim: int = Field(default=64, ge=1, le=1024)
    """Width of the content part."""
    l2: float = Field(default=0.3, ge=0)
    """Weight of the squared ID rows of users and items, each scaled by ``(degree + a0 * count)^0.5`` as in
    the iALS family.
    """
    projection_l2: float = Field(default=1e-5, ge=0)
    """Weight of the squared projection ``W``."""
    id_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a step does not see an item's ID part, so that the content part can stand alone."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability ``p`` that a step does not see a modality of an item; the others weigh ``1 / (1 - p)``."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of products with the features, their factors and results. ``bfloat16`` halves the memory that
    they read; all else stays float32.
    """
    item_item_weight: float = Field(default=0.0, ge=0)
    """``gamma`` of UltraGCN's item-item term on the ID parts; a term of the sampled loss."""
    item_item_neighbours: int = Field(default=10, ge=1, le=1000)
    """Strongest neighbours of a positive item that the item-item term counts."""
    loss: Annotated[GramianLoss | SampledLoss | SoftmaxLoss, Field(discriminator="kind")] = GramianLoss()
    """What training minimises."""
    risks: Annotated[Risks, Field(discriminator="kind")] = MeanRisk()
    """How the risks of known environments make the loss: their ``mean``, ``vrex``, or ``group_dro``."""

    @property
    def reads_environments(self) -> bool:
        """Whether training reads which environment an interaction is from."""
        return not isinstance(self.risks, MeanRisk)

    @model_validator(mode="after")
    def _risks_of_whole_data(self) -> Self:
        if self.reads_environments and not isinstance(self.loss, GramianLoss):
            raise ValueError(
                f"risks.kind {self.risks.kind!r} needs loss.kind 'gramian': a mini-batch hardly knows an "
                f"environment's risk (found {self.loss.kind!r})"
            )
        return self

    @model_validator(mode="after")
    def _item_item_term_has_its_place(self) -> Self:
        if self.item_item_weight > 0 and not isinstance(self.loss, SampledLoss):
            raise ValueError(
                "item_item_weight must be 0 unless loss.kind is 'sampled': the term belongs to UltraGCN's "
                f"logistic loss (found {self.item_item_weight} with {self.loss.kind!r})"
            )
        if self.item_item_weight > 0 and self.id_dim == 0:
            raise ValueError(
                "item_item_weight must be 0 where id_dim is 0: the term is about ID embeddings "
                f"(found {self.item_item_weight})"
            )
        return self


class Rows(NamedTuple):
    """The embedding rows that a batch touches: ``[n_u, d]``, ``[n_u, k]`` and ``[n_i, d]``."""

    user_id: Tensor
    user_content: Tensor
    item_id: Tensor


class UserRows(NamedTuple):
    """The embedding rows of some users: ``[B, d]`` and ``[B, k]``."""

    user_id: Tensor
    user_content: Tensor

    def squares(self) -> Tensor:
        """``[B]`` the squared length of each user's row."""
        return self.user_id.square().sum(1) + self.user_content.square().sum(1)


class Backbone(nn.Module):
    """Trainable parameters, and the vectors whose dot products are the scores.

    ``base`` holds the frozen vectors of an earlier model to which this one is added (the variant
    branch of :mod:`painvrl.model.fusion` learns what an invariant model left over).
    """

    def __init__(
        self,
        features: Features,
        data: TrainingData,
        config: BackboneConfig,
        generator: torch.Generator,
        *,
        gates: Tensor | None = None,
        base: tuple[Tensor, Tensor] | None = None,
        base_id_dim: int = 0,
        mixing: type[Mixing] = Sum,
        widths: Sequence[int] = (),
        environments: KnownEnvironments | None = None,
    ) -> None:
        """Initialise from ``generator``, the same for every device.

        Args:
            features: ``[I, F]``.
            data: the training part.
            config: widths and loss.
            generator: a CPU generator.
            gates: ``[F]`` that the features are multiplied with, or ``[C F]`` for ``C`` gated copies of
                the features side by side. ``None`` is ones. They are applied to the projection, which
                is smaller than the features.
            base: ``([U, D], [I, D])`` frozen vectors of an earlier model.
            base_id_dim: how many leading columns of ``base`` are its ID part.
            mixing: how the projections of the copies make one.
            widths: columns of each modality, in their order; one modality without them.
            environments: of the training pairs, where ``config.risks`` reads them.
        """
        super().__init__()
        n_items, width = features.shape
        n_users = data.user_degree.shape[0]
        device = features.device

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter((0.1 * torch.randn(*shape, generator=generator)).to(device))

        self.config = config
        self.data = data
        self.features: Features = features.to(getattr(torch, config.precision))
        self.warm_features: Features = data.warm_features(self.features)
        self.gates: Tensor = torch.ones(width, device=device) if gates is None else gates
        self.user_id: nn.Parameter = normal(n_users, config.id_dim)
        self.item_id: nn.Parameter = normal(n_items, config.id_dim)
        self.user_content: nn.Parameter = normal(n_users, config.content_dim)
        self.weight: nn.Parameter = normal(self.gates.shape[0], config.content_dim)
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(config.content_dim, device=device))
        # The same for all items, it cancels in a softmax over them: Adam would follow its rounding errors.
        self.bias.requires_grad_(not isinstance(config.loss, SoftmaxLoss))
        self.n_modalities: int = max(1, len(widths))
        index = torch.arange(self.n_modalities).repeat_interleave(torch.tensor(widths or (width,)))
        self.modality: Tensor = index.to(device)
        self.mixing: Mixing = mixing(self.gates.shape[0] // width, config.content_dim, device)
        self.environments: KnownEnvironments | None = environments if config.reads_environments else None
        self.log_weights: Tensor
        if self.environments is not None:  # a buffer: a training that continues goes on with the weights
            uniform = torch.full((self.environments.count,), 1 / self.environments.count, device=device)
            self.register_buffer("log_weights", uniform.log())
        self.base = base
        self.base_id_dim = base_id_dim
        a0 = config.loss.all_pairs_weight if isinstance(config.loss, GramianLoss) else 0.0
        self.user_l2: Tensor = (data.user_degree + a0 * n_items).sqrt()
        self.item_l2: Tensor = (data.item_degree + a0 * n_users).sqrt() * data.warm
        self.user_b: Tensor
        self.item_b: Tensor
        self.user_b, self.item_b = ultragcn_weights(data.user_degree, data.item_degree)

    def content(self, features: Features | None = None, weights: Tensor | None = None) -> Tensor:
        """``h``, ``[I, k]``: what the features say about every item, or about the given rows of them.

        ``weights``: ``[I, M]`` of the rows' modalities, from :meth:`modality_weights`.
        """
        rows = self.features if features is None else features
        if weights is not None:
            assert isinstance(rows, Tensor), "refused when the data were prepared"
            rows = rows * weights.to(rows.dtype).index_select(1, self.modality)
        mixed: Tensor = self.mixing(rows, self._gated())
        return mixed + self.bias

    def projection(self) -> Projection | None:
        """What :meth:`content` does to features, for those who make vectors of other items.

        ``None`` where the mixing has no such form.
        """
        kept = self.mixing.kept(self._gated())
        if kept is None:
            return None
        weight, query, bias = (one.detach().clone() for one in (*kept, self.bias))
        return Projection(weight=weight, query=query, bias=bias)

    def _gated(self) -> Tensor:
        """``[C, F, k]``: the gates stand in the projection, which is smaller than the features."""
        return (self.gates[:, None] * self.weight).view(-1, self.features.shape[1], self.weight.shape[1])

    def tables(self) -> list[nn.Parameter]:
        """A row a user or an item, of which a mini-batch touches a few."""
        return [self.user_id, self.user_content, self.item_id]

    def user_tables(self) -> tuple[nn.Parameter, nn.Parameter]:
        """Those of :meth:`tables` with a row a user."""
        return self.user_id, self.user_content

    def content_parameters(self) -> list[nn.Parameter]:
        """What every item's content part depends on."""
        return [self.weight, self.bias, *self.mixing.parameters()]

    def item_neighbours(self) -> ItemNeighbours | None:
        """The neighbours that the loss asks for; ``None`` without an item-item term or without an ID part."""
        if self.config.item_item_weight == 0 or self.config.id_dim == 0:
            return None  # a variant branch has no ID part
        return self.data.item_neighbours(self.config.item_item_neighbours)

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
        """``[I]`` 1 where this step sees the item's ID part; ``None`` if it sees all."""
        if self.config.id_dropout == 0:
            return None
        kept = torch.rand(self.item_id.shape[0], generator=generator) >= self.config.id_dropout
        return to_device(kept.float(), self.item_id.device)

    def modality_weights(self, generator: torch.Generator) -> Tensor | None:
        """``[I, M]`` on the CPU: 0 where a step does not see the modality; ``None`` without dropout."""
        dropout = self.config.modality_dropout
        if dropout == 0:
            return None
        seen = torch.rand(self.item_id.shape[0], self.n_modalities, generator=generator) >= dropout
        return seen.float() / (1 - dropout)

    def _visible(self, base: Tensor | None, item_id: Tensor, content: Tensor, kept: Tensor | None) -> Tensor:
        """``[n, D]`` of some items as a step sees them: without ID parts where ``kept`` ``[n]`` is 0."""
        if kept is not None:
            item_id = item_id * kept[:, None]
        if base is None:
            return torch.cat([item_id, content], dim=1)
        base_id, base_rest = base[:, : self.base_id_dim], base[:, self.base_id_dim :]
        if kept is not None:
            base_id = base_id * kept[:, None]
        return torch.cat([base_id, base_rest, item_id, content], dim=1)

    def penalty(self) -> Tensor:
        """The L2 term of the whole tables, per training pair."""
        rows = (self.user_l2 * UserRows(*self.user_tables()).squares()).sum() + self._item_squares()
        return self._penalty_of(rows)

    def item_penalty(self) -> Tensor:
        """What of :meth:`penalty` is not about users."""
        return self._penalty_of(self._item_squares())

    def _item_squares(self) -> Tensor:
        return (self.item_l2 * self.item_id.square().sum(1)).sum()

    def _penalty_of(self, squares: Tensor) -> Tensor:
        projection = self.config.projection_l2 * self.weight.square().sum()
        return self.config.l2 * squares / self.data.n_pairs + projection

    def full_loss(self, kept: Tensor | None, modalities: Tensor | None = None) -> Tensor:
        """The gramian loss of the whole training part, with its L2 term.

        ``kept``: see :meth:`kept_items`. ``modalities``: see :meth:`modality_weights`, on the device.
        """
        assert isinstance(self.config.loss, GramianLoss)
        users, items = self.user_vectors(), self.step_items(kept, modalities)
        positive = pair_scores(users, items, self.data.warm_pairs)
        if self.environments is not None:
            return self._risk(positive, users, items) + self.penalty()
        return gramian_loss(positive, users, items, self.config.loss.all_pairs_weight) + self.penalty()

    def step_items(self, kept: Tensor | None, modalities: Tensor | None) -> Tensor:
        """``[I_w, D]``: the warm items as a step of the whole-data loss sees them; see :meth:`full_loss`."""
        data = self.data
        return self._visible(
            None if self.base is None else data.warm_rows(self.base[1]),
            data.warm_rows(self.item_id),
            self.content(self.warm_features, None if modalities is None else data.warm_rows(modalities)),
            None if kept is None else data.warm_rows(kept),
        )

    def block_loss(self, rows: UserRows, block: UserBlock, items: Tensor, item_gram: Tensor) -> Tensor:
        """What a block of users adds to :meth:`full_loss`, without :meth:`item_penalty`.

        Args:
            rows: of the block's users.
            block: the users and their pairs.
            items: ``[I_w, D]`` of :meth:`step_items`.
            item_gram: ``[D, D]`` ``items' items``.
        """
        assert isinstance(self.config.loss, GramianLoss)
        a0, own = self.config.loss.all_pairs_weight, slice(block.start, block.stop)
        users = torch.cat(rows, dim=1) * self.data.active[own, None]
        if self.base is not None:
            users = torch.cat([self.base[0][own], users], dim=1)
        pairs = pointwise_gramian(pair_scores(users, items, block.pairs), a0).sum()
        everything = a0 * ((users.T @ users) * item_gram).sum()
        penalty = self.config.l2 * (self.user_l2[own] * rows.squares()).sum()
        return (pairs + everything + penalty) / self.data.n_pairs

    def _risk(self, positive: Tensor, users: Tensor, items: Tensor) -> Tensor:
        """What the environments' risks come to."""
        loss, risks, environments = self.config.loss, self.config.risks, self.environments
        assert isinstance(loss, GramianLoss)
        assert not isinstance(risks, MeanRisk)
        assert environments is not None
        user, degree = self.data.warm_pairs.user, self.data.user_degree
        each = environment_risks(positive, users, items, user, degree, environments, loss.all_pairs_weight)
        shares = environments.sums(torch.ones_like(positive)) / positive.shape[0]
        return risks.combine(each, shares, self.log_weights)

    def rows(self, batch: Batch) -> Rows:
        """The rows of the tables that ``batch`` touches."""
        return Rows(
            user_id=self.user_id.index_select(0, batch.users),
            user_content=self.user_content.index_select(0, batch.users),
            item_id=self.item_id.index_select(0, batch.items),
        )

    def batch_loss(self, batch: Batch, rows: Rows) -> Tensor:
        """The loss of a batch of training pairs, with its estimate of the L2 term.

        Only the batch's items are projected, unless they are most of the catalogue anyway, and only
        its rows are regularised: each is weighed so that the mean over batches is :meth:`penalty`.

        Args:
            batch: pairs and negatives.
            rows: :meth:`rows` of it, or leaves of the same values.
        """
        loss = self.config.loss
        assert not isinstance(loss, GramianLoss)
        own = torch.cat([rows.user_id, rows.user_content], dim=1)
        users = (
            own if self.base is None else torch.cat([self.base[0].index_select(0, batch.users), own], dim=1)
        )
        if batch.features is not None:
            content = self.content(batch.features, batch.modalities)
        elif batch.modalities is None and 2 * batch.items.shape[0] > self.features.shape[0]:
            content = self.content().index_select(0, batch.items)
        else:
            content = self.content(self.features.index_select(0, batch.items), batch.modalities)
        base = None if self.base is None else self.base[1].index_select(0, batch.items)
        items = self._visible(base, rows.item_id, content, batch.kept)
        users = users.index_select(0, batch.user)
        positive = (users * items.index_select(0, batch.item)).sum(1)
        if isinstance(loss, SoftmaxLoss):
            negative = users @ items.index_select(0, batch.negative).T
            hit = batch.item[:, None] == batch.negative
            return softmax_loss(positive, negative, hit, loss.temperature) + self._batch_penalty(batch, rows)
        by_user, by_item = self.user_b[batch.users][batch.user], self.item_b[batch.items]
        if batch.drawn is None:
            negative = users @ items.index_select(0, batch.negative).T
            repulsion = shared_repulsion(negative, by_user, by_item[batch.negative], loss)
        else:
            negative = pair_scores(users, items, batch.drawn).view(users.shape[0], -1)
            negative_b = by_user[:, None] * by_item[batch.drawn.item].view(users.shape[0], -1)
            repulsion = drawn_repulsion(negative, negative_b, loss)
        value = sampled_loss(
            positive=positive,
            positive_b=by_user * by_item[batch.item],
            repulsion=repulsion,
            config=loss,
        )
        if batch.neighbours is not None:
            value = value + self.config.item_item_weight * neighbour_attraction(
                pair_scores(rows.user_id.index_select(0, batch.user), rows.item_id, batch.neighbours.pairs),
                batch.neighbours.weight,
                users.shape[0],
            )
        return value + self._batch_penalty(batch, rows)

    def _batch_penalty(self, batch: Batch, rows: Rows) -> Tensor:
        user_weight = batch.user_share * (self.user_l2 / self.data.user_degree.clamp_min(1))[batch.users]
        item_weight = batch.item_share * (self.item_l2 / self.data.item_degree.clamp_min(1))[batch.items]
        squares = (user_weight * (rows.user_id.square().sum(1) + rows.user_content.square().sum(1))).sum()
        squares = squares + (item_weight * rows.item_id.square().sum(1)).sum()
        return self.config.l2 * squares + self.config.projection_l2 * self.weight.square().sum()
