"""``cold_item``: OOD rows are all interactions of items that train never sees."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.data.draws import draw, halve
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

OodCandidates = Literal["held_out", "all"]


@OOD_RULES.register
class ColdItemOod(OodRule):
    """OOD rows are all interactions of a random share of the items; valid and test hold different items.

    ``item_share``: of the items, halved into valid and test. ``ood_candidates``: rank OOD rows among
    all held-out items, or among all items.
    """

    protocol: Literal["cold_item"] = "cold_item"
    item_share: Share = 0.25
    ood_candidates: OodCandidates = "held_out"

    def draw_ood(self, table: Table, seed: int) -> OodDraw:
        """The OOD rows.

        Raises:
            ConfigError: the share holds fewer than two items.
        """
        known = table.interactions.item_degree() > 0
        size = round(self.item_share * int(known.sum()))
        if size < 2:
            raise ConfigError(
                "item_share must hold out at least 2 items, one for valid and one for test",
                key="split.item_share",
                value=f"{self.item_share} of {int(known.sum())} items",
            )
        held_out = draw(known, size, generator=generator(seed, "split", "cold"))
        valid, test = halve(held_out, generator=generator(seed, "split", "cold halves"))
        return rows_of_items(table, valid, test, self.ood_candidates)


@PROTOCOLS.register
class ColdItemSplit(ColdItemOod, SplitRule):
    """OOD rows as in :class:`ColdItemOod`; IID rows are drawn uniformly from the other (warm) items.

    A random core of 1 interaction a user and 1 a warm item stays in train.

    ``iid_share``: of all interactions, halved into valid and test.
    """

    iid_share: Share = 0.2

    def assign(self, table: Table, seed: int) -> Assignment:
        """Hold items out, then draw IID rows."""
        return with_iid(table, self.draw_ood(table, seed), self.iid_share, seed)


def rows_of_items(table: Table, valid: Tensor, test: Tensor, candidates: OodCandidates) -> OodDraw:
    """All interactions of the held-out items ``valid`` and ``test`` (``[I]`` bool)."""
    item, held_out = table.interactions.item, valid | test
    rows = OodRows(
        valid=valid[item],
        test=test[item],
        candidates=held_out if candidates == "held_out" else torch.ones_like(held_out),
        held_out=candidates == "held_out",
    )
    return OodDraw(parts={"ood": rows}, taken=held_out[item])
