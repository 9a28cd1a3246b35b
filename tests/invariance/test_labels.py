from __future__ import annotations

import numpy as np
import pytest
import torch

from painvrl.invariance.labels import moved_share, with_least_size


def test_what_moved_is_the_share_of_labels_that_differ() -> None:
    assert moved_share(torch.tensor([0, 1, 2, 1]), torch.tensor([0, 1, 1, 1])) == 0.25


def guarded(label: list[int], explained: list[float], count: int, needed: int) -> tuple[list[int], int]:
    found, filled = with_least_size(torch.tensor(label), torch.tensor(explained), count, needed)
    return found.tolist(), filled


def test_the_guard_fills_a_poor_environment_with_the_worst_explained_interactions() -> None:
    found, filled = guarded([0, 0, 0, 0, 0, 1], [5.0, 1.0, 4.0, 2.0, 3.0, 9.0], count=2, needed=3)
    assert found == [0, 1, 0, 1, 0, 1]
    assert filled == 1


def test_the_guard_leaves_rich_environments_alone() -> None:
    assert guarded([0, 0, 1, 1], [1.0] * 4, count=2, needed=2) == ([0, 0, 1, 1], 0)


@pytest.mark.parametrize("seed", range(6))
def test_donors_keep_the_least_size_themselves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, needed = 4, 10
    label = rng.choice(count, size=45, p=[0.7, 0.28, 0.02, 0.0]).tolist()
    found, filled = guarded(label, rng.standard_normal(45).tolist(), count, needed)
    assert np.bincount(found, minlength=count).min() >= needed
    assert filled >= 2
    # Only members of environments that could spare them have moved.
    moved = [before for before, after in zip(label, found, strict=True) if before != after]
    assert set(moved) <= {0, 1}


def test_filling_moves_no_more_than_what_is_missing() -> None:
    # 16 and 14 can spare 6 and 4 of the 10 that the third environment lacks.
    label = [0] * 16 + [1] * 14
    found, filled = guarded(label, [float(value) for value in range(30)], count=3, needed=10)
    assert np.bincount(found, minlength=3).tolist() == [10, 10, 10]
    assert [place for place in range(30) if found[place] != label[place]] == [*range(6), *range(16, 20)]
    assert filled == 2
