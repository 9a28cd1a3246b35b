"""Small data sets for the laws of the data layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from painvrl.data.dataset import Columns, Dataset, Modality, PlantedTruth
from painvrl.data.interactions import Interactions
from painvrl.data.sources.texts import as_objects

MakeDataset = Callable[..., Dataset]


def _make_dataset(
    *,
    n_users: int = 60,
    n_items: int = 90,
    n_rows: int = 1500,
    seed: int = 0,
    planted_share: float | None = None,
) -> Dataset:
    """Distinct pairs with a long tail of items, in random order, and a column of every kind.

    Times are 50 days. The columns ``part`` and ``official`` name parts at random. A few items have no year.
    """
    rng = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, n_items + 1)
    pairs = rng.choice(
        n_users * n_items, size=n_rows, replace=False, p=np.tile(weight / weight.sum() / n_users, n_users)
    )
    truth = None
    if planted_share is not None:
        part = torch.from_numpy((rng.random(n_rows) < planted_share).astype(np.int64))
        truth = PlantedTruth(
            environment=torch.where(part == 1, -1, 0),
            part=part,
            mask=torch.ones(3),
            kind=("invariant",) * 3,
            bayes_accuracy=1.0,
        )
    return Dataset(
        name="toy",
        interactions=Interactions(
            user=torch.from_numpy(pairs // n_items),
            item=torch.from_numpy(pairs % n_items),
            n_users=n_users,
            n_items=n_items,
        ),
        user_ids=as_objects([str(index + 100) for index in range(n_users)]),
        item_ids=as_objects([f"i{index}" for index in range(n_items)]),
        titles=tuple(f"title {index}" for index in range(n_items)),
        modalities={
            "m": Modality(
                values=torch.from_numpy(rng.standard_normal((n_items, 3)).astype(np.float32)),
                present=torch.ones(n_items, dtype=torch.bool),
            )
        },
        columns=_columns(np.random.default_rng([seed, 1]), n_users, n_items, n_rows),
        truth=truth,
        fingerprint=f"toy-{seed}",
    )


def _columns(rng: np.random.Generator, n_users: int, n_items: int, n_rows: int) -> Columns:
    parts = ["train"] * 6 + [
        "iid_valid",
        "iid_test",
        "ood_valid",
        "ood_test",
        "ood_far_valid",
        "ood_far_test",
    ]
    columns = Columns(
        time=torch.from_numpy(rng.integers(0, 50, n_rows) * 86400.0),
        interaction={
            "part": rng.choice(parts, n_rows),
            "official": rng.choice(["train"] * 7 + ["valid", "test", "test"], n_rows),
        },
        item={"genre": np.array(list("abcdefghij"))[rng.integers(0, 10, n_items)]},
        user={"city": np.array(["", *"ABCDEFGH"])[rng.integers(0, 9, n_users)]},
    )
    year = np.array(["", *map(str, range(1950, 2000, 2))])[rng.integers(0, 26, n_items)]
    return replace(columns, item={**columns.item, "year": year})


@pytest.fixture
def make_dataset() -> MakeDataset:
    return _make_dataset
