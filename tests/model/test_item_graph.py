from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.data.interactions import Interactions
from painvrl.model import item_graph
from painvrl.model.item_graph import ItemNeighbours, strongest_neighbours
from painvrl.model.training_data import training_data

Listed = list[tuple[int, int]]


def neighbours(listed: Listed, n_users: int, n_items: int, count: int) -> ItemNeighbours:
    columns = torch.tensor(listed).reshape(-1, 2)
    return strongest_neighbours(columns[:, 0], columns[:, 1], n_users, n_items, count)


def slow(listed: Listed, n_items: int, count: int) -> list[list[tuple[int, float]]]:
    """Each item's neighbours and weights from UltraGCN's formula, the heaviest first."""
    takers = [{user for user, item in listed if item == each} for each in range(n_items)]
    graph = [[len(takers[i] & takers[j]) for j in range(n_items)] for i in range(n_items)]
    total = [sum(row) for row in graph]
    found = []
    for i in range(n_items):
        weights = {
            j: graph[i][j] / (total[i] - graph[i][i]) * math.sqrt(total[i] / total[j])
            for j in range(n_items)
            if j != i and graph[i][j] > 0
        }
        strongest = sorted(weights, key=lambda j: (-weights[j], j))[:count]
        found.append([(j, weights[j]) for j in strongest])
    return found


def listed_of(made: ItemNeighbours) -> list[list[tuple[int, float]]]:
    rows = zip(made.index.tolist(), made.weight.tolist(), strict=True)
    return [[(j, w) for j, w in zip(*row, strict=True) if w > 0] for row in rows]


def assert_same(made: ItemNeighbours, expected: list[list[tuple[int, float]]]) -> None:
    for found, wanted in zip(listed_of(made), expected, strict=True):
        assert [j for j, _ in found] == [j for j, _ in wanted]
        assert [w for _, w in found] == pytest.approx([w for _, w in wanted], rel=1e-6)


pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=40, unique=True)


@settings(max_examples=60, deadline=None)
@given(listed=pairs, count=st.integers(1, 10))
def test_neighbours_and_weights_are_those_of_the_literal_formula(listed: Listed, count: int) -> None:
    # Whole small numbers make many ties: of equal weights the lower numbers are taken.
    assert_same(neighbours(listed, 7, 9, count), slow(listed, 9, count))


@pytest.mark.parametrize("paths", [1, 20, 45, 1000])
def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch, paths: int) -> None:
    draw = torch.Generator().manual_seed(1)
    listed = [(int(u), int(i)) for u, i in (torch.rand(12, 15, generator=draw) < 0.3).nonzero()]
    whole = neighbours(listed, 12, 15, 4)
    monkeypatch.setattr(item_graph, "_PATHS", paths)
    blocks = neighbours(listed, 12, 15, 4)
    assert torch.equal(whole.index, blocks.index)
    assert torch.equal(whole.weight, blocks.weight)


def test_an_item_without_neighbours_is_filled_up_with_itself_at_no_weight() -> None:
    # Item 0: its user took nothing else. Items 1 and 2 were taken together. Item 3 is cold.
    made = neighbours([(0, 0), (1, 1), (1, 2)], 2, 4, 3)
    assert made.index.tolist() == [[0, 0, 0], [2, 1, 1], [1, 2, 2], [3, 3, 3]]
    assert made.weight.tolist() == [[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_a_cold_item_is_nobodys_neighbour() -> None:
    draw = torch.Generator().manual_seed(2)
    taken = torch.rand(10, 8, generator=draw) < 0.5
    taken[:, 5] = False
    made = neighbours([(int(u), int(i)) for u, i in taken.nonzero()], 10, 8, 7)
    assert 5 not in made.index[made.weight > 0].tolist()
    assert made.weight[5].tolist() == [0.0] * 7


def test_the_order_of_the_pairs_does_not_matter() -> None:
    listed = [(0, 0), (0, 1), (0, 4), (1, 1), (1, 3), (1, 4), (2, 0), (2, 5), (3, 3), (3, 5)]
    first, second = neighbours(listed, 4, 6, 2), neighbours(listed[::-1], 4, 6, 2)
    assert torch.equal(first.index, second.index)
    assert torch.equal(first.weight, second.weight)


def test_training_data_compute_their_neighbours_once() -> None:
    columns = torch.tensor([(0, 0), (0, 1), (1, 1), (1, 2)])
    train = Interactions(user=columns[:, 0], item=columns[:, 1], n_users=2, n_items=3)
    data = training_data(train, torch.device("cpu"))
    made = data.item_neighbours(2)
    assert_same(made, slow([(0, 0), (0, 1), (1, 1), (1, 2)], 3, 2))
    assert data.item_neighbours(2) is made
    assert data.item_neighbours(1).index.shape == (3, 1)
