"""Losses made of the risks of known environments."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from painvrl.model.fit import FitState, TrainingConfig, fit
from painvrl.model.robust import GroupDRO, KnownEnvironments, RiskExtrapolation, environment_risks
from painvrl.model.ultragcn import Backbone, BackboneConfig

if TYPE_CHECKING:
    from conftest import Toy

LABEL = [0, 1, 0, 2, 1, 0, 2, 2, 1, 0]
"""Of the toy's ten pairs, by user and then by item."""


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(toy: Toy, risks: dict[str, Any], **hyperparameters: object) -> Backbone:
    environments = KnownEnvironments(label=torch.tensor(LABEL), count=3)
    widths = {"id_dim": 2, "content_dim": 3}
    config = BackboneConfig.model_validate(widths | {"risks": risks} | hyperparameters)
    return Backbone(toy.features, toy.data, config, gen(), environments=environments)


def risks_by_hand(model: Backbone, toy: Toy) -> np.ndarray:
    """Pair by pair, with each user's squared scores of all warm items dealt to the user's pairs."""
    users, items = (one.detach().double().numpy() for one in (model.user_vectors(), model.item_vectors()))
    warm = sorted({item for _, item in toy.listed})
    sums, sizes = np.zeros(3), np.zeros(3)
    for label, (user, item) in zip(LABEL, sorted(toy.listed), strict=True):
        score = users[user] @ items[item]
        everything = sum((users[user] @ items[other]) ** 2 for other in warm)
        degree = sum(one == user for one, _ in toy.listed)
        sums[label] += (1 - score) ** 2 - 0.1 * score**2 + 0.1 * everything / degree
        sizes[label] += 1
    found: np.ndarray = sums / sizes
    return found


def loss(model: Backbone) -> float:
    return float((model.full_loss(None) - model.penalty()).detach())


def test_the_risks_are_those_of_the_double_loop_and_their_mean_is_the_whole_loss(toy: Toy) -> None:
    plain, model = build(toy, {"kind": "mean"}), build(toy, {"kind": "vrex"})
    users, items = model.user_vectors(), toy.data.warm_rows(model.item_vectors())
    positive = (users[toy.data.pairs.user] * model.item_vectors()[toy.data.pairs.item]).sum(1)
    assert model.environments is not None
    found = environment_risks(
        positive, users, items, toy.data.pairs.user, toy.data.user_degree, model.environments, 0.1
    )
    np.testing.assert_allclose(found.detach().numpy(), risks_by_hand(model, toy), rtol=1e-5)
    sizes = torch.bincount(torch.tensor(LABEL))
    assert float((sizes * found.detach()).sum() / 10) == pytest.approx(loss(plain), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.7, 30.0])
def test_vrex_is_the_whole_loss_and_the_variance_of_the_risks(toy: Toy, weight: float) -> None:
    plain = build(toy, {"kind": "mean"})
    model = build(toy, {"kind": "vrex", "variance_weight": weight})
    expected = loss(plain) + weight * float(np.var(risks_by_hand(model, toy)))
    assert loss(model) == pytest.approx(expected, rel=1e-5)


def test_without_a_weight_vrex_trains_as_the_mean_does(toy: Toy) -> None:
    ends = []
    for risks in ({"kind": "mean"}, {"kind": "vrex", "variance_weight": 0.0}):
        model = build(toy, risks)
        fit(model, TrainingConfig(), gen(), evaluate=None, observe=lambda *_: None, epochs=5)
        ends.append(model.item_vectors().detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)


def test_equal_risks_have_no_variance() -> None:
    alike = torch.full((3,), 2.0)
    shares = torch.tensor([0.2, 0.3, 0.5])
    assert float(RiskExtrapolation(variance_weight=9.0).combine(alike, shares, alike)) == 2.0


def test_the_weights_of_group_dro_are_exponentials_of_the_risks_summed_over_the_steps(toy: Toy) -> None:
    rule, log_weights = GroupDRO(step=0.3), torch.full((3,), 1 / 3).log()
    seen = [torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 1.0, 1.0])]
    for risks in seen:
        value = rule.combine(risks, torch.zeros(3), log_weights)
    total = [math.exp(0.3 * float(seen[0][e] + seen[1][e])) for e in range(3)]
    weights = [one / sum(total) for one in total]
    assert log_weights.exp().tolist() == pytest.approx(weights, rel=1e-5)
    assert float(value) == pytest.approx(sum(w * float(r) for w, r in zip(weights, seen[1], strict=True)))


def test_without_a_step_group_dro_is_the_mean_over_environments(toy: Toy) -> None:
    model = build(toy, {"kind": "group_dro", "step": 0.0})
    for _ in range(2):
        assert loss(model) == pytest.approx(risks_by_hand(model, toy).mean(), rel=1e-5)


def test_a_large_step_is_the_worst_environment(toy: Toy) -> None:
    model = build(toy, {"kind": "group_dro", "step": 1e4})
    assert loss(model) == pytest.approx(risks_by_hand(model, toy).max(), rel=1e-5)


def test_no_gradient_passes_through_the_weights(toy: Toy) -> None:
    risks = torch.tensor([1.0, 2.0], requires_grad=True)
    log_weights = torch.full((2,), 0.5).log()
    GroupDRO(step=1.0).combine(risks, torch.zeros(2), log_weights).backward()
    assert risks.grad is not None
    assert risks.grad.tolist() == pytest.approx(log_weights.exp().tolist())


def test_group_dro_serves_the_worst_environment_better_than_the_mean_does(toy: Toy) -> None:
    worst = []
    for risks in ({"kind": "mean"}, {"kind": "group_dro", "step": 1.0}):
        model = build(toy, risks, id_dim=1, content_dim=1, l2=0.05)  # too narrow for all three
        fit(model, TrainingConfig(), gen(), evaluate=None, observe=lambda *_: None, epochs=150)
        worst.append(risks_by_hand(model, toy).max())
    assert worst[1] < worst[0] - 0.005


def test_a_training_that_was_killed_goes_on_with_its_weights(toy: Toy) -> None:
    """Epoch 4 after a stop at 2 is epoch 4 of a training that was never stopped."""
    config = TrainingConfig(evaluate_every=2)
    whole, half, rest = (build(toy, {"kind": "group_dro", "step": 1.0}) for _ in range(3))
    kept: list[FitState] = []

    def keep(make: Any) -> None:
        kept.append(copy.deepcopy(make()))

    def quiet(*_: object) -> None:
        pass

    fit(whole, config, gen(), evaluate=None, observe=quiet, epochs=4)
    fit(half, config, gen(), evaluate=None, observe=quiet, epochs=4, save=keep)
    fit(rest, config, gen(1), evaluate=None, observe=quiet, epochs=4, start=lambda: kept[0])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name
    assert whole.log_weights.exp().max() > 0.34


def test_two_environments_weigh_more_apart_with_a_larger_step(toy: Toy) -> None:
    ends = []
    for step in (0.01, 0.1, 1.0):
        model = build(toy, {"kind": "group_dro", "step": step})
        fit(model, TrainingConfig(), gen(), evaluate=None, observe=lambda *_: None, epochs=5)
        ends.append(float(model.log_weights.exp().max() - model.log_weights.exp().min()))
    assert all(a < b for a, b in pairwise(ends))
