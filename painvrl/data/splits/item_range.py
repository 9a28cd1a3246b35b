"""``item_range``: OOD are items of another range of a number, such as films of another era."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

import torch
from pydantic import AfterValidator, model_validator
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.data.draws import halve, rank_within
from painvrl.data.smooth import numbers_of
from painvrl.data.splits.held_out import OodCandidates, rows_of_items
from painvrl.data.splits.rows import (
    PROTOCOLS,
    Assignment,
    Share,
    SplitRule,
    Table,
    labels_of,
    with_iid,
)

STRATUM = 20
"""Neighbours in popularity that the matched draw takes for equal."""


def _holds_something(ends: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = ends
    if low is not None and high is not None and low > high:
        raise ValueError(f"a range must not end before it begins (found {list(ends)})")
    if low is None and high is None:
        raise ValueError("a range needs at least one end (found [null, null])")
    return ends


Range: TypeAlias = Annotated[tuple[float | None, float | None], AfterValidator(_holds_something)]
"""Both ends belong to it; ``null`` is no end."""


@PROTOCOLS.register
class ItemRangeSplit(SplitRule):
    """OOD rows are all interactions of items in the range ``ood``; train and IID rows those of ``train``.

    Items between the ranges, and items without a number, are left out: nothing of them is in any part or
    list. Valid and test hold different OOD items. IID rows are drawn uniformly from the train items' rows; a
    random core of 1 interaction a user and 1 an item stays in train.
    """

    reads_columns: ClassVar[bool] = True

    protocol: Literal["item_range"] = "item_range"
    column: str
    """Numeric column of the items, such as ``year``."""
    train: Range
    """First and last value of train and IID items, such as ``[1994, null]``."""
    ood: Range
    """First and last value of OOD items, such as ``[null, 1980]``."""
    matched: bool = False
    """Hold out equally many items at random from both ranges instead, as popular as those of ``ood``: the
    control without a shift.
    """
    ood_candidates: OodCandidates = "held_out"
    """Rank OOD rows among all ``held_out`` items, or among ``all`` items."""
    iid_share: Share = 0.2
    """IID rows, as a share of all interactions that are not left out; halved into valid and test."""

    @model_validator(mode="after")
    def _has_two_ranges(self) -> Self:
        (a, b), (c, d) = (
            (float("-inf") if low is None else low, float("inf") if high is None else high)
            for low, high in (self.train, self.ood)
        )
        if max(a, c) <= min(b, d):
            raise ValueError(f"train {list(self.train)} and ood {list(self.ood)} must not share a value")
        return self

    def assign(self, table: Table, seed: int) -> Assignment:
        """Hold the OOD items out, then draw IID rows.

        Raises:
            ConfigError: there is no such column, it is not numeric, or a range holds too few items.
        """
        labels = labels_of(table.columns.item, self.column, of="items", table=table.name)
        numbers = torch.from_numpy(numbers_of(labels, key="split.column", column=self.column))
        degree = table.interactions.item_degree()
        ranges = {name: _within(numbers, getattr(self, name)) & (degree > 0) for name in ("train", "ood")}
        for name, least in (("train", 1), ("ood", 2)):
            if (found := int(ranges[name].sum())) < least:
                rule = f"must hold at least {least} of the items"
                raise ConfigError(rule, key=f"split.{name}", value=f"{found} items")
        inside = ranges["train"] | ranges["ood"]
        held_out = ranges["ood"]
        if self.matched:
            held_out = as_popular(held_out, inside, degree, generator(seed, "split", "matched"))
        valid, test = halve(held_out, generator=generator(seed, "split", "range halves"))
        left_out = ~inside & (degree > 0)
        rows = left_out[table.interactions.item]
        drawn = rows_of_items(table, valid, test, self.ood_candidates)
        drawn = replace(drawn, taken=drawn.taken | rows, left_out=left_out)
        return with_iid(table, drawn, self.iid_share * (1 - float(rows.double().mean())), seed)


def _within(numbers: Tensor, ends: tuple[float | None, float | None]) -> Tensor:
    """``[I]`` bool; NaN lies in no range."""
    low, high = ends
    inside = numbers.isfinite()
    inside = inside if low is None else inside & (numbers >= low)
    return inside if high is None else inside & (numbers <= high)


def as_popular(chosen: Tensor, among: Tensor, degree: Tensor, source: torch.Generator) -> Tensor:
    """``[I]`` bool: equally many items of ``among`` at random, with the popularity of the ``chosen`` ones.

    Items are sorted by popularity and cut in strata; each gives as many as it has chosen ones.

    Args:
        chosen: ``[I]`` bool, a subset of ``among``.
        among: ``[I]`` bool.
        degree: ``[I]`` interactions.
        source: draws ties and items.
    """
    tie, lot = torch.rand(2, len(degree), generator=source, dtype=torch.float64)
    by_tie = torch.argsort(tie)
    by_degree = by_tie[torch.argsort(degree[by_tie], stable=True)]
    order = by_degree[among[by_degree]]
    stratum = torch.arange(len(order)) // STRATUM
    strata = int(stratum[-1]) + 1
    wanted = torch.bincount(stratum[chosen[order]], minlength=strata)
    drawn = torch.zeros_like(chosen)
    drawn[order] = rank_within(stratum, strata, lot[order]) < wanted[stratum]
    return drawn
