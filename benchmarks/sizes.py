"""The two sizes that the reference was measured at, as planted data, and random data of any size.

The interactions that a size is named after are those of its ``train`` part.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import torch

from benchmarks.common import CACHE, config, merged
from painvrl.core.rng import derive_seed
from painvrl.data import dataset as dataset_types
from painvrl.data.dataset import Dataset, Modality
from painvrl.data.interactions import Interactions
from painvrl.data.sources import planted
from painvrl.data.sources.texts import as_objects
from painvrl.data.splits import make_split
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared, prepare_split

SIZES: dict[str, dict[str, Any]] = {
    # 671 users, 9,066 items, 80k training interactions, 384 features.
    "small": {
        "n_users": 671,
        "n_items": 9066,
        "n_invariant": 128,
        "n_spurious": 128,
        "n_noise": 128,
        "interactions_per_environment": 86,
    },
    # 55,485 users, 5,986 items, 1.0M training interactions, 2,276 features.
    "large": {
        "n_users": 55485,
        "n_items": 5986,
        "n_invariant": 759,
        "n_spurious": 759,
        "n_noise": 758,
        "interactions_per_environment": 13,
    },
}
# What a step of 512 of the reference's code took at these sizes, in milliseconds.
REFERENCE_STEP_MS = {"small": 34.0, "large": 135.0}


def size_config(size: str, *changes: dict[str, Any]) -> TrainConfig:
    """The configuration of a size, with ``changes`` laid over it."""
    base = {
        "data": {"kind": "planted", "seed": 0, **SIZES[size]},
        "split": {"protocol": "planted", "iid_share": 0.2},
    }
    for change in changes:
        base = merged(base, change)
    return config(base)


def build(size: str, *changes: dict[str, Any]) -> Prepared:
    """The size's data, split and indexed on the CPU; the drawn data are kept in the cache."""
    settings = size_config(size, *changes)
    dataset = _drawn(settings.data)
    split = make_split(dataset, settings.split, seed=derive_seed(settings.seed, "split"))
    return prepare_split(settings, dataset, split, split.train, torch.device("cpu"))


def _drawn(data: planted.PlantedConfig) -> Dataset:
    """Draw the data set, or read what was drawn before with the same settings by the same code."""
    text = data.model_dump_json() + inspect.getsource(planted) + inspect.getsource(dataset_types)
    path = CACHE / "benchmarks" / f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.pt"
    if path.exists():
        dataset: Dataset = torch.load(path, weights_only=False)  # written below, by this user
        return dataset
    dataset = planted.read_planted(data, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dataset, path)
    return dataset


def random_dataset(n_users: int, n_items: int, n_interactions: int, n_features: int) -> Dataset:
    """Interactions drawn uniformly without repetition, at most half of all pairs, and normal features.

    Nothing can be learnt from them; they are for timings alone.
    """
    generator = torch.Generator().manual_seed(0)
    # A surplus makes up for the repetitions; a random part of what is left has the wanted size.
    share = n_interactions / (n_users * n_items)
    surplus = int(n_interactions * (1 + 2 * share) * 1.05) + 1000
    cells = torch.randint(n_users * n_items, (surplus,), generator=generator).unique()
    cells = cells[torch.randperm(len(cells), generator=generator)[:n_interactions]]
    return Dataset(
        name="random",
        interactions=Interactions(
            user=cells // n_items, item=cells % n_items, n_users=n_users, n_items=n_items
        ),
        user_ids=as_objects([str(index) for index in range(n_users)]),
        item_ids=as_objects([str(index) for index in range(n_items)]),
        titles=tuple(f"item {index}" for index in range(n_items)),
        modalities={
            "random": Modality(
                values=torch.randn(n_items, n_features, generator=generator),
                present=torch.ones(n_items, dtype=torch.bool),
            )
        },
        fingerprint=f"random {n_users} {n_items} {n_interactions} {n_features}",
    )
