from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from painvrl.invariance.risks import empirical_risk, freeze
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
    warm = world.data.warm_items
    items = torch.zeros(8, 5, dtype=torch.float64)
    items[warm] = torch.cat([world.item_id, content], dim=1)[warm]
    positive = torch.stack([world.frozen.users[u] @ items[i] for u, i in world.listed])
    whole = gramian_loss(positive, world.frozen.users, items[warm], A0)
    total = (sizes * torch.stack(slow)).sum() / world.n_pairs
    torch.testing.assert_close(total, whole, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(empirical_risk(world.scored(some_gates()), world.frozen), whole)


def test_cold_items_and_unknown_users_are_left_out(world: World) -> None:
    user_id = torch.ones(7, 2, dtype=torch.float64, requires_grad=True)
    item_id = torch.ones(8, 2, dtype=torch.float64, requires_grad=True)
    user_content = torch.ones(7, 3, dtype=torch.float64, requires_grad=True)
    frozen = freeze(world.data, world.features, user_id, item_id, user_content, A0)
    for tensor in (frozen.users, frozen.user_content, frozen.id_scores, frozen.id_pull):
        assert not tensor.requires_grad
    warm = sorted({item for _, item in world.listed})
    assert 3 not in warm
    assert torch.equal(frozen.features, world.features[warm])
    assert frozen.id_pull.shape == (len(warm), 3)
    assert frozen.users[6].tolist() == [0.0] * 5  # the user without a pair
    assert frozen.users[:6].tolist() == [[1.0] * 5] * 6
    assert frozen.id_scores.tolist() == [2.0] * world.n_pairs


def test_scores_are_the_id_part_plus_the_content_part(world: World) -> None:
    scored = world.scored(some_gates())
    content = (world.features * some_gates()) @ world.weight + world.bias
    for place, (user, item) in enumerate(world.listed):
        expected = world.frozen.users[user, :2] @ world.item_id[item]
        expected = expected + world.frozen.user_content[user] @ content[item]
        assert float(scored.scores[place]) == pytest.approx(float(expected), abs=1e-9)
    torch.testing.assert_close(scored.content, content[world.data.warm_items])
