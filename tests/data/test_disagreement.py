"""How little an item's modalities agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.data.dataset import Modality
from painvrl.data.disagreement import RIDGE, disagreement

ITEMS = 300


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def modality(values: Tensor, present: Tensor | None = None) -> Modality:
    return Modality(
        values=values, present=torch.ones(len(values), dtype=torch.bool) if present is None else present
    )


def two_views(noise: float = 0.3, items: int = ITEMS) -> tuple[Tensor, Tensor]:
    """Two linear views of one hidden vector an item."""
    hidden, draws = torch.randn(items, 4, generator=gen(1)), gen(2)
    views = [hidden @ torch.randn(4, width, generator=draws) for width in (12, 8)]
    first, second = (view + noise * torch.randn(view.shape, generator=draws) for view in views)
    return first, second


def everybody(items: int = ITEMS) -> Tensor:
    return torch.ones(items, dtype=torch.bool)


def test_it_is_the_cosine_to_what_the_other_half_predicts_computed_item_by_item() -> None:
    first, second = two_views(items=24)
    train = torch.arange(24) % 5 > 0
    half = (torch.rand(24, generator=gen(7)) < 0.5).numpy()
    found = disagreement({"a": modality(first), "b": modality(second)}, train, gen(7))
    rows = []
    for view in (first, second):
        unit = view.double().numpy() / np.linalg.norm(view.double().numpy(), axis=1, keepdims=True)
        rows.append(unit - unit[train.numpy()].mean(axis=0))
    for item in range(24):
        apart = 0.0
        for mine, other in (rows, rows[::-1]):
            fitted = [one for one in range(24) if train[one] and half[one] != half[item]]
            x, y = other[fitted], mine[fitted]
            guess = other[item] @ np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
            apart += 1 - guess @ mine[item] / np.linalg.norm(guess) / np.linalg.norm(mine[item])
        assert float(found[item]) == pytest.approx(apart / 2, rel=1e-9)


def test_items_with_the_vector_of_another_disagree_most() -> None:
    first, second = two_views()
    wrong = torch.arange(ITEMS) % 4 == 0
    shown = first.clone()
    shown[wrong] = first[wrong].roll(1, 0)
    found = disagreement({"a": modality(shown), "b": modality(second)}, everybody(), gen())
    above = (found[wrong][:, None] > found[~wrong]).double().mean()
    assert float(above) > 0.95


def test_an_item_with_one_modality_has_none() -> None:
    first, second = two_views()
    lacking = torch.arange(ITEMS) == 3
    found = disagreement({"a": modality(first, ~lacking), "b": modality(second)}, everybody(), gen())
    assert math.isnan(float(found[3]))
    assert not bool(found[~lacking].isnan().any())


def test_items_that_train_does_not_have_teach_nothing() -> None:
    first, second = two_views()
    train = torch.arange(ITEMS) < 200
    found = disagreement({"a": modality(first), "b": modality(second)}, train, gen())
    other = torch.where(train[:, None], first, 9 * first.flip(0))
    again = disagreement({"a": modality(other), "b": modality(second)}, train, gen())
    assert torch.equal(found[train], again[train])
    assert not torch.equal(found[~train], again[~train])


def test_tiny_vectors_are_as_long_as_any_others() -> None:
    first, second = two_views()
    usual = disagreement({"a": modality(first), "b": modality(second)}, everybody(), gen())
    tiny = disagreement({"a": modality(first * 2.0**-80), "b": modality(second)}, everybody(), gen())
    torch.testing.assert_close(tiny, usual)
