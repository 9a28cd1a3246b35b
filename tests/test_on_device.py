"""Steps on the device of this machine against dense formulas in float64: on CUDA where it is there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.model.fit import TrainingConfig, _dense_steps, _lazy_steps, fit
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.model.pairs import pair_scores, sort_pairs, weighted_rows
from painvrl.model.training_data import TrainingData, training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
USERS, ITEMS, FEATURES, PAIRS = 40, 30, 6, 200
needs_cuda = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs CUDA")


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=gen(seed))


@pytest.fixture(scope="module")
def train() -> Interactions:
    cells = torch.randperm(USERS * (ITEMS - 5), generator=gen())[:PAIRS]  # five items are cold
    user, item = cells // (ITEMS - 5), cells % (ITEMS - 5)
    return Interactions(user=user, item=item, n_users=USERS, n_items=ITEMS)


@pytest.fixture(scope="module")
def data(train: Interactions) -> TrainingData:
    return training_data(train, DEVICE)


def test_scores_of_pairs_and_their_gradients_are_those_of_gathered_rows(train: Interactions) -> None:
    pairs = sort_pairs(train.to(DEVICE))
    order = torch.argsort(train.cells())
    user, item, slope = train.user[order], train.item[order], normal(PAIRS, seed=2)
    made = [normal(USERS, 8), normal(ITEMS, 8, seed=1)]
    ours = [rows.to(DEVICE).requires_grad_() for rows in made]
    exact = [rows.double().requires_grad_() for rows in made]
    found = pair_scores(ours[0], ours[1], pairs)
    expected = (exact[0][user] * exact[1][item]).sum(1)
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    slopes = torch.autograd.grad(found, ours, slope.to(DEVICE))
    wanted = torch.autograd.grad(expected, exact, slope.double())
    for one, other in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(one.cpu().double(), other, rtol=1e-5, atol=1e-5)
    sums = weighted_rows(ours[1], pairs.item, slope.to(DEVICE), pairs.user_offsets)
    dense = torch.zeros(USERS, 8, dtype=torch.float64).index_add_(
        0, user, slope.double()[:, None] * exact[1].detach()[item]
    )
    torch.testing.assert_close(sums.detach().cpu().double(), dense, rtol=1e-5, atol=1e-5)


def dense_loss(values: Mapping[str, Tensor], features: Tensor, train: Interactions, l2: float) -> Tensor:
    """The gramian loss of every pair of a user with a warm item, from the table of all scores."""
    degree, user_degree = train.item_degree().double(), train.user_degree().double()
    warm, active, a0 = (degree > 0).double(), (user_degree > 0).double(), 0.1
    users = torch.cat([values["user_id"], values["user_content"]], 1) * active[:, None]
    items = torch.cat([values["item_id"], features @ values["weight"] + values["bias"]], 1)
    scores = users @ items.T
    taken = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    taken[train.user, train.item] = 1.0
    loss = (taken * (1 - scores).square() + a0 * (warm - taken) * scores.square()).sum()
    user_l2, item_l2 = (user_degree + a0 * ITEMS).sqrt(), (degree + a0 * USERS).sqrt() * warm
    tables = (user_l2[:, None] * (values["user_id"].square())).sum()
    tables = tables + (user_l2[:, None] * values["user_content"].square()).sum()
    tables = tables + (item_l2[:, None] * values["item_id"].square()).sum()
    return (loss + l2 * tables) / len(train)


def test_a_training_takes_the_steps_of_adam_on_the_dense_loss(
    train: Interactions, data: TrainingData
) -> None:
    features, l2 = normal(ITEMS, FEATURES, seed=3), 0.3
    config = BackboneConfig(id_dim=3, content_dim=2, l2=l2, projection_l2=0.0)
    model = Backbone(features.to(DEVICE), data, config, gen())
    exact = {name: value.detach().cpu().double().requires_grad_() for name, value in model.named_parameters()}
    training = TrainingConfig(learning_rate=0.01)
    fit(model, training, gen(), evaluate=None, observe=lambda epoch, values: None, epochs=5)
    adam = torch.optim.Adam(exact.values(), lr=0.01)
    for _ in range(5):
        adam.zero_grad()
        dense_loss(exact, features.double(), train, l2).backward()
        adam.step()
    assert set(exact) == {"user_id", "item_id", "user_content", "weight", "bias"}
    for name, value in model.named_parameters():
        assert value.device.type == DEVICE.type
        torch.testing.assert_close(value.detach().cpu().double(), exact[name], rtol=1e-3, atol=1e-4)


def test_a_whole_run_on_the_device_begins_as_on_the_cpu(tiny_config: TrainConfig, tmp_path: Path) -> None:
    class Losses:
        def __init__(self) -> None:
            self.reported: list[float] = []

        def stage(self, name: str) -> None:
            pass

        def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
            self.reported.append(values["loss"])

    begun = []
    for device in (torch.device("cpu"), DEVICE):
        losses = Losses()
        result = run(tiny_config, prepare(tiny_config, cache_dir=tmp_path, device=device), observer=losses)
        assert result.user_vectors.device.type == device.type
        assert all(math.isfinite(value) for value in (*losses.reported, *result.metrics.values()))
        begun.append(losses.reported[0])
    assert begun[1] == pytest.approx(begun[0], rel=1e-3)


@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # torch calls it a prototype
@pytest.mark.parametrize(
    "loss", [GramianLoss(), SampledLoss(batch_size=64, negatives=4)], ids=lambda c: c.kind
)
def test_no_step_waits_for_cuda(data: TrainingData, loss: GramianLoss | SampledLoss) -> None:
    config = BackboneConfig(id_dim=3, content_dim=2, id_dropout=0.5, loss=loss)
    model = Backbone(normal(ITEMS, FEATURES).to(DEVICE), data, config, gen())
    make = _lazy_steps if isinstance(loss, SampledLoss) else _dense_steps
    steps = make(model, TrainingConfig(), gen())
    list(steps.epoch())  # makes the moments, and loads kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = list(steps.epoch())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool(loss.isfinite()) for loss in losses)
