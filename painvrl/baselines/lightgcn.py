"""LightGCN with the layers and the loss of the library PyG: embeddings propagated on a graph.

Shape letters: ``U`` users, ``I`` items.
"""

from __future__ import annotations

import warnings

import torch
from pydantic import Field
from torch import Tensor

from painvrl.baselines.negatives import NegativeSampler
from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.data.interactions import Interactions
from painvrl.evaluation.ranking import Scorer
from painvrl.run.distributions import FloatRange, IntRange


class LightGcnConfig(Settings):
    """Settings of LightGCN."""

    dim: int = Field(default=64, ge=1)
    """Width of the embeddings."""
    layers: int = Field(default=2, ge=1, le=8)
    """Steps of propagation over the graph."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Step size of Adam."""
    l2: float = Field(default=1e-4, ge=0)
    """Weight of the squared embeddings of a batch's users and items."""
    epochs: int = Field(default=30, ge=1)
    """Passes over the train interactions."""
    batch_size: int = Field(default=8192, ge=1)
    """Train interactions in a step."""


def lightgcn(inputs: Inputs) -> Fit[LightGcnConfig]:
    """The mean over layers of embeddings propagated by ``1 / sqrt(d_u d_i)``, trained by BPR.

    LightGCN is by He et al. (SIGIR 2020), BPR by Rendle et al. (UAI 2009). A user or item without a
    training row is an isolated node that keeps its initial embedding; it gets zeros instead.
    """
    train = inputs.prepared.train
    device = inputs.prepared.device
    if device.type == "mps":  # has no products with sparse rows
        device = torch.device("cpu")
    graph = adjacency(train).to(device)
    sampler = NegativeSampler(train)

    def fit(config: LightGcnConfig) -> Scorer:
        with warnings.catch_warnings():
            # Its pooling, which nothing here uses, is scripted when the package is imported.
            warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
            from torch_geometric.nn import LightGCN

        draws = generator(inputs.config.seed, "baseline", "lightgcn")
        n_nodes = train.n_users + train.n_items
        model = LightGCN(n_nodes, config.dim, config.layers, normalize=False)
        # The library initialises from torch's own generator.
        initial = 0.1 * torch.randn(n_nodes, config.dim, generator=draws)
        model.load_state_dict({**model.state_dict(), "embedding.weight": initial})
        model.to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        for _ in range(config.epochs):
            for rows in torch.randperm(len(train), generator=draws).split(config.batch_size):
                negatives = sampler.draw(train.user[rows], draws)
                triple = torch.stack(
                    [train.user[rows], train.item[rows] + train.n_users, negatives + train.n_users]
                )
                touched = triple.unique().to(device)
                user, item, negative = model.get_embedding(graph)[triple.to(device)]
                loss = model.recommendation_loss(
                    (user * item).sum(1), (user * negative).sum(1), node_id=touched, lambda_reg=config.l2
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            joined = torch.cat([train.user_degree(), train.item_degree()]).to(device) > 0
            both = model.get_embedding(graph) * joined[:, None]
        return vectors(inputs, *both.split([train.n_users, train.n_items]))

    return fit


def adjacency(train: Interactions) -> Tensor:
    """``[U + I, U + I]`` sparse rows: ``1 / sqrt(d_u d_i)`` between a user and an item taken."""
    n_nodes = train.n_users + train.n_items
    weight = (train.user_degree()[train.user] * train.item_degree()[train.item]).rsqrt()
    user, item = train.user, train.item + train.n_users
    places = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)  # its layout of rows is a beta of torch's
        both = torch.sparse_coo_tensor(places, weight.repeat(2), (n_nodes, n_nodes), check_invariants=True)
        return both.to_sparse_csr()


LIGHTGCN = Baseline(
    name="lightgcn",
    summary="PyG's LightGCN",
    settings=LightGcnConfig,
    space={
        "dim": IntRange(type="int", low=32, high=128, log=True),
        "layers": IntRange(type="int", low=1, high=4),
        "learning_rate": FloatRange(type="float", low=0.002, high=0.05, log=True),
        "l2": FloatRange(type="float", low=1e-6, high=1e-2, log=True),
        "epochs": IntRange(type="int", low=10, high=60, log=True),
    },
    start=lightgcn,
    modules=("torch_geometric",),
)
