"""``given``, ``official`` and ``planted``: the data say which rows are OOD, or which are IID."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from painvrl.core.errors import ConfigError, listing
from painvrl.core.registry import SettingsIn
from painvrl.core.rng import generator
from painvrl.data.draws import halve
from painvrl.data.parts import is_scored_name
from painvrl.data.splits.held_out import OodCandidates
from painvrl.data.splits.popularity import PopularityOod
from painvrl.data.splits.rows import (
    OOD_RULES,
    PROTOCOLS,
    Assignment,
    OodRows,
    OodRule,
    Share,
    SplitRule,
    Table,
    among_all,
    split_labels,
    with_iid,
)

PARTS = "train, iid_valid, iid_test, ood_valid, ood_test, ood_NAME_valid or ood_NAME_test"


@PROTOCOLS.register
class GivenSplit(SplitRule):
    """A column of the interactions names their parts, several OOD parts among them."""

    reads_columns: ClassVar[bool] = True

    protocol: Literal["given"] = "given"
    column: str = "part"
    """Its labels: ``train``, ``iid_valid``, ``iid_test``, ``ood_valid``, ``ood_test``; ``ood_NAME_valid`` and
    ``ood_NAME_test`` for further OOD parts.
    """
    parts: dict[str, str] = Field(default_factory=dict)
    """What other labels of the column stand for."""
    ood_candidates: OodCandidates = "all"
    """Rank OOD rows among ``all`` items, or those of all OOD parts (``held_out``), which train and IID parts
    must not have.
    """

    @field_validator("parts")
    @classmethod
    def _stand_for_parts(cls, parts: dict[str, str]) -> dict[str, str]:
        wrong = [part for part in parts.values() if not is_part(part)]
        if wrong:
            raise ValueError(f"labels must stand for {PARTS} (found {', '.join(wrong)})")
        return parts

    def ood_names(self) -> None:
        """Only the data know them."""
        return

    def assign(self, table: Table, seed: int) -> Assignment:
        """Read the parts; nothing is drawn."""
        labels = split_labels(table, self.column)
        found, code = np.unique(labels, return_inverse=True)
        parts = [self.parts.get(label, label) for label in found.tolist()]
        unknown = [label for label, part in zip(found.tolist(), parts, strict=True) if not is_part(part)]
        if unknown:
            raise ConfigError(
                f"labels of the column {self.column} must be {PARTS}, or stand for one in split.parts",
                key="split.parts",
                value=listing([repr(label) for label in unknown], 8),
            )
        rows = {
            part: torch.from_numpy(np.array([each == part for each in parts])[code])
            for part in ("iid_valid", "iid_test", *parts)
        }
        ood = self._ood(table, {part: rows[part] for part in parts})
        tests = torch.stack([rows["iid_test"], *(part.test for part in ood.values())])
        return Assignment(
            iid_valid=rows["iid_valid"],
            iid_test=rows["iid_test"],
            ood=ood,
            fixed_test=tests.any(dim=0),
        )

    def _ood(self, table: Table, rows: dict[str, Tensor]) -> dict[str, OodRows]:
        item = table.interactions.item
        names = sorted({part.rpartition("_")[0] for part in rows if part.startswith("ood")})
        for name in names or ["ood"]:
            for part in (f"{name}_valid", f"{name}_test"):
                if part not in rows:
                    raise ConfigError(
                        f"no label of the column {self.column} stands for {part}; every OOD part needs a "
                        "valid and a test half",
                        key="split.parts",
                        value=", ".join(sorted(rows)),
                    )
        shifted = torch.stack([rows[part] for part in rows if part.startswith("ood")]).any(dim=0)
        candidates = torch.ones(table.interactions.n_items, dtype=torch.bool)
        if self.ood_candidates == "held_out":
            candidates = torch.bincount(item[shifted], minlength=len(candidates)) > 0
            others = int((candidates[item] & ~shifted).sum())
            if others:
                raise ConfigError(
                    "held_out needs OOD parts whose items train and the IID parts do not have",
                    key="split.ood_candidates",
                    value=f"{others} other interactions of such items",
                )
        return {
            name: OodRows(
                valid=rows[f"{name}_valid"],
                test=rows[f"{name}_test"],
                candidates=candidates,
                held_out=self.ood_candidates == "held_out",
            )
            for name in names
        }


def is_part(name: str) -> bool:
    """Whether ``name`` is one of the parts that a label may stand for."""
    scored, _, stage = name.rpartition("_")
    return name == "train" or (stage in {"valid", "test"} and is_scored_name(scored))


@PROTOCOLS.register
class OfficialSplit(SplitRule):
    """The files' own split is the IID one: their valid and test rows are ``iid_valid`` and ``iid_test``.

    OOD rows are taken from the files' train rows by another protocol, whose shares are then of those rows.
    Where it holds items out, the files' valid and test rows of such items belong to them, too: they go where
    the item's other rows go.
    """

    reads_columns: ClassVar[bool] = True

    protocol: Literal["official"] = "official"
    column: str = "part"
    """Column of the interactions with the labels ``train``, ``valid`` and ``test``."""
    ood: Annotated[OodRule, SettingsIn(OOD_RULES)] = PopularityOod()
    """The rule that takes OOD rows from the files' train rows."""

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


@PROTOCOLS.register
class PlantedSplit(SplitRule):
    """The planted data's own OOD rows, halved into valid and test; ranked among all items.

    IID rows are drawn uniformly from the others; a random core of 1 interaction a user and 1 an item stays in
    train.
    """

    protocol: Literal["planted"] = "planted"
    iid_share: Share = 0.2
    """IID rows, as a share of all interactions; halved into valid and test."""

    def assign(self, table: Table, seed: int) -> Assignment:
        """Halve the planted OOD rows, then draw IID rows."""
        ood = table.planted_ood
        if ood is None:
            rule = "the planted protocol needs planted data (data.kind: planted)"
            raise ConfigError(rule, key="split.protocol", value=f"planted on {table.name}")
        valid, test = halve(ood, generator=generator(seed, "split", "ood halves"))
        return with_iid(table, among_all(table, valid, test), self.iid_share, seed)
