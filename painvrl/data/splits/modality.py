"""``wrong_modality`` and ``missing_modality``: one modality of the OOD items is broken.

A batch of items arrives with the pictures of others, or without any. A part of the train items is broken in
the same way, so that a method that is told the batches can learn which modality not to rely on.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.data.dataset import BATCH
from painvrl.data.draws import draw
from painvrl.data.splits.held_out import ColdItemOod
from painvrl.data.splits.rows import (
    PROTOCOLS,
    Assignment,
    Share,
    ShownFeatures,
    SplitRule,
    Table,
    with_iid,
)

AnyShare = Annotated[float, Field(ge=0.0, le=1.0)]


class _BrokenModality(ColdItemOod, SplitRule):
    modality: str
    """The modality that is broken, one of the data's."""
    ood_broken: AnyShare = 1.0
    """Share of the OOD items that are broken."""
    train_broken: AnyShare = 0.3
    """Share of the other items that are; with 0 for both shares there is no shift of features."""
    iid_share: Share = 0.2
    """IID rows, as a share of all interactions; halved into valid and test."""

    def assign(self, table: Table, seed: int) -> Assignment:
        """Hold items out, draw IID rows, and break the modality of some items.

        Raises:
            ConfigError: the data have no such modality, or a share holds too few items.
        """
        if self.modality not in table.modalities:
            known = ", ".join(table.modalities) or "none"
            rule = f"the data set {table.name} has no such modality; it has {known}"
            raise ConfigError(rule, key="split.modality", value=self.modality)
        columns = table.columns
        if any(BATCH in of for of in (columns.interaction, columns.item, columns.user)):
            rule = f"the data have a column {BATCH}, which names the broken items here; rename it"
            raise ConfigError(rule, key="split.protocol", value=self.protocol)
        drawn = self.draw_ood(table, seed)
        held_out = torch.zeros(table.interactions.n_items, dtype=torch.bool)
        held_out[table.interactions.item[drawn.taken]] = True
        present = table.modalities[self.modality].present
        broken = torch.zeros_like(held_out)
        for name, share, of in (
            ("ood", self.ood_broken, held_out & present),
            ("train", self.train_broken, ~held_out & present),
        ):
            source = generator(seed, "split", "broken", name)
            broken |= draw(of, round(share * int(of.sum())), generator=source)
        shown = ShownFeatures(modality=self.modality, source=self.shown(broken, seed))
        return replace(with_iid(table, drawn, self.iid_share, seed), shown=shown)

    @abstractmethod
    def shown(self, broken: Tensor, seed: int) -> Tensor:
        """``[I]`` int64: whose vector each item is shown with; -1 for none."""


@PROTOCOLS.register
class WrongModalitySplit(_BrokenModality):
    """OOD items, drawn as by ``cold_item``, have the vector of another item in one modality.

    The broken items swap their vectors among each other, so each vector is still somebody's.
    ``environments.column: batch`` names the broken ones.
    """

    protocol: Literal["wrong_modality"] = "wrong_modality"  # type: ignore[assignment] # of another rule

    def shown(self, broken: Tensor, seed: int) -> Tensor:
        """A random circle through the broken items, so that none keeps its own.

        Raises:
            ConfigError: a single item is broken.
        """
        (items,) = broken.nonzero(as_tuple=True)
        if len(items) == 1:
            rule = "must break at least 2 items, which swap their vectors"
            raise ConfigError(rule, key="split.ood_broken", value="1 item")
        order = items[torch.randperm(len(items), generator=generator(seed, "split", "swapped"))]
        source = torch.arange(len(broken))
        source[order] = order.roll(1)
        return source


@PROTOCOLS.register
class MissingModalitySplit(_BrokenModality):
    """OOD items, drawn as by ``cold_item``, lack one modality.

    ``environments.column: batch`` names the broken ones.
    """

    protocol: Literal["missing_modality"] = "missing_modality"  # type: ignore[assignment] # of another rule

    def shown(self, broken: Tensor, seed: int) -> Tensor:
        """Nothing in place of the broken ones' vectors."""
        return torch.where(broken, -1, torch.arange(len(broken)))
