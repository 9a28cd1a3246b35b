"""The reference's way of doing it, slow and literal, written from its description (docs/method.md).

A multimodal UltraGCN as plain embedding lookups and autograd: the features of every item are gated and
projected in every step, one function scores a list of (user, item) pairs of width ``d + k``, so every
positive gathers the rows of 50 negatives of its own, the L2 term reads whole tables, Adam moves every
row, and a ranking for one K multiplies users by items elementwise and then loops over the users in
Python. What painvrl does instead is timed beside this in one run.

Shape letters: ``U`` users, ``I`` items, ``F`` features, ``B`` positives of a batch, ``J`` negatives of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from painvrl.data.interactions import Interactions


@dataclass(frozen=True, kw_only=True)
class LiteralSettings:
    """The reference's settings.

    ``l2`` weighs the sum of squares of the users' and the items' tables. The description names no value;
    of 1e-5, 1e-4 and 1e-3 the default reached the highest valid NDCG at the small size.
    """

    id_dim: int = 64
    content_dim: int = 64
    negatives: int = 50
    batch_size: int = 512
    learning_rate: float = 1e-3
    l2: float = 1e-4
    ranked_at_once: int = 512  # users of one [users, items, width] product


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Positives ``user``, ``item`` ``[B]`` and ``negative`` items ``[B, J]``."""

    user: Tensor
    item: Tensor
    negative: Tensor


class LiteralUltraGCN(nn.Module):
    """Scores ``<p_u, q_i> + <c_u, W (m f_i) + bias>``; w1 to w4 and the weight of the negatives are 1."""

    def __init__(
        self, features: Tensor, train: Interactions, settings: LiteralSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.settings = settings
        self.features = features
        self.mask = torch.ones(features.shape[1])
        self.user_id = nn.Embedding(train.n_users, settings.id_dim)
        self.item_id = nn.Embedding(train.n_items, settings.id_dim)
        self.user_content = nn.Embedding(train.n_users, settings.content_dim)
        self.projection = nn.Linear(features.shape[1], settings.content_dim)
        with torch.no_grad():
            for table in (self.user_id, self.item_id, self.user_content, self.projection):
                table.weight.normal_(0, 0.1, generator=generator)
            self.projection.bias.zero_()
        user_degree = train.user_degree().clamp_min(1)
        self.by_user = (user_degree + 1).sqrt() / user_degree
        self.by_item = 1 / (train.item_degree() + 1).sqrt()

    def start_from(self, tables: Mapping[str, Tensor]) -> None:
        """Take initial ``user_id``, ``item_id``, ``user_content``, ``weight`` ``[F, k]`` and ``bias``."""
        with torch.no_grad():
            self.user_id.weight.copy_(tables["user_id"])
            self.item_id.weight.copy_(tables["item_id"])
            self.user_content.weight.copy_(tables["user_content"])
            self.projection.weight.copy_(tables["weight"].T)
            self.projection.bias.copy_(tables["bias"])

    def tables(self) -> dict[str, Tensor]:
        """The parameters under the names of :meth:`start_from`."""
        return {
            "user_id": self.user_id.weight,
            "item_id": self.item_id.weight,
            "user_content": self.user_content.weight,
            "weight": self.projection.weight.T,
            "bias": self.projection.bias,
        }

    def loss(self, batch: Batch) -> Tensor:
        """The batch's loss with an L2 term over the whole tables."""
        return self.data_loss(batch) + self.settings.l2 * self.squares()

    def data_loss(self, batch: Batch) -> Tensor:
        """UltraGCN's loss of the batch."""
        items = self.item_vectors()  # [I, D]: every item, in every step
        weight = 1 + self.by_user[batch.user] * self.by_item[batch.item]
        attract = weight * softplus(-self.score(batch.user, batch.item, items))
        user = batch.user[:, None].expand_as(batch.negative)
        weight = 1 + self.by_user[user] * self.by_item[batch.negative]
        repel = (weight * softplus(self.score(user, batch.negative, items))).mean(1)
        return (attract + repel).mean()

    def score(self, user: Tensor, item: Tensor, items: Tensor) -> Tensor:
        """The scores of listed pairs, of any shape."""
        return (torch.cat([self.user_id(user), self.user_content(user)], dim=-1) * items[item]).sum(-1)

    def item_vectors(self) -> Tensor:
        """``[I, D]``: ID part and content part side by side."""
        return torch.cat([self.item_id.weight, self.projection(self.features * self.mask)], dim=1)

    def squares(self) -> Tensor:
        """The sum of squares of the users' and the items' tables."""
        tables = (self.user_id, self.user_content, self.item_id)
        return torch.stack([table.weight.square().sum() for table in tables]).sum()

    @torch.no_grad()
    def vectors(self) -> tuple[Tensor, Tensor]:
        """``[U, D]`` and ``[I, D]``: what a ranking multiplies."""
        return torch.cat([self.user_id.weight, self.user_content.weight], dim=1), self.item_vectors()


class LiteralTrainer:
    """Dense Adam over everything."""

    def __init__(self, model: LiteralUltraGCN) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=model.settings.learning_rate)

    def step(self, batch: Batch) -> Tensor:
        """One step; returns the loss before it."""
        self.optimizer.zero_grad()
        loss = self.model.loss(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def epoch(self, train: Interactions, generator: torch.Generator) -> float:
        """Every positive once, in random order; returns the mean loss of the steps."""
        losses = [self.step(batch) for batch in batches(train, self.model.settings, generator)]
        return float(torch.stack(losses).mean())


def batches(train: Interactions, settings: LiteralSettings, generator: torch.Generator) -> Iterator[Batch]:
    """One epoch of random batches; negatives are uniform over all items."""
    for rows in torch.randperm(len(train), generator=generator).split(settings.batch_size):
        shape = (len(rows), settings.negatives)
        yield Batch(
            user=train.user[rows],
            item=train.item[rows],
            negative=torch.randint(train.n_items, shape, generator=generator),
        )


@dataclass(frozen=True, kw_only=True)
class LiteralRanking:
    """What a ranking needs: by user the items never to be recommended and the positives.

    ``candidates``: ``[I]`` bool. Users without positives are ranked, too, and do not count.
    """

    hidden: tuple[list[int], ...]
    positives: tuple[frozenset[int], ...]
    candidates: Tensor


def literal_ranking(
    positives: Interactions, hidden: list[Interactions], candidates: Tensor
) -> LiteralRanking:
    """Sort the interactions by user, once."""
    concealed: list[list[int]] = [[] for _ in range(positives.n_users)]
    for part in hidden:
        for user, item in zip(part.user.tolist(), part.item.tolist(), strict=True):
            concealed[user].append(item)
    wanted: list[set[int]] = [set() for _ in range(positives.n_users)]
    for user, item in zip(positives.user.tolist(), positives.item.tolist(), strict=True):
        wanted[user].add(item)
    return LiteralRanking(
        hidden=tuple(concealed), positives=tuple(map(frozenset, wanted)), candidates=candidates
    )


def ndcg(ranking: LiteralRanking, users: Tensor, items: Tensor, k: int, at_once: int = 512) -> float:
    """Mean NDCG at one ``k``: rank all users, ``at_once`` in a product, and walk their lists in Python."""
    n_items = items.shape[0]
    total, counted = 0.0, 0
    for rows in torch.arange(users.shape[0]).split(at_once):
        scores = (users[rows][:, None, :] * items[None, :, :]).sum(-1)  # [users, items, width] before the sum
        scores[:, ~ranking.candidates] = -torch.inf
        for place, user in enumerate(rows.tolist()):
            scores[place, ranking.hidden[user]] = -torch.inf
        best = scores.topk(min(k, n_items), dim=1).indices.tolist()
        for recommended, user in zip(best, rows.tolist(), strict=True):
            positives = ranking.positives[user]
            if not positives:
                continue
            gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(recommended) if item in positives)
            ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(positives), k)))
            total += gain / ideal
            counted += 1
    return total / counted
