"""``planted``: the planted data's own shift."""

from __future__ import annotations

from typing import Literal

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.data.draws import halve
from painvrl.data.splits.rows import PROTOCOLS, Assignment, Share, SplitRule, Table, among_all, with_iid


@PROTOCOLS.register
class PlantedSplit(SplitRule):
    """The planted data's own OOD rows, halved into valid and test; ranked among all items.

    IID rows are drawn uniformly from the others; a random core of 1 interaction a user and 1 an
    item stays in train. ``iid_share``: of all interactions, halved into valid and test.
    """

    protocol: Literal["planted"] = "planted"
    iid_share: Share = 0.2

    def assign(self, table: Table, seed: int) -> Assignment:
        """Halve the planted OOD rows, then draw IID rows."""
        ood = table.planted_ood
        if ood is None:
            raise ConfigError(
                "the planted protocol needs planted data (data.kind: planted)",
                key="split.protocol",
                value=f"planted on {table.name}",
            )
        valid, test = halve(ood, generator=generator(seed, "split", "ood halves"))
        return with_iid(table, among_all(table, valid, test), self.iid_share, seed)
