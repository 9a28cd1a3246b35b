from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import (
    BlockScores,
    DotProducts,
    RankingPlan,
    evaluate,
    evaluate_scorer,
    evaluate_users,
    plan_ranking,
    rank_block,
    top_hits,
    top_values,
)

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


def plan(
    part: Part, hidden: Sequence[Interactions], ks: Sequence[int], cells: int = 2**20, *more: Part
) -> RankingPlan:
    return plan_ranking([part, *more], hidden, EvaluationConfig(ks=tuple(ks), block_cells=cells), CPU)


def judged(made: RankingPlan, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Hits and positives of the users of the first part, in the users' order."""
    return top_hits(made, DotProducts(users, items))[0][made.parts[0].rows], made.parts[0].positives


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
@given(seed=st.integers(0, 10**6), cells=st.sampled_from([1, 30, 10**6]))
def test_ranking_equals_the_brute_force(slow_ranking: SlowRanking, seed: int, cells: int) -> None:
    world, ks = World(seed), (1, 3, 10, 20)  # 20 ranks are more than there are items
    values = evaluate(plan(world.part, world.hidden, ks, cells), *world.vectors)
    expected = slow_ranking(world.part, world.hidden, world.users, world.items, ks)
    assert values.keys() == expected.keys()
    for metric, value in expected.items():
        assert values[metric] == pytest.approx(value, abs=1e-12), metric


@pytest.mark.parametrize("cells", [1, 10**6])
def test_the_values_of_each_user_are_those_of_a_part_that_holds_nobody_else(
    slow_ranking: SlowRanking, cells: int
) -> None:
    world, ks = World(3), (1, 3, 10)
    found = evaluate_users(plan(world.part, world.hidden, ks, cells), DotProducts(*world.vectors))["ood"]
    users = found.users.tolist()
    assert users == sorted(set(world.part.interactions.user.tolist()))
    for row, user in enumerate(users):
        alone = world.part.interactions.select(world.part.interactions.user == user)
        one = replace(world.part, interactions=alone)
        for name, value in slow_ranking(one, world.hidden, world.users, world.items, ks).items():
            metric, _, k = name.removeprefix("ood/").rpartition("_at_")
            assert float(found.values[metric][row, ks.index(int(k))]) == pytest.approx(value, abs=1e-12)


def test_an_interrupt_that_was_lost_ends_the_ranking_before_its_next_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(3)
    seen: list[int] = []
    scorer = DotProducts(*world.vectors)

    class Lost:
        def among(self, candidates: Tensor) -> Callable[[Tensor], Tensor]:
            def scores(users: Tensor) -> Tensor:
                seen.append(len(users))
                monkeypatch.setattr("painvrl.core.interrupts._asked", len(seen) == 2)
                return scorer.among(candidates)(users)

            return scores

    with pytest.raises(KeyboardInterrupt):
        evaluate_users(plan(world.part, world.hidden, (1, 3), 1), Lost())
    assert len(seen) == 2


def test_a_metric_is_the_mean_over_users() -> None:
    world, ks = World(4), (1, 3, 10)
    made = plan(world.part, world.hidden, ks)
    users, means = evaluate_users(made, DotProducts(*world.vectors))["ood"], evaluate(made, *world.vectors)
    for metric, values in users.values.items():
        assert values.shape == (len(users.users), 3)
        assert values.mean(dim=0).tolist() == [means[f"ood/{metric}_at_{k}"] for k in ks]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_block_sizes_give_equal_results(dtype: torch.dtype) -> None:
    world = World(5, n_users=140, n_items=60)
    users, items = (vectors.to(dtype) for vectors in world.vectors)
    plans = [plan(world.part, world.hidden, (5, 20), cells) for cells in (1, 200, 10**5)]
    hits = [judged(each, users, items) for each in plans]
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
    hits, _ = judged(plan(part, [pairs([(0, 0)], 2, 3)], (1,)), users, items)
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
    hits, positives = judged(
        plan(a_part([(0, 1), (0, 2)], [False, True, True, False], 1), [], (5,)), users, items
    )
    assert hits.tolist() == [[True, True, False, False, False]]
    assert positives.tolist() == [2]


def test_a_hidden_item_never_counts_even_where_nothing_else_is_left() -> None:
    # All candidates but one are hidden; the ranks behind it hold hidden items, among them a positive.
    users, items = one_hot_scores([[3.0, 2.0, 1.0]])
    part = a_part([(0, 0), (0, 2)], [True] * 3, 1)
    hits, _ = judged(plan(part, [pairs([(0, 0), (0, 1)], 1, 3)], (3,)), users, items)
    assert hits.tolist() == [[True, False, False]]


def test_users_without_positives_do_not_count() -> None:
    part = a_part([(1, 0)], [True] * 2, 3)
    users, items = one_hot_scores([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    made = plan(part, [], (1,))
    assert made.parts[0].users.tolist() == [1]
    assert evaluate(made, users, items)["ood/recall_at_1"] == 1.0


def test_a_user_is_judged_by_all_positives_of_the_part() -> None:
    _, positives = judged(
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
    hits, positives = judged(made, *one_hot_scores([[1.0, 0.0]] * 3))
    assert len(made.parts[0].users) == 0
    assert hits.shape == (0, 4)
    assert positives.shape == (0,)


class TwoParts(World):
    """A second part made of one of the hidden sets, whose candidates are its own."""

    def __init__(
        self, seed: int, n_users: int = 9, n_items: int = 13, *, own_candidates: bool = True
    ) -> None:
        super().__init__(seed, n_users, n_items)
        listed = self.hidden.pop()
        candidates = torch.zeros(n_items, dtype=torch.bool)
        candidates[listed.item] = True
        candidates[1] = True
        if not own_candidates:
            candidates = self.part.candidates | candidates
            self.part = replace(self.part, candidates=candidates)
        self.other = Part(name="iid", interactions=listed, candidates=candidates)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(seed=st.integers(0, 10**6), own=st.booleans(), cells=st.sampled_from([1, 30, 10**6]))
def test_two_parts_in_one_pass_equal_the_brute_force(
    slow_ranking: SlowRanking, seed: int, own: bool, cells: int
) -> None:
    world, ks = TwoParts(seed, own_candidates=own), (1, 3, 20)
    made = plan(world.part, world.hidden, ks, cells, world.other)
    values = evaluate(made, *world.vectors)
    for part, other in ((world.part, world.other), (world.other, world.part)):
        hidden = [*world.hidden, other.interactions]
        if len(part.interactions) == 0:
            continue
        expected = slow_ranking(part, hidden, world.users, world.items, ks)
        for metric, value in expected.items():
            assert values[metric] == pytest.approx(value, abs=1e-12), metric


def test_a_catalogue_much_larger_than_a_block_is_ranked_exactly(slow_ranking: SlowRanking) -> None:
    world = TwoParts(2, n_users=6, n_items=700)
    values = evaluate(plan(world.part, world.hidden, (2, 5), 64, world.other), *world.vectors)
    hidden = [*world.hidden, world.other.interactions]
    for metric, value in slow_ranking(world.part, hidden, world.users, world.items, (2, 5)).items():
        assert values[metric] == pytest.approx(value, abs=1e-12), metric


@pytest.mark.parametrize(("width", "depth"), [(7, 9), (50, 50), (451, 50), (997, 3), (1000, 1)])
def test_two_steps_find_the_greatest_values(width: int, depth: int) -> None:
    scores = torch.rand(20, width, generator=torch.Generator().manual_seed(width))
    scores[0] = -torch.inf
    scores[1, : width // 2] = 1.0
    expected = scores.sort(dim=1, descending=True).values[:, :depth]
    assert torch.equal(top_values(scores, depth), expected)


def test_equal_scores_gain_nothing() -> None:
    users, items = torch.ones(1, 2), torch.ones(9, 2)
    values = evaluate(plan(a_part([(0, 0), (0, 4)], [True] * 9, 1), [], (7,)), users, items)
    assert values["ood/recall_at_7"] == 0.0


class Recording(TorchDispatchMode):
    """Counts matrix products and remembers the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.largest = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = operation(*args, **(kwargs or {}))
        self.products += operation in {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
        made = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.largest = max([self.largest, *made])
        return out


@pytest.mark.parametrize("own", [False, True])
def test_a_pass_makes_one_product_a_block_and_no_tensor_above_its_bound(*, own: bool) -> None:
    world = TwoParts(4, n_users=120, n_items=300, own_candidates=own)
    cells = 5000
    made = plan(world.part, world.hidden, (3, 10), cells, world.other)
    assert len(made.blocks) > 3
    with Recording() as seen:
        top_hits(made, DotProducts(*world.vectors))
    assert seen.products == len(made.blocks)
    assert seen.largest <= cells


def test_ranking_a_block_compiles_into_one_graph() -> None:
    world = TwoParts(4, n_users=20, n_items=60)
    made = plan(world.part, world.hidden, (3,), 2**20, world.other)
    (block,) = made.blocks
    members = [part.candidates for part in made.parts]
    scores = DotProducts(*world.vectors).among(made.candidates)(block.users)
    args = (block.hidden, block.positives, made.columns, members, 3)
    compiled = torch.compile(rank_block, fullgraph=True, backend="eager")
    for found, expected in zip(compiled(scores.clone(), *args), rank_block(scores, *args), strict=True):
        assert torch.equal(found, expected)


class Listed:
    """Scores from a table, which remembers how many users were asked for at a time."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.asked: list[int] = []

    def among(self, candidates: Tensor) -> BlockScores:
        def scores(users: Tensor) -> Tensor:
            self.asked.append(len(users))
            return self.table[users][:, candidates]

        return scores


@pytest.mark.parametrize("own", [False, True])
def test_any_scorer_is_ranked_like_vectors_a_block_at_a_time(*, own: bool) -> None:
    world = TwoParts(6, n_users=40, n_items=50, own_candidates=own)
    made = plan(world.part, world.hidden, (3, 10), 400, world.other)
    scorer = Listed(world.vectors[0] @ world.vectors[1].T)
    table = scorer.table.clone()
    assert evaluate_scorer(made, scorer) == evaluate(made, *world.vectors)
    assert scorer.asked == [len(block.users) for block in made.blocks]
    assert len(scorer.asked) > 3
    assert torch.equal(scorer.table, table)


def test_a_second_table_of_items_is_made_only_where_not_all_are_candidates() -> None:
    items, users = torch.ones(9, 3), torch.ones(4, 3)
    scorer = DotProducts(users, items)
    of_all, of_some = scorer.among(torch.arange(9)), scorer.among(torch.tensor([0, 4, 8]))
    items.zero_()  # a table of its own would not notice
    known = torch.tensor([3, 1])
    assert of_all(known).tolist() == [[0.0] * 9] * 2
    assert of_some(known).tolist() == [[3.0] * 3] * 2
