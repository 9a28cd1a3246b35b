from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core.rng import generator
from painvrl.data.draws import _lowest_within, draw, halve, protected_core, rank_within
from painvrl.data.interactions import Interactions


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.25, 0.5, 0.75])), max_size=30))
def test_ranks_within_groups_match_a_slow_loop(rows):
    group = torch.tensor([g for g, _ in rows], dtype=torch.int64)
    priority = torch.tensor([p for _, p in rows], dtype=torch.float64)
    slow = [
        sum(h == g and (q, other) < (p, row) for other, (h, q) in enumerate(rows))
        for row, (g, p) in enumerate(rows)
    ]
    assert rank_within(group, 5, priority).tolist() == slow


@given(
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=30),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 100),
    st.data(),
)
def test_a_core_keeps_every_user_and_item_alive_and_no_more_than_it_needs(
    pairs, per_user, per_item, seed, data
):
    columns = torch.tensor(sorted(pairs))
    rows = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs))))
    interactions = Interactions(user=columns[:, 0], item=columns[:, 1], n_users=6, n_items=8)
    core = protected_core(
        interactions, rows, per_user=per_user, per_item=per_item, generator=generator(seed, "core")
    )
    assert not (core & ~rows).any()
    drawable, kept = interactions.select(rows), interactions.select(core)
    assert (kept.user_degree() >= drawable.user_degree().clamp(max=per_user)).all()
    assert (kept.item_degree() >= drawable.item_degree().clamp(max=per_item)).all()
    users, items = (drawable.user_degree() > 0).sum(), (drawable.item_degree() > 0).sum()
    assert core.sum() <= per_user * users + per_item * items


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.25, 0.5, float("inf")])), max_size=30),
    st.integers(0, 3),
)
def test_the_lowest_of_a_group_are_those_of_the_lowest_rank(rows, count):
    group = torch.tensor([g for g, _ in rows], dtype=torch.int64)
    priority = torch.tensor([p for _, p in rows], dtype=torch.float64)
    expected = (rank_within(group, 5, priority) < count) & (priority < torch.inf)
    assert torch.equal(_lowest_within(group, 5, priority, count), expected)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1.0, 2.0])), min_size=1, max_size=40),
    st.integers(0, 50),
    st.data(),
)
def test_a_draw_is_the_beginning_of_the_sorted_keys(rows, seed, data):
    available = torch.tensor([is_available for is_available, _ in rows])
    log_weight = torch.tensor([weight for _, weight in rows], dtype=torch.float64)
    size = data.draw(st.integers(0, int(available.sum())))
    exponential = torch.empty(len(rows), dtype=torch.float64).exponential_(generator=generator(seed, "x"))
    key = torch.where(available, exponential.log() - log_weight, torch.inf)
    drawn = draw(available, size, generator=generator(seed, "x"), log_weight=log_weight)
    assert set(drawn.nonzero()[:, 0].tolist()) == set(key.argsort(stable=True)[:size].tolist())


def test_of_equal_keys_the_earlier_rows_are_drawn(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda keys, generator: keys.fill_(1.0))
    rows = torch.tensor([True, False, True, True, True])
    drawn = draw(rows, 2, generator=generator(0, "x"))
    assert drawn.tolist() == [True, False, True, False, False]


def test_a_core_is_drawn_at_random():
    columns = torch.tensor([(u, i) for u in range(20) for i in range(20)])
    interactions = Interactions(user=columns[:, 0], item=columns[:, 1], n_users=20, n_items=20)
    everything = torch.ones(400, dtype=torch.bool)
    total = torch.zeros(400)
    for seed in range(300):
        total += protected_core(
            interactions, everything, per_user=2, per_item=0, generator=generator(seed, "core")
        )
    # Each row is in the core with probability 0.1: 30 times of 300, deviation 5.2.
    assert total.sum() == 300 * 40
    assert abs(total - 30).max() < 5 * 5.2


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 50), st.data())
def test_a_draw_takes_exactly_that_many_of_the_rows(rows, seed, data):
    available = torch.tensor(rows)
    size = data.draw(st.integers(0, sum(rows)))
    drawn = draw(available, size, generator=generator(seed, "draw"))
    assert int(drawn.sum()) == size
    assert not (drawn & ~available).any()


def successive(weights: list[float], size: int) -> list[float]:
    """The chance of each row to be among ``size`` successive weighted draws, by enumeration."""
    chance = [0.0] * len(weights)
    for order in itertools.permutations(range(len(weights)), size):
        probability, left = 1.0, sum(weights)
        for row in order:
            probability *= weights[row] / left
            left -= weights[row]
        for row in order:
            chance[row] += probability
    return chance


@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_are_drawn_with_their_weights_as_enumerated(size):
    weights = [1.0, 2.0, 4.0, 0.5]
    log_weight = torch.tensor([*weights, 9.0], dtype=torch.float64).log()
    rows = torch.tensor([True, True, True, True, False])
    source = generator(7, "weights")
    repeats = 3000
    counts = torch.zeros(5)
    for _ in range(repeats):
        counts += draw(rows, size, generator=source, log_weight=log_weight)
    for count, chance in zip(counts.tolist(), [*successive(weights, size), 0.0], strict=True):
        deviation = (repeats * chance * (1 - chance)) ** 0.5
        assert abs(count - repeats * chance) <= 4.5 * deviation + 1e-6


def test_a_weight_beyond_floating_point_still_orders_the_draw():
    log_weight = torch.tensor([-5000.0, 0.0, -9000.0], dtype=torch.float64)
    drawn = draw(torch.ones(3, dtype=torch.bool), 2, generator=generator(0, "x"), log_weight=log_weight)
    assert drawn.tolist() == [True, True, False]


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 50))
def test_halves_are_disjoint_cover_and_differ_by_at_most_one(rows, seed):
    available = torch.tensor(rows, dtype=torch.bool)
    first, second = halve(available, generator=generator(seed, "halves"))
    assert not (first & second).any()
    assert torch.equal(first | second, available)
    assert int(second.sum()) - int(first.sum()) in (0, 1)
