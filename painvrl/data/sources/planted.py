"""Planted data: interactions whose spurious features are known, so that a claim can be proven.

Items carry invariant, spurious and noise features. A user's choices in environment ``e`` follow

    p_e(i | u) = softmax_i( <A_u, invariant_i> + c_e <B_eu, spurious_i> )

where ``B_eu`` is a trend that all users share plus the user's own part. The training environments differ in
``c_e``, and in one of the two parts where ``shift`` says so; the OOD interactions use a ``c`` of the other
sign, which training never saw (method, "Planted data").

Shape letters: ``E`` environments, ``B`` users of a block, ``I`` items.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.rng import generator
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset, Modality, PlantedTruth
from painvrl.data.interactions import Interactions
from painvrl.data.sources.port import SOURCES, Source
from painvrl.data.sources.texts import as_objects

# Users times items drawn at once: bounds the memory. Part of what the data are: another value draws others.
BLOCK_CELLS = 2**21


@SOURCES.register
class PlantedConfig(Source):
    """Data whose spurious features are known. The default is pinned: the docs and tests refer to it."""

    is_drawn: ClassVar[bool] = True

    kind: Literal["planted"] = "planted"
    n_users: int = Field(default=1000, ge=2)
    """Number of users."""
    n_items: int = Field(default=1500, ge=10)
    """Number of items."""
    n_invariant: int = Field(default=16, ge=1)
    """Number of invariant features, which users choose by alike in all environments."""
    n_spurious: int = Field(default=16, ge=1)
    """Number of spurious features, whose effect depends on the environment."""
    n_noise: int = Field(default=16, ge=0)
    """Number of features that no choice depends on."""
    interactions_per_environment: int = Field(default=40, ge=1)
    """A user's choices in each training environment, on average, and in the OOD part."""
    spurious_strengths: tuple[float, ...] = Field(default=(2.5, 0.3), min_length=1)
    """Effect ``c_e`` of the spurious features, one number a training environment."""
    ood_strength: float = -1.5
    """Effect ``c`` of the spurious features in the OOD part."""
    shift: Literal["strength", "trend", "affinity"] = "strength"
    """What else differs between environments. ``strength``: nothing; ``trend``: the trend that users share;
    ``affinity``: the users' own parts. The OOD direction then lies between theirs.
    """
    invariant_affinity: Annotated[float, Field(gt=0)] = 1.0
    """Typical length of ``A_u``, a user's preferences for the invariant features."""
    shared_affinity: Annotated[float, Field(ge=0)] = 0.7
    """Length of the part of ``B_u``, the preferences for spurious features, that all users share, as they
    share a trend.
    """
    own_affinity: Annotated[float, Field(ge=0)] = 0.5
    """Typical length of the part of ``B_u`` that is the user's own."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of the data; ``null`` takes the run's."""

    def read(self, encodings: ArrayCache, seed: int) -> Dataset:
        """See :class:`Source`."""
        return read_planted(self, seed)


def read_planted(config: PlantedConfig, seed: int) -> Dataset:
    """Draw a data set; ``config.seed``, where set, wins over the run's ``seed``.

    Users are drawn in blocks, so memory grows with users plus items, not with their product.
    """
    root = seed if config.seed is None else config.seed
    users, items = config.n_users, config.n_items

    def normal(label: str, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator(root, "planted", label))

    invariant = normal("invariant", items, config.n_invariant)
    spurious = normal("spurious", items, config.n_spurious)
    noise = normal("noise", items, config.n_noise)
    affinity = config.invariant_affinity * normal("A", users, config.n_invariant) / config.n_invariant**0.5
    trends, affinities = _directions(config, root)

    size = max(1, BLOCK_CELLS // items)
    blocks = []
    for number, start in enumerate(range(0, users, size)):
        rows = slice(start, start + size)
        own = affinities[:, rows]
        baits = config.shared_affinity * trends + config.own_affinity * own
        ood_bait = config.shared_affinity * _between(trends) + config.own_affinity * _between(own)
        stable = affinity[rows] @ invariant.T
        user, *of_users, ood_user, ood_item, likeliest = _draw_block(
            stable, baits @ spurious.T, ood_bait @ spurious.T, config, root, number
        )
        blocks.append((start + user, *of_users, start + ood_user, ood_item, likeliest))
    user, item, environment, ood_user, ood_item, likeliest = map(torch.cat, zip(*blocks, strict=True))

    n_train, n_ood = len(user), len(ood_user)
    values = torch.cat([invariant, spurious, noise], dim=1)
    kinds = ("invariant",) * config.n_invariant + ("spurious",) * config.n_spurious
    kinds += ("noise",) * config.n_noise
    # How users fall into blocks decides what all but the first of them draw.
    layout = f"|blocks of {size}" if len(blocks) > 1 else ""
    # The kind of shift, and the word affinity, came later than data sets whose digests are in access logs.
    settings = config.model_dump_json(
        exclude={"memory_limit", *(["shift"] if config.shift == "strength" else [])}
    )
    settings = settings.replace("affinity", "taste")
    digest = hashlib.blake2b(f"{settings}|{root}{layout}".encode(), digest_size=16)
    return Dataset(
        name="planted",
        interactions=Interactions(
            user=torch.cat([user, ood_user]),
            item=torch.cat([item, ood_item]),
            n_users=users,
            n_items=items,
        ),
        user_ids=as_objects([str(user) for user in range(users)]),
        item_ids=as_objects([str(item) for item in range(items)]),
        titles=tuple(f"item {index}" for index in range(items)),
        modalities={"planted": Modality(values=values, present=torch.ones(items, dtype=torch.bool))},
        truth=PlantedTruth(
            environment=torch.cat([environment, torch.full((n_ood,), -1)]),
            part=torch.cat([torch.zeros(n_train), torch.ones(n_ood)]).long(),
            mask=torch.tensor([float(kind == "invariant") for kind in kinds]),
            kind=kinds,
            bayes_accuracy=float(likeliest.mean() / len(config.spurious_strengths)),
        ),
        fingerprint=digest.hexdigest(),
    )


def _directions(config: PlantedConfig, root: int) -> tuple[Tensor, Tensor]:
    """Trends ``[E, 1, n_spurious]`` of length 1 and users' own parts ``[E, U, n_spurious]``.

    Where environments do not differ in one of them, it is there once, for all of them.
    """
    width, environments = config.n_spurious, len(config.spurious_strengths)

    def drawn(label: str, turns: bool, rows: int) -> Tensor:
        labels = [(label,), *((label, e) for e in range(1, environments if turns else 1))]
        each = [torch.randn(rows, width, generator=generator(root, "planted", *one)) for one in labels]
        return torch.stack(each)

    trends = torch.nn.functional.normalize(drawn("trend", config.shift == "trend", 1), dim=2)
    return trends, drawn("B", config.shift == "affinity", config.n_users) / width**0.5


def _between(directions: Tensor) -> Tensor:
    """Their mean over ``E``, made as long as one of them is where they are unrelated."""
    mean: Tensor = directions.sum(dim=0) / len(directions) ** 0.5
    return mean


def _draw_block(
    stable: Tensor, shifting: Tensor, ood_shifting: Tensor, config: PlantedConfig, root: int, number: int
) -> tuple[Tensor, ...]:
    """Draw the interactions of a block of users, numbered from 0.

    Args:
        stable: ``[B, I]`` logits of the invariant features.
        shifting: ``[E, B, I]`` logits of the spurious ones at ``c = 1``, or ``[1, B, I]`` for all alike.
        ood_shifting: ``[B, I]``, the same of the OOD part.
        config: of the data set.
        root: seed of the data set.
        number: of the block; a label of its randomness, except for the first.

    Returns:
        User, item and environment of the training interactions, user and item of the OOD ones, and
        ``[B]`` the sum over items of the greatest probability that an environment gives.
    """
    labels = (number,) if number else ()
    strengths = torch.tensor(config.spurious_strengths)
    log_p = torch.log_softmax(stable + strengths[:, None, None] * shifting, dim=2)
    user, item, environment = _draw_training(log_p, config, root, labels)
    taken = torch.zeros(stable.shape, dtype=torch.bool)
    taken[user, item] = True
    ood_logits = stable + config.ood_strength * ood_shifting
    keys = (ood_logits + _gumbel(stable.shape, root, "ood", *labels)).masked_fill(taken, -torch.inf)
    ood_item = keys.topk(min(config.interactions_per_environment, stable.shape[1]), dim=1).indices
    ood_user = torch.arange(len(stable))[:, None].expand_as(ood_item)
    reachable = ~taken[ood_user, ood_item]
    # Environments are equal a priori, so the likeliest one of a draw is that of the greatest p.
    likeliest = log_p.exp_().amax(dim=0).sum(dim=1)
    return user, item, environment, ood_user[reachable], ood_item[reachable], likeliest


def _gumbel(shape: tuple[int, ...], root: int, *labels: object) -> Tensor:
    """Standard Gumbel noise: the top n of ``log p`` plus it are n draws without replacement."""
    uniform = torch.rand(shape, generator=generator(root, "planted", *labels), dtype=torch.float64)
    return uniform.clamp_min_(1e-300).log_().neg_().log_().neg_().float()


def _draw_training(
    log_p: Tensor, config: PlantedConfig, root: int, labels: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw every user's training interactions from ``log_p`` ``[E, B, I]``.

    Each of a user's ``E * interactions_per_environment`` choices draws its environment first. An
    item that two environments both drew stays with one of them, so no pair occurs twice.
    """
    n_environments, users, items = log_p.shape
    budget = n_environments * config.interactions_per_environment
    chosen = torch.randint(
        n_environments, (users, budget), generator=generator(root, "planted", "environment", *labels)
    )
    counts = torch.nn.functional.one_hot(chosen, n_environments).sum(1).T  # [E, B]
    keys = _gumbel((n_environments, users, items), root, "training", *labels).add_(log_p)
    best = keys.topk(min(int(counts.max()), items), dim=2).indices
    within = torch.arange(best.shape[2]) < counts[:, :, None]
    drawn = torch.zeros(log_p.shape, dtype=torch.bool).scatter_(2, best, within)
    lottery = torch.rand(log_p.shape, generator=generator(root, "planted", "ties", *labels))
    user, item = drawn.any(dim=0).nonzero(as_tuple=True)
    winner = torch.where(drawn[:, user, item], lottery[:, user, item], -1.0).argmax(dim=0)
    return user, item, winner
