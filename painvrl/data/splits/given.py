"""``given``: a column names the part of every interaction."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from painvrl.core.errors import ConfigError, listing
from painvrl.data.parts import is_scored_name
from painvrl.data.splits.held_out import OodCandidates
from painvrl.data.splits.rows import PROTOCOLS, Assignment, OodRows, SplitRule, Table, split_labels

PARTS = "train, iid_valid, iid_test, ood_valid, ood_test, ood_NAME_valid or ood_NAME_test"


@PROTOCOLS.register
class GivenSplit(SplitRule):
    """A column of the interactions names their parts, several OOD parts among them.

    ``column``: its labels are ``train``, ``iid_valid``, ``iid_test``, ``ood_valid``, ``ood_test``, and
    ``ood_NAME_valid`` with ``ood_NAME_test`` for further OOD parts. ``parts``: what other labels stand
    for. ``ood_candidates``: rank OOD rows among all items, or among the items of all OOD parts; the
    latter only where train and the IID parts have none of those.
    """

    reads_columns: ClassVar[bool] = True

    protocol: Literal["given"] = "given"
    column: str = "part"
    parts: dict[str, str] = Field(default_factory=dict)
    ood_candidates: OodCandidates = "all"

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
