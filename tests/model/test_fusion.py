from __future__ import annotations

import math
from dataclasses import replace

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
    ScoreParts,
    WeighedScores,
    make_mixing,
)

ID, BASE = 2, 3
EVERY_ITEM, EVERY_USER = torch.arange(6), torch.arange(4)
WEIGHINGS = [
    FusionConfig(),
    FusionConfig(variant_weight=0.0),
    FusionConfig(variant_weight=1.0, id_weight=0.0),
    FusionConfig(variant_weight=0.4, id_weight=1.7, popularity_weight=-0.3),
    FusionConfig(variant_weight=0.0, id_weight=0.5, cold_weight=2.5),
    FusionConfig(popularity_weight=0.2, cold_weight=-1.0),
]


@pytest.fixture
def parts() -> ScoreParts:
    """Two ID columns, one of content, two of the branch; user 3 has no vector, items 1 and 4 are cold."""
    users = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    users[3] = 0
    items = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    degree = torch.tensor([9, 0, 1, 3, 0, 40])
    return ScoreParts(users=users, items=items, id_width=ID, base_width=BASE, degree=degree)


def literal(parts: ScoreParts, fusion: FusionConfig) -> list[list[float]]:
    """The formula, a score at a time."""

    def score(user: list[float], item: list[float], degree: int) -> float:
        if not any(user):
            return 0.0
        terms = [one * other for one, other in zip(user, item, strict=True)]
        return (
            fusion.id_weight * sum(terms[:ID])
            + sum(terms[ID:BASE])
            + fusion.variant_weight * sum(terms[BASE:])
            + fusion.popularity_weight * math.log(1 + degree)
            + (fusion.cold_weight if degree == 0 else 0.0)
        )

    items = list(zip(parts.items.tolist(), parts.degree.tolist(), strict=True))
    return [[score(user, item, degree) for item, degree in items] for user in parts.users.tolist()]


@pytest.mark.parametrize("fusion", WEIGHINGS, ids=repr)
def test_weighed_vectors_and_weighed_scores_are_the_formula(parts: ScoreParts, fusion: FusionConfig) -> None:
    expected = torch.tensor(literal(parts, fusion))
    users, items = parts.weighed(fusion)
    torch.testing.assert_close(users @ items.T, expected)
    (scores,) = WeighedScores(parts, [fusion]).among(EVERY_ITEM)(EVERY_USER)
    torch.testing.assert_close(scores, expected)


def test_scores_are_the_same_to_the_last_bit_whatever_is_asked_for_with_them(parts: ScoreParts) -> None:
    together = WeighedScores(parts, WEIGHINGS).among(EVERY_ITEM)(EVERY_USER)
    for fusion, scores in zip(WEIGHINGS, together, strict=True):
        (alone,) = WeighedScores(parts, [fusion]).among(EVERY_ITEM)(EVERY_USER)
        assert torch.equal(scores, alone)


def test_scores_may_be_written_over(parts: ScoreParts) -> None:
    found = []
    for scores in WeighedScores(parts, WEIGHINGS).among(EVERY_ITEM)(EVERY_USER):
        found.append(scores.clone())
        scores.fill_(math.nan)
    assert torch.isfinite(torch.stack(found)).all()


def test_candidates_and_users_are_those_asked_for(parts: ScoreParts) -> None:
    candidates, users = torch.tensor([4, 0, 5]), torch.tensor([2, 3])
    for fusion in WEIGHINGS:
        (some,) = WeighedScores(parts, [fusion]).among(candidates)(users)
        torch.testing.assert_close(some, torch.tensor(literal(parts, fusion))[users][:, candidates])


def test_a_branch_that_weighs_nothing_leaves_the_scores_of_a_training_without_one(parts: ScoreParts) -> None:
    fusion = FusionConfig(variant_weight=0.0, id_weight=0.7, popularity_weight=0.1)
    without = replace(parts, users=parts.users[:, :BASE], items=parts.items[:, :BASE])
    (one,) = WeighedScores(parts, [fusion]).among(EVERY_ITEM)(EVERY_USER)
    (other,) = WeighedScores(without, [fusion]).among(EVERY_ITEM)(EVERY_USER)
    assert torch.equal(one, other)
    for mine, theirs in zip(parts.weighed(fusion), without.weighed(fusion), strict=True):
        assert torch.equal(mine, theirs)


def test_weighing_changes_no_part(parts: ScoreParts) -> None:
    before = replace(parts, users=parts.users.clone(), items=parts.items.clone())
    for fusion in WEIGHINGS:
        parts.weighed(fusion)
        list(WeighedScores(parts, [fusion]).among(EVERY_ITEM)(EVERY_USER))
    assert torch.equal(parts.users, before.users)
    assert torch.equal(parts.items, before.items)


def test_users_without_a_vector_stay_without_one(parts: ScoreParts) -> None:
    users, _ = parts.weighed(FusionConfig(popularity_weight=0.5, cold_weight=1.0))
    assert users.any(dim=1).tolist() == [True, True, True, False]


@pytest.mark.parametrize("width", [0, 1, 3])
def test_parts_may_be_empty(parts: ScoreParts, width: int) -> None:
    fusion = FusionConfig(id_weight=0.5, popularity_weight=0.1)
    empty = replace(parts, users=parts.users[:, :3], items=parts.items[:, :3], id_width=width, base_width=3)
    (scores,) = WeighedScores(empty, [fusion]).among(EVERY_ITEM)(EVERY_USER)
    users, items = empty.weighed(fusion)
    torch.testing.assert_close(scores, users @ items.T)


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
