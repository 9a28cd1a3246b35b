from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from painvrl.model.fusion import FUSIONS, FusionConfig, ScoreParts, WeighedScores

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


def test_a_name_is_of_one_training_of_a_fusion_and_no_other_stage_has_it() -> None:
    for fusion in FUSIONS.entries().values():
        names = [learner.name for learner in fusion.learners(weighed=True)]
        assert len(set(names)) == len(names) > 0
        assert not {"pretrain", "rounds", "invariance", "converted"} & set(names)


def test_every_fusion_trains_first_what_it_trains_where_nothing_is_weighed() -> None:
    for fusion in FUSIONS.entries().values():
        alone, weighed = (fusion.learners(weighed=weighed) for weighed in (False, True))
        assert [learner.name for learner in weighed][: len(alone)] == [learner.name for learner in alone]


@pytest.mark.parametrize(("weight", "branch", "count"), [(0.3, False, 2), (0.0, False, 1), (0.0, True, 2)])
def test_a_branch_is_trained_where_it_weighs_something(weight: float, branch: bool, count: int) -> None:
    assert len(FusionConfig(variant_weight=weight).learners(branch=branch)) == count
