from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from painvrl.baselines.lightgcn import LightGcnConfig, adjacency, lightgcn
from painvrl.baselines.negatives import NegativeSampler
from painvrl.baselines.port import Inputs
from painvrl.core.rng import generator

pytest.importorskip("torch_geometric")


def literal_graph(inputs: Inputs) -> Tensor:
    """``[U + I, U + I]``, cell by cell."""
    taken = inputs.matrix.toarray()
    users, items = taken.shape
    graph = torch.zeros(users + items, users + items)
    for user in range(users):
        for item in range(items):
            if taken[user, item]:
                weight = float(taken[user].sum() * taken[:, item].sum()) ** -0.5
                graph[user, users + item] = graph[users + item, user] = weight
    return graph


def propagated(graph: Tensor, embedding: Tensor, layers: int) -> Tensor:
    """The mean over layers."""
    total = layer = embedding
    for _ in range(layers):
        layer = graph @ layer
        total = total + layer
    return total / (layers + 1)


def test_the_graph_joins_users_and_their_items_by_their_degrees(random_inputs: Any) -> None:
    inputs = random_inputs()
    torch.testing.assert_close(adjacency(inputs.prepared.train).to_dense(), literal_graph(inputs))


@pytest.mark.parametrize("layers", [1, 3])
def test_two_epochs_are_the_literal_steps(random_inputs: Any, table: Any, layers: int) -> None:
    inputs = random_inputs(seed=4)
    train, warm = inputs.prepared.train, 8
    # In batches of half the pairs: four steps, whose gradients must not add up.
    config = LightGcnConfig(
        dim=3, layers=layers, learning_rate=0.1, l2=0.01, epochs=2, batch_size=len(train) // 2 + 1
    )
    draws = generator(4, "baseline", "lightgcn")
    embedding = (0.1 * torch.randn(12 + 10, 3, generator=draws)).requires_grad_()
    graph, sampler = literal_graph(inputs), NegativeSampler(train)
    optimizer = torch.optim.Adam([embedding], lr=0.1)
    steps = 0
    for _ in range(2):
        for rows in torch.randperm(len(train), generator=draws).split(config.batch_size):
            users, items = train.user[rows], train.item[rows] + 12
            negatives = sampler.draw(users, draws) + 12
            out = propagated(graph, embedding, layers)
            gap = (out[users] * (out[items] - out[negatives])).sum(1)
            touched = sorted({*users.tolist(), *items.tolist(), *negatives.tolist()})
            size = embedding[touched].square().sum()
            optimizer.zero_grad()
            (-logsigmoid(gap).mean() + 0.01 * size / len(rows)).backward()
            optimizer.step()
            steps += 1
    assert steps == 4
    out = propagated(graph, embedding, layers).detach()
    expected = out[:12] @ out[12:].T
    expected[:, warm:] = 0.0
    torch.testing.assert_close(table(lightgcn(inputs)(config), inputs), expected, rtol=1e-3, atol=1e-4)


def test_a_user_without_a_training_row_gets_zeros(make_inputs: Any, table: Any) -> None:
    inputs = make_inputs([(0, 0), (0, 1), (2, 1)], 4, torch.eye(3))
    scores = table(lightgcn(inputs)(LightGcnConfig(dim=3, epochs=1)), inputs)
    assert scores.ne(0).any(dim=1).tolist() == [True, False, True, False]
    assert scores.ne(0).any(dim=0).tolist() == [True, True, False]


def test_the_runs_seed_decides_the_result(random_inputs: Any, table: Any) -> None:
    config = LightGcnConfig(dim=3, epochs=2)
    torch.manual_seed(1)
    first = table(lightgcn(random_inputs(seed=1))(config), random_inputs())
    torch.manual_seed(2)
    again = table(lightgcn(random_inputs(seed=1))(config), random_inputs())
    other = table(lightgcn(random_inputs(seed=2))(config), random_inputs())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
