"""``popularity``: OOD rows lean to the long tail."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, TypeVar

import torch
from pydantic import Field, field_validator, model_validator

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.data.draws import draw, halve, protected_core
from painvrl.data.splits.rows import (
    OOD_RULES,
    PROTOCOLS,
    Assignment,
    OodDraw,
    OodRows,
    OodRule,
    Share,
    SplitRule,
    Table,
    with_iid,
)

T = TypeVar("T")
Gamma = Annotated[float, Field(ge=0.0, le=10.0)]


@OOD_RULES.register
class PopularityOod(OodRule):
    """OOD rows are drawn with weight ``1 / count(item)^gamma``, so they lean to the long tail.

    A random core of at least 2 interactions a user and 1 an item stays in train; OOD rows are drawn from what
    it leaves.
    """

    holds_items_out: ClassVar[bool] = False

    protocol: Literal["popularity"] = "popularity"
    gamma: Gamma | tuple[Gamma, ...] = 1.0
    """Strength of the shift; 0 is none. A rising list gives graded OOD parts, ``ood_gamma_0.5`` and so on,
    which share the rows and are drawn in turn.
    """
    ood_share: Share = 0.2
    """OOD rows, as a share of all interactions; halved into valid and test."""

    @field_validator("gamma")
    @classmethod
    def _rises(cls, gamma: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if isinstance(gamma, tuple) and (not gamma or any(a >= b for a, b in pairwise(gamma))):
            raise ValueError(f"a list of gammas must rise and hold at least one (found {list(gamma)})")
        if isinstance(gamma, tuple) and len(set(_named(gamma))) < len(gamma):
            raise ValueError(
                "the gammas of a list must differ in the six digits that name their parts "
                f"(found {list(gamma)}, named {', '.join(_named(gamma))})"
            )
        return gamma

    def ood_names(self) -> tuple[str, ...]:
        """A part for every ``gamma``."""
        if isinstance(self.gamma, tuple):
            return _named(self.gamma)
        return ("ood",)

    def draw_ood(self, table: Table, seed: int, *, iid_size: int = 0) -> OodDraw:
        """The OOD rows, if the core leaves room for them and ``iid_size`` more.

        Raises:
            ConfigError: it does not.
        """
        data = table.interactions
        everything = torch.ones(len(data), dtype=torch.bool)
        core = protected_core(
            data, everything, per_user=2, per_item=1, generator=generator(seed, "split", "core")
        )
        size = round(self.ood_share * len(data))
        free = len(data) - int(core.sum())
        if size + iid_size > free:
            asked = f"ood_share asks for {size}"
            if iid_size:
                asked = f"ood_share and iid_share ask for {size} + {iid_size}"
            raise ConfigError(
                f"{asked} interactions, but the core of 2 a user and 1 an item that stays in train "
                "leaves fewer; lower the shares",
                key="split",
                value=f"{free} of {len(data)}",
            )
        log_count = data.item_degree().double().clamp(min=1).log()
        gammas = self.gamma if isinstance(self.gamma, tuple) else (self.gamma,)
        # The flattest first: what it takes hardly changes what the steeper ones draw from.
        taken = torch.zeros_like(core)
        parts = {}
        for index, (name, gamma) in enumerate(zip(self.ood_names(), gammas, strict=True)):
            label = () if name == "ood" else (name,)
            drawn = draw(
                ~core & ~taken,
                size * (index + 1) // len(gammas) - size * index // len(gammas),
                generator=generator(seed, "split", "ood", *label),
                log_weight=-gamma * log_count[data.item],
            )
            valid, test = halve(drawn, generator=generator(seed, "split", "ood halves", *label))
            parts[name] = OodRows(valid=valid, test=test)
            taken |= drawn
        return OodDraw(parts=parts, taken=taken, core=core)


def leaves_train(rule: T) -> T:
    """A validator of settings with two shares: together they must leave something to train on.

    Raises:
        ValueError: they do not.
    """
    ood_share, iid_share = (getattr(rule, name) for name in ("ood_share", "iid_share"))
    if ood_share + iid_share >= 1:
        raise ValueError(
            "ood_share + iid_share must be below 1, or nothing is left to train on "
            f"(found {ood_share} + {iid_share})"
        )
    return rule


@PROTOCOLS.register
class PopularitySplit(PopularityOod, SplitRule):
    """OOD rows as in :class:`PopularityOod`.

    IID rows are drawn uniformly from what those and the core leave.
    """

    iid_share: Share = 0.2
    """IID rows, as a share of all interactions; halved into valid and test."""

    _leaves_train = model_validator(mode="after")(leaves_train)

    def assign(self, table: Table, seed: int) -> Assignment:
        """Draw OOD rows, then IID rows."""
        ood = self.draw_ood(table, seed, iid_size=round(self.iid_share * len(table)))
        return with_iid(table, ood, self.iid_share, seed)


def _named(gammas: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"ood_gamma_{gamma:g}" for gamma in gammas)
