"""``official``: the files' own valid and test rows are IID; OOD is taken from their train rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.registry import SettingsIn
from painvrl.data.splits.popularity import PopularityOod
from painvrl.data.splits.rows import (
    OOD_RULES,
    PROTOCOLS,
    Assignment,
    OodRows,
    OodRule,
    SplitRule,
    Table,
    split_labels,
)


@PROTOCOLS.register
class OfficialSplit(SplitRule):
    """The files' own split is the IID one: their valid and test rows are ``iid_valid`` and ``iid_test``.

    OOD rows are taken from the files' train rows by another protocol, whose shares are then of those rows.
    Where it holds items out, the files' valid and test rows of such items belong to them, too: they
    go where the item's other rows go.

    ``column``: of the interactions, with the labels ``train``, ``valid`` and ``test``. ``ood``: the rule.
    """

    reads_columns: ClassVar[bool] = True

    protocol: Literal["official"] = "official"
    column: str = "part"
    ood: Annotated[OodRule, SettingsIn(OOD_RULES)] = PopularityOod()

    def ood_names(self) -> tuple[str, ...]:
        """Those of the rule."""
        return self.ood.ood_names()

    def assign(self, table: Table, seed: int) -> Assignment:
        """Take the IID parts from the files, and OOD rows from the files' train rows."""
        labels = split_labels(table, self.column)
        train, valid, test = (torch.from_numpy(labels == name) for name in ("train", "valid", "test"))
        strange = ~(train | valid | test)
        if bool(strange.any()):
            found = np.unique(labels[strange.numpy()]).tolist()
            raise ConfigError(
                f"labels of the column {self.column} must be train, valid and test; the protocol given "
                "takes others",
                key="split.column",
                value=", ".join(repr(label) for label in found[:8]),
            )
        drawn = self.ood.draw_ood(table.select(train), seed)
        parts = {name: self._everywhere(part, train, table) for name, part in drawn.parts.items()}
        shifted = torch.zeros_like(train)
        for part in parts.values():
            shifted |= part.valid | part.test
        return Assignment(iid_valid=valid & ~shifted, iid_test=test & ~shifted, ood=parts, fixed_test=test)

    def _everywhere(self, part: OodRows, train: Tensor, table: Table) -> OodRows:
        """``part``, whose rows are some of the ``train`` rows, among all rows."""
        item, n_items = table.interactions.item, table.interactions.n_items

        def spread(chosen: Tensor) -> Tensor:
            rows = torch.zeros_like(train)
            rows[train] = chosen
            if not self.ood.holds_items_out:
                return rows
            return (torch.bincount(item[rows], minlength=n_items) > 0)[item]

        return replace(part, valid=spread(part.valid), test=spread(part.test))
