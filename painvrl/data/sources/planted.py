"""Planted data: interactions whose spurious features are known, so that a claim can be proven.

Items carry invariant, spurious and noise features. A user's choices in environment ``e`` follow

    p_e(i | u) = softmax_i( <A_u, invariant_i> + c_e <B_u, spurious_i> )

The training environments differ in ``c_e``; the OOD interactions use a ``c`` of the other sign,
which training never saw (method, "Planted data").
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from painvrl.data.dataset import Dataset, Modality, PlantedTruth
from painvrl.data.interactions import Interactions
from painvrl.rng import generator
from painvrl.settings import Settings


class PlantedConfig(Settings):
    """The default is pinned: figures in the docs and tests refer to it.

    ``spurious_strengths``: ``c_e`` of the training environments. ``ood_strength``: ``c`` of the
    OOD part. ``shared_taste``: length of the part of ``B_u`` that all users share, as a trend or
    a click-bait effect is shared; ``own_taste``: length of the part that is the user's own.
    ``seed``: the data's own seed; ``null`` takes the run's.
    """

    kind: Literal["planted"] = "planted"
    n_users: int = Field(default=1000, ge=2)
    n_items: int = Field(default=1500, ge=10)
    n_invariant: int = Field(default=16, ge=1)
    n_spurious: int = Field(default=16, ge=1)
    n_noise: int = Field(default=16, ge=0)
    interactions_per_environment: int = Field(default=40, ge=1)
    spurious_strengths: tuple[float, ...] = Field(default=(2.5, 0.3), min_length=1)
    ood_strength: float = -1.5
    invariant_taste: Annotated[float, Field(gt=0)] = 1.0
    shared_taste: Annotated[float, Field(ge=0)] = 0.7
    own_taste: Annotated[float, Field(ge=0)] = 0.5
    seed: int | None = Field(default=None, ge=0)


def read_planted(config: PlantedConfig, seed: int) -> Dataset:
    """Draw a data set; ``config.seed``, where set, wins over the run's ``seed``."""
    root = seed if config.seed is None else config.seed
    users, items = config.n_users, config.n_items

    def normal(label: str, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator(root, "planted", label))

    invariant = normal("invariant", items, config.n_invariant)
    spurious = normal("spurious", items, config.n_spurious)
    noise = normal("noise", items, config.n_noise)
    taste = config.invariant_taste * normal("A", users, config.n_invariant) / config.n_invariant**0.5
    trend = torch.nn.functional.normalize(normal("trend", 1, config.n_spurious), dim=1)
    own = normal("B", users, config.n_spurious) / config.n_spurious**0.5
    bait = config.shared_taste * trend + config.own_taste * own

    stable = taste @ invariant.T
    shifting = bait @ spurious.T
    strengths = torch.tensor(config.spurious_strengths)
    log_p = torch.log_softmax(stable + strengths[:, None, None] * shifting, dim=2)
    user, item, environment = _draw_training(log_p, config, root)

    taken = torch.zeros(users, items, dtype=torch.bool)
    taken[user, item] = True
    ood_logits = stable + config.ood_strength * shifting
    keys = (ood_logits + _gumbel((users, items), root, "ood")).masked_fill(taken, -torch.inf)
    ood_item = keys.topk(min(config.interactions_per_environment, items), dim=1).indices
    ood_user = torch.arange(users)[:, None].expand_as(ood_item)
    reachable = ~taken[ood_user, ood_item]
    ood_user, ood_item = ood_user[reachable], ood_item[reachable]

    n_train, n_ood = len(user), len(ood_user)
    values = torch.cat([invariant, spurious, noise], dim=1)
    kinds = ("invariant",) * config.n_invariant + ("spurious",) * config.n_spurious
    kinds += ("noise",) * config.n_noise
    digest = hashlib.blake2b(f"{config.model_dump_json()}|{root}".encode(), digest_size=16)
    return Dataset(
        name="planted",
        interactions=Interactions(
            user=torch.cat([user, ood_user]),
            item=torch.cat([item, ood_item]),
            n_users=users,
            n_items=items,
        ),
        user_ids=np.arange(users),
        item_ids=np.arange(items),
        titles=tuple(f"item {index}" for index in range(items)),
        modalities={"planted": Modality(values=values, present=torch.ones(items, dtype=torch.bool))},
        truth=PlantedTruth(
            environment=torch.cat([environment, torch.full((n_ood,), -1)]),
            part=torch.cat([torch.zeros(n_train), torch.ones(n_ood)]).long(),
            mask=torch.tensor([float(kind == "invariant") for kind in kinds]),
            kind=kinds,
            bayes_accuracy=_bayes_accuracy(log_p),
        ),
        fingerprint=digest.hexdigest(),
    )


def _gumbel(shape: tuple[int, ...], root: int, label: str) -> Tensor:
    """Standard Gumbel noise: the top n of ``log p`` plus it are n draws without replacement."""
    uniform = torch.rand(shape, generator=generator(root, "planted", label), dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp_min(1e-300))).float()


def _draw_training(log_p: Tensor, config: PlantedConfig, root: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw every user's training interactions from ``log_p`` ``[E, U, I]``.

    Each of a user's ``E * interactions_per_environment`` choices draws its environment first. An
    item that two environments both drew stays with one of them, so no pair occurs twice.
    """
    n_environments, users, items = log_p.shape
    budget = n_environments * config.interactions_per_environment
    chosen = torch.randint(
        n_environments, (users, budget), generator=generator(root, "planted", "environment")
    )
    counts = torch.nn.functional.one_hot(chosen, n_environments).sum(1).T  # [E, U]
    keys = log_p + _gumbel((n_environments, users, items), root, "training")
    order = keys.argsort(dim=2, descending=True)
    rank = torch.empty_like(order).scatter_(2, order, torch.arange(items).expand_as(order).contiguous())
    drawn = rank < counts[:, :, None]
    lottery = torch.rand(drawn.shape, generator=generator(root, "planted", "ties"))
    winner = torch.where(drawn, lottery, -1.0).argmax(dim=0)  # [U, I]
    user, item = drawn.any(dim=0).nonzero(as_tuple=True)
    return user, item, winner[user, item]


def _bayes_accuracy(log_p: Tensor) -> float:
    """How often the most likely environment of a draw is the true one (environments equal a priori)."""
    return float(log_p.exp().amax(dim=0).sum(dim=1).mean() / log_p.shape[0])
