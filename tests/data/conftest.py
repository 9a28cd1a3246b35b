"""Small data sets for the laws of the data layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from painvrl.data.dataset import Dataset, Modality, PlantedTruth
from painvrl.data.interactions import Interactions

MakeDataset = Callable[..., Dataset]


def _make_dataset(
    *,
    n_users: int = 60,
    n_items: int = 90,
    n_rows: int = 1500,
    seed: int = 0,
    planted_share: float | None = None,
) -> Dataset:
    """Distinct pairs with a long tail of items, in random order."""
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
        user_ids=np.arange(n_users) + 100,
        item_ids=np.array([f"i{index}" for index in range(n_items)]),
        titles=tuple(f"title {index}" for index in range(n_items)),
        modalities={
            "m": Modality(
                values=torch.from_numpy(rng.standard_normal((n_items, 3)).astype(np.float32)),
                present=torch.ones(n_items, dtype=torch.bool),
            )
        },
        truth=truth,
        fingerprint=f"toy-{seed}",
    )


@pytest.fixture
def make_dataset() -> MakeDataset:
    return _make_dataset
