"""The backbone's whole-data steps written a second time: loops over users and items in NumPy, no autograd."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.losses import GramianLoss
from painvrl.model.ultragcn import Backbone, BackboneConfig

if TYPE_CHECKING:
    from conftest import Toy

Array = np.ndarray
A0, L2, PROJECTION_L2, RATE = 0.2, 0.3, 0.05, 0.04


class SlowBackbone:
    """Parameters in double precision, their gradients written out, and Adam."""

    def __init__(self, toy: Toy, start: dict[str, Array], gates: Array) -> None:
        self.toy, self.at, self.gates = toy, dict(start), gates
        self.moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in start.items()}
        self.taken = 0

    def gradients(self, kept: Array) -> dict[str, Array]:
        toy, at = self.toy, self.at
        n, listed = len(toy.listed), set(toy.listed)
        degree_u = [sum(u == user for u, _ in listed) for user in range(toy.n_users)]
        degree_i = [sum(i == item for _, i in listed) for item in range(toy.n_items)]
        found = {name: np.zeros_like(value) for name, value in at.items()}
        for user in range(toy.n_users):
            for item in range(toy.n_items):
                if degree_u[user] == 0 or degree_i[item] == 0:
                    continue  # no one and nothing cold enters the risk
                x = self.gates * toy.features[item].double().numpy()
                h, p = x @ at["weight"] + at["bias"], at["user_id"][user]
                c, q = at["user_content"][user], kept[item] * at["item_id"][item]
                s = p @ q + c @ h
                pull = 2 * A0 * s
                if (user, item) in listed:
                    pull += -2 * (1 - s) - 2 * A0 * s
                pull /= n
                found["user_id"][user] += pull * q
                found["item_id"][item] += pull * kept[item] * p
                found["user_content"][user] += pull * h
                found["weight"] += pull * np.outer(x, c)
                found["bias"] += pull * c
        for user in range(toy.n_users):
            weight = math.sqrt(degree_u[user] + A0 * toy.n_items)
            for name in ("user_id", "user_content"):
                found[name][user] += 2 * L2 * weight / n * at[name][user]
        for item in range(toy.n_items):
            weight = math.sqrt(degree_i[item] + A0 * toy.n_users) if degree_i[item] else 0.0
            found["item_id"][item] += 2 * L2 * weight / n * at["item_id"][item]
        found["weight"] += 2 * PROJECTION_L2 * at["weight"]
        return found

    def step(self, kept: Array) -> None:
        self.taken += 1
        for name, gradient in self.gradients(kept).items():
            m, v = self.moments[name]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            self.moments[name] = (m, v)
            change = (m / (1 - 0.9**self.taken)) / (np.sqrt(v / (1 - 0.999**self.taken)) + 1e-8)
            self.at[name] = self.at[name] - RATE * change


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_steps_equal_the_slow_ones(toy: Toy, dropout: float) -> None:
    config = BackboneConfig(
        id_dim=2,
        content_dim=3,
        l2=L2,
        projection_l2=PROJECTION_L2,
        id_dropout=dropout,
        loss=GramianLoss(all_pairs_weight=A0),
    )
    gates = torch.tensor([1.0, 0.3, 0.0, 0.8])
    model = Backbone(toy.features, toy.data, config, torch.Generator().manual_seed(0), gates=gates)
    start = {name: value.detach().double().numpy().copy() for name, value in model.named_parameters()}
    slow = SlowBackbone(toy, start, gates.double().numpy())
    draws = torch.Generator().manual_seed(1)
    for _ in range(3):
        kept = np.ones(toy.n_items)
        if dropout:
            kept = (torch.rand(toy.n_items, generator=draws) >= dropout).double().numpy()
        slow.step(kept)
    fit(
        model,
        TrainingConfig(learning_rate=RATE),
        torch.Generator().manual_seed(1),
        evaluate=None,
        observe=lambda epoch, values: None,
        epochs=3,
    )
    for name, value in model.named_parameters():
        moved = np.abs(slow.at[name] - start[name]).max()
        assert moved > RATE
        np.testing.assert_allclose(value.detach().numpy(), slow.at[name], rtol=0, atol=2e-6, err_msg=name)
