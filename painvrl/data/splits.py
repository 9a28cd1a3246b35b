"""Split protocols: where in-distribution (IID) and out-of-distribution (OOD) data come from.

Every split has five disjoint parts: ``train``, ``iid_valid``, ``ood_valid``, and, behind a seal,
``iid_test`` and ``ood_test``. A split is a function of the data set's content, the configuration
and the seed; the order of the interactions does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from painvrl.data.card import SplitCard, make_card
from painvrl.data.dataset import Dataset
from painvrl.data.digest import digest_of, digest_of_interactions
from painvrl.data.draws import draw, halve, protected_core
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part, TestParts
from painvrl.data.seal import SealedParts
from painvrl.errors import ConfigError
from painvrl.rng import generator
from painvrl.settings import Settings

__all__ = [
    "ColdItemSplit",
    "Part",
    "PlantedSplit",
    "PopularitySplit",
    "Split",
    "SplitConfig",
    "TestParts",
    "make_split",
]

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class PopularitySplit(Settings):
    """OOD rows are drawn with weight ``1 / count(item)^gamma``, so they lean to the long tail.

    A random core of at least 2 interactions a user and 1 an item stays in train. OOD rows are
    drawn from what it leaves, then IID rows uniformly from what is left of that.

    ``gamma``: strength of the shift; 0 is none. ``ood_share``, ``iid_share``: of all interactions,
    each halved into valid and test.
    """

    protocol: Literal["popularity"] = "popularity"
    gamma: float = Field(default=1.0, ge=0.0, le=10.0)
    ood_share: Share = 0.2
    iid_share: Share = 0.2

    @model_validator(mode="after")
    def _leaves_train(self) -> Self:
        if self.ood_share + self.iid_share >= 1:
            raise ValueError(
                "ood_share + iid_share must be below 1, or nothing is left to train on "
                f"(found {self.ood_share} + {self.iid_share})"
            )
        return self


class ColdItemSplit(Settings):
    """OOD rows are all interactions of items that train never sees.

    Valid and test hold different items. IID rows are drawn uniformly from the other (warm) items;
    a random core of 1 interaction a user and 1 a warm item stays in train.

    ``item_share``: of the items. ``iid_share``: of all interactions. Both are halved into valid
    and test. ``ood_candidates``: rank OOD rows among all held-out items, or among all items.
    """

    protocol: Literal["cold_item"] = "cold_item"
    item_share: Share = 0.25
    iid_share: Share = 0.2
    ood_candidates: Literal["held_out", "all"] = "held_out"


class PlantedSplit(Settings):
    """The planted data's own OOD rows, halved into valid and test; ranked among all items.

    IID rows are drawn uniformly from the others; a random core of 1 interaction a user and 1 an
    item stays in train. ``iid_share``: of all interactions, halved into valid and test.
    """

    protocol: Literal["planted"] = "planted"
    iid_share: Share = 0.2


SplitConfig = Annotated[PopularitySplit | ColdItemSplit | PlantedSplit, Field(discriminator="protocol")]


@dataclass(frozen=True, kw_only=True)
class Split:
    """A data set in five disjoint parts, all in the data set's id space.

    Attributes:
        protocol: how the parts were made.
        seed: of the draws.
        train: what may be learnt from.
        iid_valid: like train.
        ood_valid: shifted.
        sealed: the two test parts.
        card: counts of all five.
    """

    protocol: str
    seed: int
    train: Interactions
    iid_valid: Part
    ood_valid: Part
    sealed: SealedParts
    card: SplitCard


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """``[N]`` bool for each part but train, which is the rest, and ``[I]`` bool OOD candidates.

    ``ood_candidates`` is None where they are the items with a train interaction.
    """

    iid_valid: Tensor
    iid_test: Tensor
    ood_valid: Tensor
    ood_test: Tensor
    ood_candidates: Tensor | None


def make_split(dataset: Dataset, config: SplitConfig, *, seed: int) -> Split:
    """Split ``dataset`` by ``config``.

    Users without a train interaction have no row in any part (the card counts them). IID rows are
    ranked among the items with a train interaction.

    Raises:
        ConfigError: the protocol does not fit the data set, or would leave a part empty.
    """
    order = torch.argsort(
        dataset.interactions.user * dataset.interactions.n_items + dataset.interactions.item
    )
    data = dataset.interactions.select(order)
    if isinstance(config, PopularitySplit):
        rows = _popularity(data, config, seed)
    elif isinstance(config, ColdItemSplit):
        rows = _cold_item(data, config, seed)
    elif dataset.truth is not None:
        rows = _planted(data, dataset.truth.part[order] == 1, config, seed)
    else:
        raise ConfigError(
            "the planted protocol needs planted data (data.kind: planted)",
            key="split.protocol",
            value=f"planted on {dataset.name}",
        )

    train = ~(rows.iid_valid | rows.iid_test | rows.ood_valid | rows.ood_test)
    trained_users = data.select(train).user_degree() > 0
    kept = trained_users[data.user]
    parts = {
        "train": data.select(train),
        "iid_valid": data.select(rows.iid_valid & kept),
        "iid_test": data.select(rows.iid_test & kept),
        "ood_valid": data.select(rows.ood_valid & kept),
        "ood_test": data.select(rows.ood_test & kept),
    }
    for name, part in parts.items():
        if len(part) == 0:
            raise ConfigError(
                f"the protocol {config.protocol} leaves {name} without an interaction; "
                "change the shares or bring more data",
                key="split",
                value=f"{len(data)} interactions",
            )
    warm = parts["train"].item_degree() > 0
    ood_candidates = warm if rows.ood_candidates is None else rows.ood_candidates

    def part_of(name: str, candidates: Tensor) -> Part:
        return Part(name=name, interactions=parts[name], candidates=candidates)

    return Split(
        protocol=config.protocol,
        seed=seed,
        train=parts["train"],
        iid_valid=part_of("iid_valid", warm),
        ood_valid=part_of("ood_valid", ood_candidates),
        sealed=SealedParts(
            iid_test=part_of("iid_test", warm),
            ood_test=part_of("ood_test", ood_candidates),
            fingerprint=digest_of(
                digest_of_interactions(data, dataset.user_ids, dataset.item_ids),
                config.model_dump(mode="json"),
                seed,
            ),
        ),
        card=make_card(
            protocol=config.protocol,
            seed=seed,
            data=data,
            parts=parts,
            dropped_users=int((~trained_users & (data.user_degree() > 0)).sum()),
        ),
    )


def _popularity(data: Interactions, config: PopularitySplit, seed: int) -> _Rows:
    everything = torch.ones(len(data), dtype=torch.bool)
    core = protected_core(
        data, everything, per_user=2, per_item=1, generator=generator(seed, "split", "core")
    )
    ood_size = round(config.ood_share * len(data))
    iid_size = round(config.iid_share * len(data))
    free = len(data) - int(core.sum())
    if ood_size + iid_size > free:
        raise ConfigError(
            f"ood_share and iid_share ask for {ood_size} + {iid_size} interactions, but the core "
            "of 2 a user and 1 an item that stays in train leaves fewer; lower the shares",
            key="split",
            value=f"{free} of {len(data)}",
        )
    log_weight = -config.gamma * data.item_degree().double().clamp(min=1).log()[data.item]
    ood = draw(~core, ood_size, generator=generator(seed, "split", "ood"), log_weight=log_weight)
    iid = draw(~core & ~ood, iid_size, generator=generator(seed, "split", "iid"))
    return _halved(iid=iid, ood=ood, ood_candidates=None, seed=seed)


def _cold_item(data: Interactions, config: ColdItemSplit, seed: int) -> _Rows:
    known = data.item_degree() > 0
    held_out_size = round(config.item_share * int(known.sum()))
    if held_out_size < 2:
        raise ConfigError(
            "item_share must hold out at least 2 items, one for valid and one for test",
            key="split.item_share",
            value=f"{config.item_share} of {int(known.sum())} items",
        )
    held_out = draw(known, held_out_size, generator=generator(seed, "split", "cold"))
    valid_items, test_items = halve(held_out, generator=generator(seed, "split", "cold halves"))
    iid = _draw_iid(data, ~held_out[data.item], config.iid_share, seed)
    iid_valid, iid_test = halve(iid, generator=generator(seed, "split", "iid halves"))
    return _Rows(
        iid_valid=iid_valid,
        iid_test=iid_test,
        ood_valid=valid_items[data.item],
        ood_test=test_items[data.item],
        ood_candidates=held_out if config.ood_candidates == "held_out" else torch.ones_like(held_out),
    )


def _planted(data: Interactions, ood: Tensor, config: PlantedSplit, seed: int) -> _Rows:
    iid = _draw_iid(data, ~ood, config.iid_share, seed)
    return _halved(iid=iid, ood=ood, ood_candidates=torch.ones(data.n_items, dtype=torch.bool), seed=seed)


def _draw_iid(data: Interactions, rows: Tensor, share: float, seed: int) -> Tensor:
    """``[N]`` bool: ``share * N`` of ``rows``, beside a core of 1 a user and 1 an item."""
    core = protected_core(data, rows, per_user=1, per_item=1, generator=generator(seed, "split", "core"))
    size = round(share * len(data))
    free = int((rows & ~core).sum())
    if size > free:
        raise ConfigError(
            f"iid_share asks for {size} interactions, but the OOD parts and the core of 1 a user "
            "and 1 an item that stays in train leave fewer; lower it",
            key="split.iid_share",
            value=f"{free} of {len(data)}",
        )
    return draw(rows & ~core, size, generator=generator(seed, "split", "iid"))


def _halved(*, iid: Tensor, ood: Tensor, ood_candidates: Tensor | None, seed: int) -> _Rows:
    """Both drawn sets halved into valid and test."""
    iid_valid, iid_test = halve(iid, generator=generator(seed, "split", "iid halves"))
    ood_valid, ood_test = halve(ood, generator=generator(seed, "split", "ood halves"))
    return _Rows(
        iid_valid=iid_valid,
        iid_test=iid_test,
        ood_valid=ood_valid,
        ood_test=ood_test,
        ood_candidates=ood_candidates,
    )
