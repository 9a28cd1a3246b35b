from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from painvrl.invariance.label_recovery import label_recovery


def drawn(count: int, length: int, seed: int) -> Tensor:
    return torch.randint(count, (length,), generator=torch.Generator().manual_seed(seed))


def slow_accuracy(label: Tensor, truth: Tensor, found: int, planted: int) -> float:
    """Every naming in turn."""
    size = max(found, planted)
    shares = [
        sum(names[one] == true for one, true in zip(label.tolist(), truth.tolist(), strict=True)) / len(truth)
        for names in permutations(range(size))
    ]
    return max(shares)


@pytest.mark.parametrize(("found", "planted"), [(2, 2), (3, 3), (4, 2), (2, 3), (1, 2)])
def test_it_is_the_accuracy_of_the_best_naming_from_chance_to_bayes(found: int, planted: int) -> None:
    label, truth = drawn(found, 60, 0), drawn(planted, 60, 1)
    # By chance: every label beside every true one.
    chance = slow_accuracy(label.repeat_interleave(60), truth.repeat(60), found, planted)
    expected = (slow_accuracy(label, truth, found, planted) - chance) / (0.9 - chance)
    assert label_recovery(label, truth, found, planted, 0.9) == pytest.approx(expected)


def test_it_does_not_ask_for_names() -> None:
    truth = drawn(3, 500, 0)
    assert label_recovery((truth + 1) % 3, truth, 3, 3, 1.0) == pytest.approx(1.0)
    assert label_recovery(truth, truth, 3, 3, 0.8) > 1.0, "luck may be better than the best classifier"


@pytest.mark.parametrize(
    "sizes", [(0.5, 0.5), (0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.1, 0.1), (0.45, 0.45, 0.1)]
)
@pytest.mark.parametrize("true_share", [0.5, 0.7])
def test_labels_that_know_nothing_are_at_chance_whatever_their_sizes(
    sizes: tuple[float, ...], true_share: float
) -> None:
    def sized(shares: tuple[float, ...], seed: int) -> Tensor:
        draws = torch.Generator().manual_seed(seed)
        return torch.multinomial(torch.tensor(shares), 100_000, replacement=True, generator=draws)

    truth = sized((true_share, 1 - true_share), 0)
    assert abs(label_recovery(sized(sizes, 1), truth, len(sizes), 2, 0.9)) < 0.03


def test_one_environment_for_everything_knows_nothing() -> None:
    truth = drawn(2, 1000, 0)
    assert label_recovery(torch.zeros_like(truth), truth, 4, 2, 0.8) == pytest.approx(0.0)


def test_an_environment_that_was_split_counts_half() -> None:
    truth = drawn(2, 10_000, 0)
    halves = 2 * truth + drawn(2, 10_000, 1)
    assert label_recovery(halves, truth, 4, 2, 1.0) == pytest.approx((0.5 - 0.25) / 0.75, abs=0.02)


def test_rows_whose_environment_nobody_knows_do_not_count() -> None:
    truth, label = drawn(2, 100, 0), drawn(2, 100, 1)
    more = torch.cat([truth, torch.full((50,), -1)])
    assert label_recovery(torch.cat([label, drawn(2, 50, 2)]), more, 2, 2, 0.8) == label_recovery(
        label, truth, 2, 2, 0.8
    )


def test_where_nothing_can_be_known_there_is_no_number() -> None:
    assert math.isnan(label_recovery(drawn(2, 9, 0), drawn(2, 9, 1), 2, 2, 0.5))
