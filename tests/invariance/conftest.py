"""A small frozen backbone in double precision, and the slow loops that it is compared with."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.data.dataset import Dataset
from painvrl.data.features import FeatureConfig, build_features
from painvrl.data.interactions import Interactions
from painvrl.data.sources.planted import PlantedConfig, read_planted
from painvrl.invariance.mask import Gated
from painvrl.invariance.risks import Frozen, Scored, freeze, score
from painvrl.invariance.shared_model import SharedModel
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.pairs import canonical_order
from painvrl.model.training_data import TrainingData, training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
A0 = 0.3


def _double(thing: T) -> T:
    """The same dataclass with its floating tensors in double precision."""
    if isinstance(thing, Tensor):
        return thing.double() if thing.is_floating_point() else thing  # type: ignore[return-value]
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        changed = {
            field.name: _double(getattr(thing, field.name))
            for field in dataclasses.fields(thing)
            if field.init
        }
        return dataclasses.replace(thing, **changed)
    return thing


@dataclass(frozen=True, kw_only=True)
class World:
    """7 users (the last without a pair), 8 items (item 3 is cold), 5 features, widths 2 and 3."""

    listed: tuple[tuple[int, int], ...]  # in the canonical order
    data: TrainingData
    features: Tensor
    item_id: Tensor  # [8, 2]; that of item 3 plays no part
    frozen: Frozen
    weight: Tensor
    bias: Tensor

    @property
    def n_pairs(self) -> int:
        return len(self.listed)

    def labels(self, n_groups: int, seed: int = 0) -> Tensor:
        return torch.randint(n_groups, (self.n_pairs,), generator=torch.Generator().manual_seed(seed))

    def scored(self, gates: Tensor, weight: Tensor | None = None) -> Scored:
        return score(gates, self.weight if weight is None else weight, self.bias, self.frozen)

    def slow_risks(
        self, label: Sequence[int], n_groups: int, gates: Tensor, weight: Tensor, bias: Tensor
    ) -> list[Tensor]:
        """``R_g``, pair by pair, from the method: ``[sum over (u,i) in g of (1-s)^2 - a0 s^2
        + a0 <U' D_g U, I'I>] / n_g`` with ``D_g`` = diag(share of u's pairs that lie in g)."""
        p, c = self.frozen.users[:, :2], self.frozen.users[:, 2:]
        warm = sorted({item for _, item in self.listed})
        q = self.item_id
        h = [(self.features[item] * gates) @ weight + bias for item in range(len(self.features))]
        degree = [sum(u == user for u, _ in self.listed) for user in range(len(p))]
        row_sum = [
            sum((p[user] @ q[item] + c[user] @ h[item]) ** 2 for item in warm) for user in range(len(p))
        ]
        risks = []
        for group in range(n_groups):
            members = [pair for pair, mine in zip(self.listed, label, strict=True) if mine == group]
            total = torch.zeros((), dtype=torch.float64)
            for user, item in members:
                s = p[user] @ q[item] + c[user] @ h[item]
                total = total + (1 - s) ** 2 - A0 * s**2 + A0 / degree[user] * row_sum[user]
            risks.append(total / max(1, len(members)))
        return risks


def _world() -> World:
    draw = torch.Generator().manual_seed(0)
    taken = torch.rand(7, 8, generator=draw) < 0.45
    taken[:6, 1], taken[:, 3], taken[6] = True, False, False
    listed = tuple((int(u), int(i)) for u, i in taken.nonzero().tolist())
    columns = torch.tensor(listed)
    train = Interactions(user=columns[:, 0], item=columns[:, 1], n_users=7, n_items=8)
    data = _double(training_data(train, torch.device("cpu")))

    def normal(*shape: int) -> Tensor:
        return 0.5 * torch.randn(*shape, generator=draw, dtype=torch.float64)

    features = normal(8, 5)
    user_id, item_id = normal(7, 2), normal(8, 2)
    frozen = freeze(data, features, user_id, item_id, normal(7, 3), A0)
    return World(
        listed=listed,
        data=data,
        features=features,
        item_id=item_id,
        frozen=frozen,
        weight=normal(5, 3),
        bias=normal(3),
    )


@pytest.fixture(scope="session")
def world() -> World:
    return _world()


@dataclass(frozen=True, kw_only=True)
class PlantedWorld:
    """Small planted data with a pretrained, frozen backbone and the true labels."""

    dataset: Dataset
    train: Interactions
    data: TrainingData
    features: Tensor
    model: Backbone
    frozen: Frozen
    start: Gated
    label: Tensor  # [N] true environments in the canonical order
    invariant: ClassVar[slice] = slice(0, 16)
    spurious: ClassVar[slice] = slice(16, 32)

    @property
    def width(self) -> int:
        return self.features.shape[1]


@pytest.fixture(scope="session")
def planted_world() -> PlantedWorld:
    dataset = read_planted(PlantedConfig(n_users=400, n_items=500, interactions_per_environment=30), 0)
    truth = dataset.truth
    assert truth is not None
    train = dataset.interactions.select(truth.part == 0)
    data = training_data(train, torch.device("cpu"))
    known = train.item_degree() > 0
    features = build_features(dataset.modalities, known, FeatureConfig())
    config = BackboneConfig(id_dim=0, content_dim=32)
    model = Backbone(features, data, config, torch.Generator().manual_seed(0))
    fit(
        model,
        TrainingConfig(),
        torch.Generator().manual_seed(1),
        evaluate=None,
        observe=lambda epoch, values: None,
        epochs=80,
    )
    return PlantedWorld(
        dataset=dataset,
        train=train,
        data=data,
        features=features,
        model=model,
        frozen=freeze(data, features, model.user_id, model.item_id, model.user_content, 0.1),
        start=Gated(
            mu=torch.zeros(features.shape[1]), weight=model.weight.detach(), bias=model.bias.detach()
        ),
        label=truth.environment[truth.part == 0][canonical_order(train)],
    )


class Small:
    """Users with random interactions, a shared model, variant features; a cold item among them."""

    def __init__(self, n_users: int = 9, n_items: int = 11, width: int = 4, share: float = 0.4) -> None:
        draw = torch.Generator().manual_seed(5)
        taken = torch.rand(n_users, n_items, generator=draw) < share
        taken[:, 2], taken[0, 0] = False, True
        user, item = taken.nonzero(as_tuple=True)
        train = Interactions(user=user, item=item, n_users=n_users, n_items=n_items)
        self.n_users, self.n_items = n_users, n_items
        self.data: TrainingData = training_data(train, torch.device("cpu"))
        self.shared = SharedModel(
            users=torch.randn(n_users, 3, generator=draw),
            items=torch.randn(n_items, 3, generator=draw),
            log_degree=(1 + self.data.item_degree).log(),
            warm=self.data.warm > 0,
            temperature=torch.tensor(0.8),
            popularity=torch.tensor(0.3),
        )
        self.variant = torch.randn(n_items, width, generator=draw)
        self.pairs = list(zip(user.tolist(), item.tolist(), strict=True))

    def slow_log_p(self, offsets: np.ndarray) -> np.ndarray:
        """``[N, E]``: ``log p_e(i | u)`` of every pair by the definition, a softmax at a time."""
        users, items = (t.double().numpy() for t in (self.shared.users, self.shared.items))
        variant = self.variant.double().numpy()
        degree = self.data.item_degree.double().numpy()
        warm = [item for item in range(self.n_items) if degree[item] > 0]
        out = np.zeros((len(self.pairs), len(offsets)))
        for place, (user, item) in enumerate(self.pairs):
            for e, offset in enumerate(offsets):
                logit = {
                    j: 0.8 * users[user] @ items[j] + 0.3 * math.log1p(degree[j]) + offset @ variant[j]
                    for j in warm
                }
                out[place, e] = logit[item] - math.log(sum(math.exp(value) for value in logit.values()))
        return out


@pytest.fixture(scope="session")
def small() -> Small:
    return Small()


@pytest.fixture(scope="session")
def make_small() -> type[Small]:
    """For worlds of other sizes."""
    return Small
