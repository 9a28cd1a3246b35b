from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from painvrl.model.fusion import (
    FusionConfig,
    ItemAttention,
    MixingKind,
    ScalarWeights,
    make_mixing,
    weighted_branch,
    with_popularity,
)

BASE = 3


@pytest.fixture
def items() -> Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def users() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_score_is_the_base_plus_the_weighted_branch(users: Tensor, items: Tensor, weight: float) -> None:
    scores = users @ weighted_branch(items, BASE, weight).T
    base, branch = users[:, :BASE] @ items[:, :BASE].T, users[:, BASE:] @ items[:, BASE:].T
    torch.testing.assert_close(scores, base + weight * branch)


def test_the_vectors_are_linear_in_the_weight(items: Tensor) -> None:
    none, half, full = (weighted_branch(items, BASE, weight) for weight in (0.0, 0.5, 1.0))
    assert torch.equal(half, (none + full) / 2)
    assert torch.equal(full, items)


def test_without_weight_the_branch_is_gone(items: Tensor) -> None:
    assert torch.equal(weighted_branch(items, BASE, 0.0)[:, BASE:], torch.zeros(6, 2))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_base_is_not_touched_and_neither_is_the_argument(items: Tensor, weight: float) -> None:
    before = items.clone()
    assert torch.equal(weighted_branch(items, BASE, weight)[:, :BASE], before[:, :BASE])
    assert torch.equal(items, before)


def test_vectors_without_a_branch_stay_as_they_are(items: Tensor) -> None:
    assert torch.equal(weighted_branch(items, items.shape[1], 0.3), items)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_ends_of_the_weight_are_allowed(weight: float) -> None:
    assert FusionConfig(variant_weight=weight).variant_weight == weight


@pytest.mark.parametrize(
    "settings",
    [
        {"variant_weight": -0.01},
        {"variant_weight": 1.01},
        {"variant_weight": float("nan")},
        {"kind": "product"},
    ],
)
def test_a_weight_out_of_bounds_or_an_unknown_kind_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        FusionConfig.model_validate(settings)


CPU = torch.device("cpu")


@pytest.fixture
def features() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def projections() -> Tensor:
    """Two parts, ``[2, 4, 3]``."""
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def slow_mixture(features: Tensor, projections: Tensor, shares: list[list[float]]) -> np.ndarray:
    """``h_i = sum_c shares[i][c] f_i W_c``, item by item."""
    return np.array(
        [
            sum(
                share * (row.double().numpy() @ part.double().numpy())
                for share, part in zip(own, projections, strict=True)
            )
            for row, own in zip(features, shares, strict=True)
        ]
    )


@pytest.mark.parametrize(("kind", "share"), [("sum", 1.0), ("scalar", 0.5), ("item", 0.5)])
def test_both_parts_weigh_the_same_at_first(
    features: Tensor, projections: Tensor, kind: MixingKind, share: float
) -> None:
    mixed = make_mixing(kind, 2, 3, CPU)(features, projections)
    expected = slow_mixture(features, projections, [[share, share]] * 6)
    np.testing.assert_allclose(mixed.detach().numpy(), expected, atol=1e-5)


def test_scalar_weighs_the_parts_with_the_softmax_of_two_numbers(
    features: Tensor, projections: Tensor
) -> None:
    mixing = ScalarWeights(2, CPU)
    with torch.no_grad():
        mixing.logits.copy_(torch.tensor([0.3, -1.1]))
    expected = slow_mixture(features, projections, [softmax([0.3, -1.1])] * 6)
    np.testing.assert_allclose(mixing(features, projections).detach().numpy(), expected, atol=1e-5)


def test_item_weighs_the_parts_of_each_item_by_its_own_content(features: Tensor, projections: Tensor) -> None:
    mixing, query = ItemAttention(3, CPU), [0.7, -1.3, 2.0]
    with torch.no_grad():
        mixing.query.copy_(torch.tensor(query))
    shares = [
        softmax(
            [
                float((row.double() @ part.double()) @ torch.tensor(query).double()) / math.sqrt(3)
                for part in projections
            ]
        )
        for row in features
    ]
    assert max(share[0] for share in shares) - min(share[0] for share in shares) > 0.2
    expected = slow_mixture(features, projections, shares)
    np.testing.assert_allclose(mixing(features, projections).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("logits", [(0.0, 0.0), (2.0, -1.0)])
def test_a_learned_fusion_undoes_a_binary_mask(features: Tensor, logits: tuple[float, float]) -> None:
    # Whatever the mask and the weights: some projections of the two parts make any linear map of f.
    wanted = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
    mask = torch.tensor([1.0, 0.0, 0.0, 1.0])
    mixing = ScalarWeights(2, CPU)
    with torch.no_grad():
        mixing.logits.copy_(torch.tensor(logits))
        share = mixing.logits.softmax(0)
        gated = torch.stack([mask[:, None] * wanted / share[0], (1 - mask)[:, None] * wanted / share[1]])
        torch.testing.assert_close(mixing(features, gated), features @ wanted)


@pytest.mark.parametrize("kind", ["scalar", "item"])
def test_gradients_of_the_weights_are_those_of_finite_differences(
    features: Tensor, projections: Tensor, kind: MixingKind
) -> None:
    mixing, step = make_mixing(kind, 2, 3, CPU), 1e-2
    (weights,) = mixing.parameters()
    mixing(features, projections).square().sum().backward()
    assert weights.grad is not None
    for place, slope in enumerate(weights.grad.tolist()):
        ends = []
        for change in (step, -step):
            with torch.no_grad():
                weights[place] += change
                ends.append(float(mixing(features, projections).square().sum()))
                weights[place] -= change
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-2)
        assert abs(slope) > 0.01


def test_popularity_leaves_users_without_a_vector_without_one() -> None:
    users = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, -1.0]])
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weighed_users, weighed_items = with_popularity(users, items, torch.tensor([0, 9]), 0.5)
    added = weighed_users @ weighed_items.T - users @ items.T
    tenth = 0.5 * math.log(10)
    torch.testing.assert_close(added, torch.tensor([[0.0, tenth], [0.0, 0.0], [0.0, tenth]]))
    assert not weighed_users[1].any()
    assert torch.equal(weighed_users[:, 1:], users), "a variant branch keeps the last columns"
