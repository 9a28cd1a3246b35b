from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from painvrl.invariance.risks import empirical_risk, freeze, score
from painvrl.model.losses import gramian_loss

if TYPE_CHECKING:
    from conftest import World

A0 = 0.3


def some_gates() -> torch.Tensor:
    return torch.tensor([1.0, 0.0, 0.3, 0.7, 0.5], dtype=torch.float64)


def test_the_risk_equals_the_loop_over_pairs(world: World) -> None:
    gates = some_gates()
    (slow,) = world.slow_risks([0] * world.n_pairs, 1, gates, world.weight, world.bias)
    torch.testing.assert_close(empirical_risk(world.scored(gates), world.frozen), slow, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n_groups", [1, 2, 5])
def test_the_loops_over_groups_add_up_to_the_whole_loss(world: World, n_groups: int) -> None:
    # What `slow_risks` calls a group's risk is the method's: weighed with its size it adds up to the
    # backbone's own loss, which has no groups.
    label = world.labels(n_groups, seed=3)
    sizes = torch.bincount(label, minlength=n_groups)
    slow = world.slow_risks(label.tolist(), n_groups, some_gates(), world.weight, world.bias)
    content = (world.features * some_gates()) @ world.weight + world.bias
    items = torch.cat([world.frozen.item_id, content], dim=1)
    positive = torch.stack([world.frozen.users[u] @ items[i] for u, i in world.listed])
    whole = gramian_loss(positive, world.frozen.users, items, world.data.warm, A0)
    total = (sizes * torch.stack(slow)).sum() / world.n_pairs
    torch.testing.assert_close(total, whole, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(empirical_risk(world.scored(some_gates()), world.frozen), whole)


def test_the_features_of_cold_items_enter_no_risk(world: World) -> None:
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
    changed = score(some_gates(), world.weight, world.bias, frozen)
    assert torch.equal(
        empirical_risk(changed, frozen), empirical_risk(world.scored(some_gates()), world.frozen)
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
