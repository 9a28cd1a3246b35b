"""Folded-in users stand where the training's own loss has its minimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.model import folding
from painvrl.model.folding import Support, fold_in, plan_support
from painvrl.model.losses import GramianLoss
from painvrl.model.ultragcn import Backbone, BackboneConfig

if TYPE_CHECKING:
    from conftest import Toy

CPU = torch.device("cpu")
A0, L2 = 0.3, 0.2
SUPPORTED = [1, 3]


def gen(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def support_of(
    toy: Toy, users: list[int] = SUPPORTED, more: tuple[tuple[int, int], ...] = ()
) -> Interactions:
    rows = torch.tensor([pair for pair in toy.listed if pair[0] in users] + list(more))
    return Interactions(user=rows[:, 0], item=rows[:, 1], n_users=toy.n_users, n_items=toy.n_items)


def plan(toy: Toy, support: Interactions) -> Support:
    return plan_support(support, toy.data.warm > 0, CPU)


def folded(toy: Toy, support: Interactions, users: Tensor, items: Tensor, **hyperparameters: float) -> Tensor:
    known = {"all_pairs_weight": A0, "l2": L2, "base_width": items.shape[1]} | hyperparameters
    return fold_in(users, items, toy.data.warm_rows(items), plan(toy, support), **known)  # type: ignore[arg-type]


def gradient_rows(model: Backbone) -> Tensor:
    """``[U, d + k]``: the whole loss's gradient on the users' rows."""
    model.full_loss(None).backward()
    grads = [parameter.grad for parameter in (model.user_id, model.user_content)]
    return torch.cat([torch.zeros_like(model.user_id) if grads[0] is None else grads[0], grads[1]], dim=1)


def set_rows(model: Backbone, vectors: Tensor) -> None:
    with torch.no_grad():
        model.user_id[SUPPORTED] = vectors[SUPPORTED, : model.user_id.shape[1]]
        model.user_content[SUPPORTED] = vectors[SUPPORTED, model.user_id.shape[1] :]


def config(**hyperparameters: object) -> BackboneConfig:
    loss = GramianLoss(all_pairs_weight=A0)
    return BackboneConfig.model_validate(
        {"id_dim": 2, "content_dim": 3, "l2": L2, "loss": loss} | hyperparameters
    )


def test_the_whole_loss_has_no_gradient_at_a_folded_in_user(toy: Toy) -> None:
    model = Backbone(toy.features, toy.data, config(), gen(0))
    vectors = folded(toy, support_of(toy), model.user_vectors().detach(), model.item_vectors().detach())
    before = gradient_rows(model)
    model.zero_grad()
    set_rows(model, vectors)
    after = gradient_rows(model)
    assert (before[SUPPORTED].abs().amax(dim=1) > 1e-3).all()
    assert after[SUPPORTED].abs().max() < 1e-6
    assert (after[[0, 2]].abs().amax(dim=1) > 1e-3).all()


def test_a_branch_is_fitted_to_what_the_folded_in_base_leaves(toy: Toy) -> None:
    base_items = torch.randn(toy.n_items, 4, generator=gen(9))
    base_users = torch.randn(toy.n_users, 4, generator=gen(8))
    plain = Backbone(toy.features, toy.data, config(id_dim=0), gen(1), base=(base_users, base_items))
    vectors = folded(
        toy, support_of(toy), plain.user_vectors().detach(), plain.item_vectors().detach(), base_width=4
    )
    # The base's own part is what it is without a branch.
    alone = folded(toy, support_of(toy), base_users, base_items)
    torch.testing.assert_close(vectors[SUPPORTED, :4], alone[SUPPORTED])
    model = Backbone(
        toy.features, toy.data, config(id_dim=0), gen(1), base=(vectors[:, :4].contiguous(), base_items)
    )
    set_rows(model, vectors[:, 4:])
    assert gradient_rows(model)[SUPPORTED].abs().max() < 1e-6


@pytest.mark.parametrize("a0", [0.1, 2.0])
def test_a_cold_support_item_counts_as_a_positive_but_not_among_all_pairs(toy: Toy, a0: float) -> None:
    items = torch.randn(toy.n_items, 5, generator=gen(3), dtype=torch.float64)
    support = support_of(toy, [1], more=((1, toy.cold),))
    users = torch.zeros(toy.n_users, 5, dtype=torch.float64)
    found = folded(toy, support, users, items, all_pairs_weight=a0)[1].numpy()
    rows = items.numpy()
    taken = support.item.tolist()
    warm = [item for item in range(toy.n_items) if item != toy.cold]
    system = L2 * np.sqrt(len(taken) + a0 * toy.n_items) * np.eye(5)
    for item in taken:
        system += (1 - a0 * (item != toy.cold)) * np.outer(rows[item], rows[item])
    for item in warm:
        system += a0 * np.outer(rows[item], rows[item])
    expected = np.linalg.solve(system, rows[taken].sum(axis=0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_users_without_support_stay_as_they_are_and_nothing_is_changed_in_place(toy: Toy) -> None:
    items = torch.randn(toy.n_items, 5, generator=gen(3))
    users = torch.randn(toy.n_users, 5, generator=gen(4))
    kept = users.clone()
    vectors = folded(toy, support_of(toy), users, items)
    assert torch.equal(users, kept)
    assert torch.equal(vectors[[0, 2, 4]], users[[0, 2, 4]])
    assert not torch.equal(vectors[SUPPORTED], users[SUPPORTED])


@pytest.mark.parametrize(("users", "pairs"), [(1, 2**15), (2, 2**15), (256, 1), (256, 4)])
def test_the_size_of_a_block_does_not_matter(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, users: int, pairs: int
) -> None:
    items = torch.randn(toy.n_items, 5, generator=gen(3), dtype=torch.float64)
    start = torch.zeros(toy.n_users, 5, dtype=torch.float64)
    everybody = support_of(toy, [0, 1, 2, 3])
    expected = folded(toy, everybody, start, items, base_width=2)
    monkeypatch.setattr(folding, "BLOCK_USERS", users)
    monkeypatch.setattr(folding, "BLOCK_PAIRS", pairs)
    blocks = plan(toy, everybody).blocks
    assert all(len(block.users) <= users for block in blocks)
    assert all(len(block.users) == 1 or block.items.numel() <= pairs for block in blocks)
    assert sorted(torch.cat([block.users for block in blocks]).tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(folded(toy, everybody, start, items, base_width=2), expected)


def test_the_order_of_the_support_does_not_matter(toy: Toy) -> None:
    items = torch.randn(toy.n_items, 5, generator=gen(3), dtype=torch.float64)
    start = torch.zeros(toy.n_users, 5, dtype=torch.float64)
    support = support_of(toy)
    turned = support.select(torch.arange(len(support)).flip(0))
    torch.testing.assert_close(folded(toy, turned, start, items), folded(toy, support, start, items))


def test_folding_in_reads_nothing_back_from_the_device(toy: Toy) -> None:
    support = plan_support(support_of(toy), toy.data.warm > 0, torch.device("meta"))
    users, items = torch.zeros(toy.n_users, 5, device="meta"), torch.zeros(toy.n_items, 5, device="meta")
    vectors = fold_in(users, items, items, support, all_pairs_weight=A0, l2=L2, base_width=2)
    assert vectors.shape == users.shape


def test_without_l2_and_with_more_columns_than_items_the_vectors_are_finite(toy: Toy) -> None:
    items = torch.randn(toy.n_items, 12, generator=gen(3))
    items[:, 4:6] = 0  # columns that decide nothing leave the system without a solution of its own
    vectors = folded(toy, support_of(toy), torch.zeros(toy.n_users, 12), items, l2=0.0)
    assert torch.isfinite(vectors).all()
    scores = (vectors @ items.T)[SUPPORTED]
    taken = torch.zeros(2, toy.n_items, dtype=torch.bool)
    for row, user in enumerate(SUPPORTED):
        taken[row, [item for owner, item in toy.listed if owner == user]] = True
    assert (scores[taken] > 0.5).all()
