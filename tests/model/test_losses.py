from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.model.losses import (
    SampledLoss,
    drawn_repulsion,
    gram_product,
    gramian_loss,
    pointwise_gramian,
    sampled_loss,
    shared_repulsion,
    softmax_loss,
    ultragcn_weights,
)
from painvrl.model.pairs import pair_scores, sort_pairs
from painvrl.model.training_data import training_data

if TYPE_CHECKING:
    from collections.abc import Sequence


def dense_gramian(
    listed: Sequence[tuple[int, int]], users: np.ndarray, items: np.ndarray, a0: float
) -> float:
    """The method's formula, with the sum over all pairs of users and warm items as a double loop."""
    warm = {item for _, item in listed}
    own = sum((1 - users[u] @ items[i]) ** 2 - a0 * (users[u] @ items[i]) ** 2 for u, i in listed)
    everything = sum((users[u] @ items[i]) ** 2 for u in range(len(users)) for i in sorted(warm))
    return float((own + a0 * everything) / len(listed))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 10**6), a0=st.floats(0.001, 2))
def test_the_gramian_loss_equals_the_double_loop_over_all_pairs(seed: int, a0: float) -> None:
    rng = np.random.default_rng(seed)
    n_users, n_items, width = rng.integers(1, 8), rng.integers(1, 8), rng.integers(1, 4)
    taken = rng.random((n_users, n_items)) < 0.4
    taken[0, 0] = True
    listed = [(int(u), int(i)) for u, i in zip(*np.nonzero(taken), strict=True)]
    users, items = rng.standard_normal((n_users, width)), rng.standard_normal((n_items, width))
    columns = torch.tensor(listed)
    interactions = Interactions(
        user=columns[:, 0], item=columns[:, 1], n_users=int(n_users), n_items=int(n_items)
    )
    u, i = torch.from_numpy(users), torch.from_numpy(items)
    positive = pair_scores(u, i, sort_pairs(interactions))
    warm = interactions.item_degree() > 0
    loss = float(gramian_loss(positive, u, i[warm], a0))
    assert loss == pytest.approx(dense_gramian(listed, users, items, a0), rel=1e-10)


def test_a_pairs_own_part_by_hand() -> None:
    assert pointwise_gramian(torch.tensor([0.0, 1.0, 2.0, -1.0]), 0.5).tolist() == [1.0, -0.5, -1.0, 3.5]


def test_the_gram_product_is_the_sum_of_all_squared_scores_and_has_its_gradients() -> None:
    draw = torch.Generator().manual_seed(0)
    users = torch.randn(5, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    items = torch.randn(4, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gram_product(users, items), (users @ items.T).square().sum())
    assert torch.autograd.gradcheck(gram_product, (users, items))


def test_ultragcn_weights_by_hand() -> None:
    # User 0 has three interactions, user 1 one, user 2 none; item 0 has three, item 1 one, item 2 none.
    listed = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 0]])
    data = training_data(
        Interactions(user=listed[:, 0], item=listed[:, 1], n_users=3, n_items=3), torch.device("cpu")
    )
    by_user, by_item = ultragcn_weights(data.user_degree, data.item_degree)
    # sqrt(d_u + 1) / d_u and 1 / sqrt(d_i + 1), with d_u clamped to 1
    assert by_user.tolist() == pytest.approx([2 / 3, math.sqrt(2), math.sqrt(2)])
    assert by_item.tolist() == pytest.approx([1 / 2, 1 / math.sqrt(2), 1.0])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


CONFIG = SampledLoss(w1=0.5, w2=2.0, w3=0.25, w4=3.0, negative_weight=0.7)


def test_the_sampled_loss_by_hand() -> None:
    positive, positive_b = [0.3, -1.2], [0.4, 0.9]
    negative, negative_b = [[0.1, -0.5, 2.0], [0.0, 1.0, -1.0]], [[0.2, 0.3, 0.4], [0.6, 0.7, 0.8]]
    expected = 0.0
    for row in range(2):
        attract = (0.5 + 2.0 * positive_b[row]) * softplus(-positive[row])
        repel = sum((0.25 + 3.0 * negative_b[row][j]) * softplus(negative[row][j]) for j in range(3)) / 3
        expected += (attract + 0.7 * repel) / 2
    repulsion = drawn_repulsion(torch.tensor(negative), torch.tensor(negative_b), CONFIG)
    loss = sampled_loss(torch.tensor(positive), torch.tensor(positive_b), repulsion, CONFIG)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_shared_negatives_repel_like_the_same_ones_drawn_per_pair() -> None:
    draw = torch.Generator().manual_seed(1)
    scores = torch.randn(5, 7, generator=draw, dtype=torch.float64, requires_grad=True)
    by_user, by_item = torch.rand(5, generator=draw).double(), torch.rand(7, generator=draw).double()
    shared = shared_repulsion(scores, by_user, by_item, CONFIG)
    drawn = drawn_repulsion(scores, by_user[:, None] * by_item, CONFIG)
    torch.testing.assert_close(shared, drawn)
    torch.testing.assert_close(
        torch.autograd.grad(shared.square().sum(), scores), torch.autograd.grad(drawn.square().sum(), scores)
    )


def test_a_higher_positive_and_a_lower_negative_are_better() -> None:
    positive = torch.zeros(2, requires_grad=True)
    negative = torch.zeros(2, 3, requires_grad=True)
    repulsion = drawn_repulsion(negative, torch.ones(2, 3), SampledLoss())
    sampled_loss(positive, torch.ones(2), repulsion, SampledLoss()).backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert (positive.grad < 0).all()
    assert (negative.grad > 0).all()


def test_shared_negatives_estimate_the_loss_of_all_negatives_in_the_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    positive, table = torch.randn(6, generator=draw), torch.randn(6, 40, generator=draw)
    by_user, by_item = torch.rand(6, generator=draw), torch.rand(40, generator=draw)

    def loss(negatives: Tensor) -> float:
        repulsion = shared_repulsion(table[:, negatives], by_user, by_item[negatives], CONFIG)
        return float(sampled_loss(positive, torch.ones(6), repulsion, CONFIG))

    whole = loss(torch.arange(40))
    draws = np.array([loss(torch.randint(40, (5,), generator=draw)) for _ in range(3000)])
    error = draws.std(ddof=1) / math.sqrt(len(draws))
    assert abs(draws.mean() - whole) < 3 * error
    assert error < 0.01 * whole  # the bound above means something


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.05, 5))
def test_the_softmax_loss_equals_its_formula_pair_by_pair(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    size, negatives = rng.integers(1, 6), rng.integers(1, 6)
    positive, negative = rng.standard_normal(size), rng.standard_normal((size, negatives))
    hit = rng.random((size, negatives)) < 0.3
    expected = 0.0
    for own, others, skipped in zip(positive, negative, hit, strict=True):
        against = [math.exp(one / temperature) for one, skip in zip(others, skipped, strict=True) if not skip]
        chance = math.exp(own / temperature) / (math.exp(own / temperature) + sum(against))
        expected -= math.log(chance) / size
    tensors = torch.from_numpy(positive), torch.from_numpy(negative), torch.from_numpy(hit)
    assert float(softmax_loss(*tensors, temperature)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_colder_softmax_pushes_the_strongest_negatives_only() -> None:
    pushed = []
    for temperature in (0.05, 1.0):
        negative = torch.tensor([[1.0, 0.0]], requires_grad=True)
        softmax_loss(torch.zeros(1), negative, torch.zeros(1, 2, dtype=torch.bool), temperature).backward()
        assert negative.grad is not None
        pushed.append(float(negative.grad[0, 1] / negative.grad[0, 0]))
    assert pushed[0] < 1e-6
    assert pushed[1] == pytest.approx(math.exp(-1), rel=1e-5)
