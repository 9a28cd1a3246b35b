from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.model.mixing import ItemAttention, Mixing, ScalarWeights, Sum

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


@pytest.mark.parametrize(("kind", "share"), [(Sum, 1.0), (ScalarWeights, 0.5), (ItemAttention, 0.5)])
def test_both_parts_weigh_the_same_at_first(
    features: Tensor, projections: Tensor, kind: type[Mixing], share: float
) -> None:
    mixed = kind(2, 3, CPU)(features, projections)
    expected = slow_mixture(features, projections, [[share, share]] * 6)
    np.testing.assert_allclose(mixed.detach().numpy(), expected, atol=1e-5)


def test_scalar_weighs_the_parts_with_the_softmax_of_two_numbers(
    features: Tensor, projections: Tensor
) -> None:
    mixing = ScalarWeights(2, 3, CPU)
    with torch.no_grad():
        mixing.logits.copy_(torch.tensor([0.3, -1.1]))
    expected = slow_mixture(features, projections, [softmax([0.3, -1.1])] * 6)
    np.testing.assert_allclose(mixing(features, projections).detach().numpy(), expected, atol=1e-5)


def test_item_weighs_the_parts_of_each_item_by_its_own_content(features: Tensor, projections: Tensor) -> None:
    mixing, query = ItemAttention(2, 3, CPU), [0.7, -1.3, 2.0]
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
    mixing = ScalarWeights(2, 3, CPU)
    with torch.no_grad():
        mixing.logits.copy_(torch.tensor(logits))
        share = mixing.logits.softmax(0)
        gated = torch.stack([mask[:, None] * wanted / share[0], (1 - mask)[:, None] * wanted / share[1]])
        torch.testing.assert_close(mixing(features, gated), features @ wanted)


@pytest.mark.parametrize("kind", [ScalarWeights, ItemAttention])
def test_gradients_of_the_weights_are_those_of_finite_differences(
    features: Tensor, projections: Tensor, kind: type[Mixing]
) -> None:
    mixing, step = kind(2, 3, CPU), 1e-2
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
