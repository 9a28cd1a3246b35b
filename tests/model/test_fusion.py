from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from painvrl.model.fusion import FusionConfig, weighted_branch

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
