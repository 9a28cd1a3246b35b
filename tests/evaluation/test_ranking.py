from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import RankingPlan, evaluate, plan_ranking, top_hits

CPU = torch.device("cpu")
SlowRanking = Callable[..., dict[str, float]]


def pairs(listed: Sequence[tuple[int, int]], n_users: int, n_items: int) -> Interactions:
    columns = torch.tensor(listed, dtype=torch.long).reshape(-1, 2)
    return Interactions(user=columns[:, 0], item=columns[:, 1], n_users=n_users, n_items=n_items)


def a_part(listed: Sequence[tuple[int, int]], candidates: Sequence[bool], n_users: int) -> Part:
    return Part(
        name="ood",
        interactions=pairs(listed, n_users, len(candidates)),
        candidates=torch.tensor(candidates),
    )


def one_hot_scores(scores: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Vectors whose dot products are the given ``[U][I]`` scores."""
    table = torch.tensor(scores, dtype=torch.float64)
    return table, torch.eye(table.shape[1], dtype=torch.float64)


def plan(part: Part, hidden: Sequence[Interactions], ks: Sequence[int], block: int = 1024) -> RankingPlan:
    return plan_ranking(part, hidden, EvaluationConfig(ks=tuple(ks), user_block=block), CPU)


class World:
    """A random part, two hidden sets disjoint from it, and score vectors without ties."""

    def __init__(self, seed: int, n_users: int = 9, n_items: int = 13) -> None:
        rng = np.random.default_rng(seed)
        role = rng.choice(4, size=(n_users, n_items), p=[0.55, 0.15, 0.15, 0.15])
        role[rng.random(n_users) < 0.3] = 0  # users without a positive
        role[0, 0] = 1
        candidates = rng.random(n_items) < 0.8
        candidates[(role == 1).any(axis=0)] = True  # every positive is a candidate
        listed = [list(zip(*np.nonzero(role == kind), strict=True)) for kind in (1, 2, 3)]
        self.part = a_part([(int(u), int(i)) for u, i in listed[0]], candidates.tolist(), n_users)
        self.hidden = [pairs([(int(u), int(i)) for u, i in rows], n_users, n_items) for rows in listed[1:]]
        self.users = rng.standard_normal((n_users, 4))
        self.items = rng.standard_normal((n_items, 4))
        self.vectors = (torch.from_numpy(self.users), torch.from_numpy(self.items))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(seed=st.integers(0, 10**6), block=st.sampled_from([1, 2, 128]))
def test_ranking_equals_the_brute_force(slow_ranking: SlowRanking, seed: int, block: int) -> None:
    world, ks = World(seed), (1, 3, 10, 20)  # 20 ranks are more than there are items
    values = evaluate(plan(world.part, world.hidden, ks, block), *world.vectors)
    expected = slow_ranking(world.part, world.hidden, world.users, world.items, ks)
    assert values.keys() == expected.keys()
    for metric, value in expected.items():
        assert values[metric] == pytest.approx(value, abs=1e-12), metric


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_block_sizes_give_equal_results(dtype: torch.dtype) -> None:
    world = World(5, n_users=140, n_items=60)
    users, items = (vectors.to(dtype) for vectors in world.vectors)
    plans = [plan(world.part, world.hidden, (5, 20), block) for block in (1, 3, 128)]
    hits = [top_hits(each, users, items) for each in plans]
    for found, positives in hits[1:]:
        assert torch.equal(found, hits[0][0])
        assert torch.equal(positives, hits[0][1])
    values = [evaluate(each, users, items) for each in plans]
    assert values[0] == values[1] == values[2]


def test_seen_items_are_never_recommended() -> None:
    part = a_part([(0, 2)], [True] * 4, 1)
    users, items = one_hot_scores([[4.0, 3.0, 2.0, 1.0]])
    assert evaluate(plan(part, [], (1,)), users, items)["ood/recall_at_1"] == 0.0
    seen = pairs([(0, 0), (0, 1)], 1, 4)
    assert evaluate(plan(part, [seen], (1,)), users, items)["ood/recall_at_1"] == 1.0


def test_only_the_users_own_items_are_hidden() -> None:
    part = a_part([(0, 1), (1, 1)], [True] * 3, 2)
    users, items = one_hot_scores([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    hits, _ = top_hits(plan(part, [pairs([(0, 0)], 2, 3)], (1,)), users, items)
    assert hits.tolist() == [[True], [False]]


def test_positives_of_the_other_part_do_not_compete_for_places() -> None:
    part, other = a_part([(0, 1)], [True] * 3, 1), pairs([(0, 0)], 1, 3)
    users, items = one_hot_scores([[3.0, 2.0, 1.0]])
    assert evaluate(plan(part, [], (1,)), users, items)["ood/ndcg_at_1"] == 0.0
    assert evaluate(plan(part, [other], (1,)), users, items)["ood/ndcg_at_1"] == 1.0


def test_only_candidates_are_ranked() -> None:
    users, items = one_hot_scores([[3.0, 2.0, 1.0]])
    everything = plan(a_part([(0, 2)], [True, True, True], 1), [], (1,))
    some = plan(a_part([(0, 2)], [False, False, True], 1), [], (1,))
    assert evaluate(everything, users, items)["ood/hit_rate_at_1"] == 0.0
    assert evaluate(some, users, items)["ood/hit_rate_at_1"] == 1.0


def test_fewer_candidates_than_ranks_leave_the_other_ranks_empty() -> None:
    users, items = one_hot_scores([[3.0, 2.0, 1.0, 0.0]])
    hits, positives = top_hits(
        plan(a_part([(0, 1), (0, 2)], [False, True, True, False], 1), [], (5,)), users, items
    )
    assert hits.tolist() == [[True, True, False, False, False]]
    assert positives.tolist() == [2]


def test_a_hidden_item_never_counts_even_where_nothing_else_is_left() -> None:
    # All candidates but one are hidden; the ranks behind it hold hidden items, among them a positive.
    users, items = one_hot_scores([[3.0, 2.0, 1.0]])
    part = a_part([(0, 0), (0, 2)], [True] * 3, 1)
    hits, _ = top_hits(plan(part, [pairs([(0, 0), (0, 1)], 1, 3)], (3,)), users, items)
    assert hits.tolist() == [[True, False, False]]


def test_users_without_positives_do_not_count() -> None:
    part = a_part([(1, 0)], [True] * 2, 3)
    users, items = one_hot_scores([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    made = plan(part, [], (1,))
    assert made.n_users == 1
    assert evaluate(made, users, items)["ood/recall_at_1"] == 1.0


def test_a_user_is_judged_by_all_positives_of_the_part() -> None:
    _, positives = top_hits(
        plan(a_part([(0, 0), (0, 1), (2, 1)], [True] * 2, 3), [], (1,)), *one_hot_scores([[1.0, 0.0]] * 3)
    )
    assert positives.tolist() == [2, 1]


def test_the_order_of_the_listed_interactions_does_not_matter() -> None:
    world = World(11)
    turned = Part(
        name="ood",
        interactions=world.part.interactions.select(torch.arange(len(world.part.interactions)).flip(0)),
        candidates=world.part.candidates,
    )
    straight = evaluate(plan(world.part, world.hidden, (3,)), *world.vectors)
    assert evaluate(plan(turned, list(reversed(world.hidden)), (3,)), *world.vectors) == straight


def test_ranking_leaves_the_vectors_as_they_are() -> None:
    world = World(3)
    users, items = (vectors.clone() for vectors in world.vectors)
    evaluate(plan(world.part, world.hidden, (3,)), users, items)
    assert torch.equal(users, world.vectors[0])
    assert torch.equal(items, world.vectors[1])


def test_a_part_without_positives_has_no_users() -> None:
    made = plan(a_part([], [True] * 2, 3), [], (4,))
    hits, positives = top_hits(made, *one_hot_scores([[1.0, 0.0]] * 3))
    assert made.n_users == 0
    assert hits.shape == (0, 4)
    assert positives.shape == (0,)
