from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from painvrl.invariance.risks import empirical_risk, freeze, group_gradients, group_risks, score
from painvrl.model.losses import gramian_loss

if TYPE_CHECKING:
    from conftest import World

A0 = 0.3
GROUPS = (1, 2, 5)


def some_gates() -> torch.Tensor:
    return torch.tensor([1.0, 0.0, 0.3, 0.7, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("n_groups", GROUPS)
def test_group_risks_equal_the_loop_over_pairs(world: World, n_groups: int) -> None:
    label, gates = world.labels(n_groups), some_gates()
    risks = group_risks(world.scored(gates), world.frozen, world.groups(label, n_groups))
    slow = world.slow_risks(label.tolist(), n_groups, gates, world.weight, world.bias)
    torch.testing.assert_close(risks, torch.stack(slow), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n_groups", GROUPS)
def test_group_risks_add_up_to_the_whole_loss(world: World, n_groups: int) -> None:
    label, scored = world.labels(n_groups, seed=3), world.scored(some_gates())
    groups = world.groups(label, n_groups)
    sizes = torch.tensor([int((label == group).sum()) for group in range(n_groups)])
    total = (sizes * group_risks(scored, world.frozen, groups)).sum()
    # The same scores through the backbone's own loss, which has no groups.
    content = (world.features * some_gates()) @ world.weight + world.bias
    items = torch.cat([world.frozen.item_id, content], dim=1)
    positive = torch.stack([world.frozen.users[u] @ items[i] for u, i in world.listed])
    whole = gramian_loss(positive, world.frozen.users, items, world.data.warm, A0)
    torch.testing.assert_close(total / world.n_pairs, whole, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(empirical_risk(scored, world.frozen), whole)


@pytest.mark.parametrize("n_groups", GROUPS)
def test_group_gradients_equal_autograd_of_the_loop(world: World, n_groups: int) -> None:
    label, gates = world.labels(n_groups, seed=1), some_gates()
    gradients = group_gradients(world.scored(gates), world.frozen, world.groups(label, n_groups))
    weight = world.weight.clone().requires_grad_()
    slow = world.slow_risks(label.tolist(), n_groups, gates, weight, world.bias)
    for group, risk in enumerate(slow):
        (expected,) = torch.autograd.grad(risk, weight, retain_graph=True)
        torch.testing.assert_close(gradients[group], expected, rtol=1e-6, atol=1e-8)


def test_group_gradients_are_differentiable_in_the_gates(world: World) -> None:
    # Through the factor in front and through the scores: against autograd twice over the loop.
    label, n_groups = world.labels(3, seed=2), 3
    groups = world.groups(label, n_groups)
    probe = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gates = some_gates().requires_grad_()
    fast = group_gradients(world.scored(gates), world.frozen, groups)
    (found,) = torch.autograd.grad((fast * probe).sum(), gates)
    weight = world.weight.clone().requires_grad_()
    slow = world.slow_risks(label.tolist(), n_groups, gates, weight, world.bias)
    total = torch.zeros((), dtype=torch.float64)
    for group, risk in enumerate(slow):
        (gradient,) = torch.autograd.grad(risk, weight, create_graph=True)
        total = total + (gradient * probe[group]).sum()
    (expected,) = torch.autograd.grad(total, gates)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_group_gradients_add_up_to_the_gradient_of_the_empirical_risk(world: World) -> None:
    label, gates = world.labels(4, seed=5), some_gates()
    weight = world.weight.clone().requires_grad_()
    risk = empirical_risk(world.scored(gates, weight), world.frozen)
    (whole,) = torch.autograd.grad(risk, weight)
    groups = world.groups(label, 4)
    parts = group_gradients(world.scored(gates), world.frozen, groups)
    sizes = torch.bincount(label, minlength=4)
    torch.testing.assert_close(
        (sizes[:, None, None] * parts).sum(dim=0) / world.n_pairs, whole, rtol=1e-6, atol=1e-8
    )


def test_relabelling_permutes_risks_and_gradients(world: World) -> None:
    label, gates, order = world.labels(4, seed=6), some_gates(), torch.tensor([2, 0, 3, 1])
    scored = world.scored(gates)
    groups, renamed = world.groups(label, 4), world.groups(order[label], 4)
    torch.testing.assert_close(
        group_risks(scored, world.frozen, renamed)[order], group_risks(scored, world.frozen, groups)
    )
    torch.testing.assert_close(
        group_gradients(scored, world.frozen, renamed)[order],
        group_gradients(scored, world.frozen, groups),
    )


def test_an_empty_group_has_risk_and_gradient_zero(world: World) -> None:
    label, gates = world.labels(2), some_gates()
    groups = world.groups(2 * label, 4)  # groups 1 and 3 are empty
    scored = world.scored(gates)
    assert group_risks(scored, world.frozen, groups)[[1, 3]].tolist() == [0.0, 0.0]
    gradients = group_gradients(scored, world.frozen, groups)
    assert float(gradients[[1, 3]].abs().max()) == 0.0
    assert float(gradients[[0, 2]].abs().min(dim=0).values.max()) > 0


def test_the_features_of_cold_items_enter_no_risk(world: World) -> None:
    label, gates = world.labels(2), some_gates()
    groups = world.groups(label, 2)
    features = world.features.clone()
    features[3] += 5.0
    frozen = freeze(
        world.data,
        features,
        world.frozen.user_id,
        world.frozen.item_id,
        world.frozen.user_content,
        A0,
    )
    changed = score(gates, world.weight, world.bias, frozen)
    before = world.scored(gates)
    assert torch.equal(group_risks(changed, frozen, groups), group_risks(before, world.frozen, groups))
    torch.testing.assert_close(
        group_gradients(changed, frozen, groups), group_gradients(before, world.frozen, groups)
    )


def test_freezing_detaches_and_hides_the_id_part_of_cold_items(world: World) -> None:
    user_id = torch.ones(7, 2, dtype=torch.float64, requires_grad=True)
    item_id = torch.ones(8, 2, dtype=torch.float64, requires_grad=True)
    frozen = freeze(world.data, world.features, user_id, item_id, world.frozen.user_content, A0)
    assert not frozen.user_id.requires_grad
    assert not frozen.item_id.requires_grad
    assert not frozen.id_scores.requires_grad
    assert frozen.item_id[3].tolist() == [0.0, 0.0]
    assert frozen.id_scores.tolist() == [2.0] * world.n_pairs
    assert frozen.users.shape == (7, 5)


def test_scores_are_the_id_part_plus_the_content_part(world: World) -> None:
    scored = world.scored(some_gates())
    content = (world.features * some_gates()) @ world.weight + world.bias
    for place, (user, item) in enumerate(world.listed):
        expected = world.frozen.user_id[user] @ world.frozen.item_id[item]
        expected = expected + world.frozen.user_content[user] @ content[item]
        assert float(scored.scores[place]) == pytest.approx(float(expected), abs=1e-9)
    assert scored.content[3].tolist() == [0.0] * 3
    items = torch.cat([world.frozen.item_id, content], dim=1)
    for item in set(range(8)) - {item for _, item in world.listed}:
        items[item] = 0.0
    torch.testing.assert_close(scored.gram, items.T @ items)
