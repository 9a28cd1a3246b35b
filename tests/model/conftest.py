"""A small training part with a cold item, a user without pairs, and features."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.model.training_data import TrainingData, training_data


@dataclass(frozen=True, kw_only=True)
class Toy:
    """5 users (the last without a pair), 6 items (item 2 is cold), 4 features."""

    listed: tuple[tuple[int, int], ...]
    interactions: Interactions
    data: TrainingData
    features: Tensor
    n_users: int = 5
    n_items: int = 6
    cold: int = 2
    silent: int = 4  # the user without a pair


@pytest.fixture
def toy() -> Toy:
    listed = ((3, 5), (0, 0), (0, 1), (1, 1), (1, 3), (1, 4), (2, 0), (2, 5), (3, 3), (0, 4))
    columns = torch.tensor(listed)
    interactions = Interactions(user=columns[:, 0], item=columns[:, 1], n_users=5, n_items=6)
    return Toy(
        listed=listed,
        interactions=interactions,
        data=training_data(interactions, torch.device("cpu")),
        features=torch.randn(6, 4, generator=torch.Generator().manual_seed(4)),
    )
