"""What a training holds for a user, an item and an interaction: ``python -m benchmarks.held_bytes``.

Counts the bytes of all tensors that live at once, which is what a device must have; no clock and no allocator
is in it. Four trainings on random data differ in one size each. What a stage grows by says what other sizes
take, printed for those of ``--users``, ``--items`` and ``--interactions``.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.common import config, print_table
from benchmarks.scaling import Point
from benchmarks.sizes import random_dataset
from painvrl.data.splits import make_split
from painvrl.model import training_data
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare_split

CPU = torch.device("cpu")
BASE = Point(users=8000, items=10_000, interactions=160_000, features=64)
BLOCK_USERS = 2000
SETTINGS = {
    "data": {"kind": "planted"},  # stands for data that are random
    "split": {"protocol": "popularity", "ood_share": 0.001, "iid_share": 0.001},
    "training": {"max_epochs": 2, "evaluate_every": 1},
    "environments": {"assignment": "random"},
    "mask": {"steps": 2},
    "evaluation": {"block_cells": 1},
    "rounds": 1,
}


class Living(TorchDispatchMode):
    """The bytes of the tensors that live, and the most since the last look."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, out)):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()  # noqa: SLF001
        if place in self._known:
            return
        self._known.add(place)
        weakref.finalize(storage, self._gone, place, size)
        self._now += size
        self.most = max(self.most, self._now)

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size

    def look(self) -> int:
        """The most bytes that lived at once since the last look."""
        most, self.most = self.most, self._now
        return most


@dataclass
class Stages:
    """The most bytes of every stage, by its name."""

    living: Living
    found: dict[str, int] = field(default_factory=dict)
    _name: str = "index"

    def stage(self, name: str) -> None:
        """A stage begins, and the one before has ended."""
        self.found[self._name] = self.living.look()
        self._name = name

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Nothing is done with it."""


def held(point: Point) -> dict[str, int]:
    """Bytes by stage of one training; what the data set and its split hold on the host is left out."""
    settings = config(SETTINGS)
    dataset = random_dataset(point.users, point.items, point.interactions, point.features)
    split = make_split(dataset, settings.split, seed=0)
    with Living() as living:
        stages = Stages(living)
        prepared = prepare_split(settings, dataset, split, split.train, CPU)
        run(settings, prepared, observer=stages)
        stages.stage("")
    rows = (dataset.interactions, split.train)
    host = sum(each.user.nbytes + each.item.nbytes for each in rows)
    host += sum(modality.values.nbytes for modality in dataset.modalities.values())
    return {name: size - host for name, size in stages.found.items()}


def main() -> None:
    """Count, and say what the sizes asked for come to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=float, default=1e6)
    parser.add_argument("--items", type=float, default=1e6)
    parser.add_argument("--interactions", type=float, default=2e7)
    asked = parser.parse_args()
    training_data.BLOCK_USERS = BLOCK_USERS  # as if there were many users
    base = held(BASE)
    grown = [
        {name: size - base[name] for name, size in held(replace(BASE, **{of: 2 * getattr(BASE, of)})).items()}
        for of in ("users", "items", "interactions")
    ]
    rows = []
    for name in base:
        each = [
            of_stage[name] / count
            for of_stage, count in zip(grown, (BASE.users, BASE.items, BASE.interactions), strict=True)
        ]
        wanted = (asked.users, asked.items, asked.interactions)
        total = sum(size * count for size, count in zip(each, wanted, strict=True))
        rows.append([name, *(f"{size:,.0f}" for size in each), f"{total / 2**30:.1f}"])
    size = f"{asked.users:,.0f} users x {asked.items:,.0f} items x {asked.interactions:,.0f} interactions"
    print_table(
        f"Bytes that tensors hold, with {BASE.features} features",
        ["stage", "a user", "an item", "an interaction", f"GiB, {size}"],
        rows,
    )


if __name__ == "__main__":
    main()
