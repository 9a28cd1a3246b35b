from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.baselines import offsets as module
from painvrl.baselines.offsets import GRID, Offset, measured_under_offsets, spread_of
from painvrl.baselines.results import IID, OOD
from painvrl.core.errors import Diverged
from painvrl.data.interactions import Interactions
from painvrl.data.splits import Part
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import BlockScores, DotProducts, RankingPlan, evaluate_scorer, plan_ranking
from painvrl.run.prepare import Prepared

USERS, ITEMS, COLD = 40, 60, 12
MIXED = (
    Offset(),
    Offset(popularity=-0.4),
    Offset(popularity=0.7),
    Offset(cold=1.5),
    Offset(popularity=0.3, cold=-0.8),
)


@dataclass(frozen=True)
class Table:
    """Scores from a table ``[U, I]``; tells how many users were asked for."""

    scores: Tensor
    asked: list[int]

    def among(self, candidates: Tensor) -> BlockScores:
        def of_block(users: Tensor) -> Tensor:
            self.asked.append(len(users))
            return self.scores[users][:, candidates]

        return of_block


@pytest.fixture
def scores() -> Tensor:
    return torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def degree() -> Tensor:
    """The first items are cold."""
    drawn = torch.randint(1, 50, (ITEMS,), generator=torch.Generator().manual_seed(1)).float()
    drawn[:COLD] = 0
    return drawn


def plan(*, ood_items: slice = slice(0, ITEMS), size: int = 7) -> RankingPlan:
    """A part of each name with three positives a user; blocks of ``size`` users."""
    draws = torch.Generator().manual_seed(2)
    parts = []
    for name, items in (("iid", slice(COLD, ITEMS)), ("ood", ood_items)):
        candidates = torch.zeros(ITEMS, dtype=torch.bool)
        candidates[items] = True
        among = candidates.nonzero(as_tuple=True)[0]
        item = torch.cat([among[torch.randperm(len(among), generator=draws)[:3]] for _ in range(USERS)])
        user = torch.arange(USERS).repeat_interleave(3)
        rows = Interactions(user=user, item=item, n_users=USERS, n_items=ITEMS)
        parts.append(Part(name=name, interactions=rows, candidates=candidates))
    config = EvaluationConfig(ks=(20,), block_cells=size * ITEMS)
    return plan_ranking(parts, (), config, torch.device("cpu"))


def test_each_offset_is_that_of_a_table_to_which_it_is_added_by_hand(scores: Tensor, degree: Tensor) -> None:
    ranking = plan()
    found = measured_under_offsets(ranking, Table(scores, []), degree, (IID, OOD), MIXED)
    spread = sqrt(float(np.mean([row.var() for row in scores.double().numpy()])))
    assert len({values[OOD] for values, _ in found}) == len(MIXED), "or the offsets say nothing"
    for offset, (values, users) in zip(MIXED, found, strict=True):
        added = [
            spread * offset.popularity * log(1 + d) + (spread * offset.cold if d == 0 else 0)
            for d in degree.tolist()
        ]
        assert values == evaluate_scorer(ranking, Table(scores + torch.tensor(added), []))
        for metric in (IID, OOD):
            assert users.values[metric].mean() == pytest.approx(values[metric], abs=1e-6)


def test_the_unit_of_the_scores_does_not_matter(scores: Tensor, degree: Tensor) -> None:
    first, second = (
        measured_under_offsets(plan(), Table(scale * scores, []), degree, (), MIXED) for scale in (1.0, 64.0)
    )
    assert [values for values, _ in first] == [values for values, _ in second]


def test_the_scores_of_a_block_are_made_once_for_all_offsets(scores: Tensor, degree: Tensor) -> None:
    table = Table(scores, [])
    measured_under_offsets(plan(), table, degree, (), MIXED)
    assert sum(table.asked) == 2 * USERS, "once for the spread, once to rank"
    assert max(table.asked) <= 7


def test_where_no_candidate_is_cold_offsets_that_differ_there_alone_are_ranked_once(
    scores: Tensor, degree: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = []
    judge = module.judged_users
    monkeypatch.setattr(
        module, "judged_users", lambda ranking, all_: ranked.append(len(all_)) or judge(ranking, all_)
    )
    grid = [Offset(), Offset(cold=2.0), Offset(popularity=0.5), Offset(popularity=0.5, cold=1.0)]
    warm = plan(ood_items=slice(COLD, ITEMS))
    plain, cold, popular, both = measured_under_offsets(warm, Table(scores, []), degree, (), grid)
    assert ranked == [2]
    assert plain == cold
    assert popular == both
    assert plain != popular


def test_scores_without_a_spread_have_the_plain_point_everywhere(degree: Tensor) -> None:
    flat = Table(torch.full((USERS, ITEMS), 0.1), [])
    assert spread_of(plan(), flat) == 0
    (first, *others) = measured_under_offsets(plan(), flat, degree, (), MIXED)
    assert all(values == first[0] for values, _ in others)


def test_the_spread_is_that_of_a_few_users_of_all_blocks(
    scores: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPREAD_USERS", 10)
    scale = torch.arange(1, USERS + 1)[:, None] / USERS
    table, ranking = Table(scale * scores, []), plan()
    found = spread_of(ranking, table)
    assert sum(table.asked) == 10
    order = torch.cat([block.users for block in ranking.blocks])[::4]
    rows = (scale * scores).double().numpy()[order.numpy()]
    assert found == pytest.approx(sqrt(np.mean([row.var() for row in rows])), rel=1e-5)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_a_failed_trial(wrong: float, scores: Tensor, degree: Tensor) -> None:
    scores[3, 5] = wrong
    with pytest.raises(Diverged, match="the scores are not finite"):
        measured_under_offsets(plan(), Table(scores, []), degree, ())


def test_the_plain_model_is_the_first_point_and_ranked_as_it_is(
    tiny_prepared: Prepared,
) -> None:
    assert GRID[0] == Offset()
    assert len(set(GRID)) == len(GRID)
    draws = torch.Generator().manual_seed(4)
    train = tiny_prepared.train
    scorer = DotProducts(*(torch.randn(n, 4, generator=draws) for n in (train.n_users, train.n_items)))
    found = measured_under_offsets(
        tiny_prepared.valid_plan, scorer, tiny_prepared.training.item_degree, (IID,)
    )
    assert len(found) == len(GRID)
    assert found[0][0] == evaluate_scorer(tiny_prepared.valid_plan, scorer)
