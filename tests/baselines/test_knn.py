from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.baselines import knn
from painvrl.baselines.knn import ContentKnnConfig, ItemKnnConfig, content_knn, item_knn, nearest
from painvrl.baselines.port import Inputs

Slow = Callable[[int, int], float]


def taken_by(inputs: Inputs) -> list[set[int]]:
    train = inputs.prepared.train
    found: list[set[int]] = [set() for _ in range(train.n_users)]
    for user, item in zip(train.user.tolist(), train.item.tolist(), strict=True):
        found[user].add(item)
    return found


def slow_scores(taken: Sequence[set[int]], n_items: int, neighbours: int, similar: Slow) -> list[list[float]]:
    """Every score, one pair at a time."""
    near = []
    for item in range(n_items):
        others = [other for other in range(n_items) if other != item and similar(item, other) > 0]
        others.sort(key=lambda other: (-similar(item, other), other))
        near.append(others[:neighbours])
    return [
        [sum(similar(item, other) for other in near[item] if other in items) for item in range(n_items)]
        for items in taken
    ]


@pytest.mark.parametrize(("neighbours", "shrinkage"), [(1, 0.0), (3, 2.0), (50, 10.0)])
@pytest.mark.parametrize("cells", [1, 2**22])
def test_item_knn_is_the_literal_sum_over_shrunk_cosines(
    random_inputs: Any,
    table: Any,
    monkeypatch: pytest.MonkeyPatch,
    neighbours: int,
    shrinkage: float,
    cells: int,
) -> None:
    monkeypatch.setattr(knn, "BLOCK_CELLS", cells)
    inputs = random_inputs()
    taken = taken_by(inputs)
    users = [{user for user, items in enumerate(taken) if item in items} for item in range(10)]

    def similar(item: int, other: int) -> float:
        # Rounded: two cosines that are equal on paper must tie here as they do in float32.
        bottom = math.sqrt(len(users[item])) * math.sqrt(len(users[other])) + shrinkage
        return float(np.float32(len(users[item] & users[other]) / bottom)) if bottom > 0 else 0.0

    scorer = item_knn(inputs)(ItemKnnConfig(neighbours=neighbours, shrinkage=shrinkage))
    expected = slow_scores(taken, 10, neighbours, similar)
    torch.testing.assert_close(table(scorer, inputs), torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("neighbours", "power"), [(1, 1.0), (3, 4.0), (50, 0.5)])
def test_content_knn_is_the_literal_sum_over_powers_of_cosines(
    random_inputs: Any, table: Any, neighbours: int, power: float
) -> None:
    inputs = random_inputs()
    taken, rows = taken_by(inputs), inputs.prepared.features.tolist()
    warm = set().union(*taken)

    def similar(item: int, other: int) -> float:
        product = math.fsum(a * b for a, b in zip(rows[item], rows[other], strict=True))
        cosine = product / math.hypot(*rows[item]) / math.hypot(*rows[other])
        return max(cosine, 0.0) ** power if other in warm else 0.0

    scorer = content_knn(inputs)(ContentKnnConfig(neighbours=neighbours, power=power))
    expected = slow_scores(taken, 10, neighbours, similar)
    torch.testing.assert_close(table(scorer, inputs), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_cold_items_are_scored_by_content_and_not_by_who_took_them(random_inputs: Any, table: Any) -> None:
    inputs = random_inputs()
    by_users = table(item_knn(inputs)(ItemKnnConfig()), inputs)
    by_content = table(content_knn(inputs)(ContentKnnConfig()), inputs)
    assert (by_users[:, 8:] == 0).all()
    assert len(by_content[:, 8].unique()) > 1
    assert len(by_content[:, 9].unique()) > 1


def test_an_item_without_features_has_no_neighbours(make_inputs: Any, table: Any) -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    inputs = make_inputs([(0, 0), (0, 1)], 1, features)
    assert table(content_knn(inputs)(ContentKnnConfig()), inputs).tolist() == [[0.0, 0.0, 1.0]]


def test_of_equally_similar_items_the_first_are_the_nearest() -> None:
    rows = np.array([[9, 5, 5, 7, 5], [0, 0, 0, 0, 0], [1, 1, 9, 1, 0]], dtype=np.float32)
    square = np.vstack([rows, np.zeros((2, 5), dtype=np.float32)])
    found = nearest(lambda first, last: square[first:last].copy(), 5, 2).toarray()
    assert found.tolist() == [
        [0, 5, 0, 7, 0],
        [0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_what_is_not_similar_is_no_neighbour_however_few_there_are() -> None:
    square = np.array([[9, -1, -2, 3], [-1, 9, 0, -4], [-2, 0, 9, 5], [3, -4, 5, 9]], dtype=np.float32)
    for neighbours in (3, 4):
        found = nearest(lambda first, last: square[first:last].copy(), 4, neighbours)
        assert found.toarray().tolist() == [[0, 0, 0, 3], [0, 0, 0, 0], [0, 0, 0, 5], [3, 0, 5, 0]]


def test_only_the_candidates_are_scored(random_inputs: Any, table: Any) -> None:
    inputs = random_inputs()
    scorer = item_knn(inputs)(ItemKnnConfig())
    some = scorer.among(torch.tensor([7, 2]))(torch.tensor([4, 1]))
    assert torch.equal(some, table(scorer, inputs)[[4, 1]][:, [7, 2]])
