"""LightGCN by the library PyG: embeddings propagated on the graph of interactions.

Shape letters: ``U`` users, ``I`` items, ``N`` training interactions, ``B`` of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.evaluation.ranking import Scorer
from painvrl.rng import generator
from painvrl.settings import Settings
from painvrl.study.space import FloatRange, IntRange

if TYPE_CHECKING:
    from torch_geometric.nn import LightGCN as Model


class LightGcnConfig(Settings):
    """``dim``: of the embeddings. ``l2``: of the embeddings that a batch touches."""

    dim: int = Field(default=64, ge=1)
    layers: int = Field(default=2, ge=1, le=8)
    learning_rate: float = Field(default=0.01, gt=0)
    l2: float = Field(default=1e-4, ge=0)
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=8192, ge=1)


def lightgcn(inputs: Inputs) -> Fit[LightGcnConfig]:
    """BPR on embeddings averaged over the layers; cold items are isolated nodes and get zeros.

    A negative is uniform among the warm items that the user did not take.
    """
    train, device = inputs.prepared.train, inputs.prepared.device
    graph = adjacency(inputs).to(device)
    sampler = NegativeSampler(inputs)

    def fit(config: LightGcnConfig) -> Scorer:
        draws = generator(inputs.config.seed, "baseline", "lightgcn")
        model = initial(inputs, config)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        for _ in range(config.epochs):
            for rows in torch.randperm(len(train), generator=draws).split(config.batch_size):
                user, item = train.user[rows], train.item[rows] + train.n_users
                negative = sampler.draw(train.user[rows], draws) + train.n_users
                nodes = torch.cat([user, item, negative]).unique().to(device)
                user, item, negative = user.to(device), item.to(device), negative.to(device)
                out = model.get_embedding(graph)
                loss = model.recommendation_loss(
                    (out[user] * out[item]).sum(1),
                    (out[user] * out[negative]).sum(1),
                    node_id=nodes,
                    lambda_reg=config.l2,
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            users, items = model.get_embedding(graph).split([train.n_users, train.n_items])
        return vectors(inputs, users, items * inputs.prepared.training.warm[:, None])

    return fit
