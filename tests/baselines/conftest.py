"""Inputs of a few users and items, and the table of scores that a scorer stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from painvrl.baselines.port import Inputs
from painvrl.data.interactions import Interactions
from painvrl.evaluation.ranking import Scorer
from painvrl.model.training_data import training_data
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared

Listed = Sequence[tuple[int, int]]
MakeInputs = Callable[..., Inputs]
Table = Callable[[Scorer, Inputs], Tensor]


@pytest.fixture
def make_inputs(tiny_config: TrainConfig, tiny_prepared: Prepared) -> MakeInputs:
    """Inputs whose training part is ``pairs`` and whose features are ``features`` ``[I, F]``."""

    def make(pairs: Listed, n_users: int, features: Tensor, seed: int = 0) -> Inputs:
        columns = torch.tensor(pairs)
        train = Interactions(
            user=columns[:, 0], item=columns[:, 1], n_users=n_users, n_items=features.shape[0]
        )
        prepared = replace(
            tiny_prepared,
            train=train,
            features=features,
            training=training_data(train, torch.device("cpu")),
        )
        return Inputs(tiny_config.model_copy(update={"seed": seed}), prepared)

    return make


@pytest.fixture
def random_inputs(make_inputs: MakeInputs) -> Callable[..., Inputs]:
    """Inputs of 12 users and 10 items, of which the last two are cold."""

    def make(width: int = 4, seed: int = 0) -> Inputs:
        draws = torch.Generator().manual_seed(3)
        taken = torch.rand(12, 8, generator=draws) < 0.4
        taken[0, :] = True  # every item but the last two is warm, and every user has an item
        taken[:, 0] = True
        features = torch.randn(10, width, generator=draws)
        pairs = [(int(u), int(i)) for u, i in taken.nonzero()]
        return make_inputs(pairs, 12, features, seed)

    return make


@pytest.fixture(scope="session")
def table() -> Table:
    """``[U, I]``: every score, asked for in two blocks."""

    def scores(scorer: Scorer, inputs: Inputs) -> Tensor:
        train = inputs.prepared.train
        ask = scorer.among(torch.arange(train.n_items))
        users = torch.arange(train.n_users)
        return torch.cat([ask(users[:2]), ask(users[2:])])

    return scores
