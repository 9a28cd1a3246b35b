from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.evaluation.metrics import STANDARD, Shown, name, split_name

SlowMetrics = Callable[[Sequence[bool], int, int], dict[str, float]]
Case = tuple[list[list[bool]], list[int], list[int]]


@st.composite
def rankings(draw: st.DrawFn) -> Case:
    """Hits by rank, how many positives each user has, and cut-offs."""
    ranks = draw(st.integers(1, 12))
    rows = draw(st.lists(st.lists(st.booleans(), min_size=ranks, max_size=ranks), min_size=1, max_size=5))
    missed = draw(st.lists(st.integers(0, 20), min_size=len(rows), max_size=len(rows)))
    positives = [max(1, sum(row) + extra) for row, extra in zip(rows, missed, strict=True)]
    ks = sorted(draw(st.sets(st.integers(1, ranks), min_size=1)))
    return rows, positives, ks


def measure(rows: list[list[bool]], positives: list[int], ks: Sequence[int]) -> dict[str, list[list[float]]]:
    shown = Shown(hits=torch.tensor(rows), positives=torch.tensor(positives), ks=ks)
    return {metric.name: metric.at(shown).tolist() for metric in STANDARD}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(case=rankings())
def test_metrics_equal_the_brute_force(slow_metrics: SlowMetrics, case: Case) -> None:
    rows, positives, ks = case
    values = measure(rows, positives, ks)
    assert values.keys() == slow_metrics([True], 1, 1).keys()
    for user, row in enumerate(rows):
        for place, k in enumerate(ks):
            expected = slow_metrics(row, positives[user], k)
            for metric in values:
                assert values[metric][user][place] == pytest.approx(expected[metric], abs=1e-12), (metric, k)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(case=rankings())
def test_metrics_lie_between_zero_and_one_and_recall_grows_with_the_cutoff(case: Case) -> None:
    rows, positives, ks = case
    for metric, per_user in measure(rows, positives, ks).items():
        for values in per_user:
            assert all(0 <= value <= 1 + 1e-12 for value in values)
            if metric in {"recall", "hit_rate"}:
                assert values == sorted(values)


def test_the_ideal_list_holds_at_most_k_positives() -> None:
    values = measure([[True, True, False]], [5], [2, 3])
    assert values["ndcg"][0][0] == pytest.approx(1.0)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert values["ndcg"][0][1] == pytest.approx((1 + 1 / math.log2(3)) / ideal)
    assert values["recall"][0] == [0.4, 0.4]


def test_the_ideal_list_holds_no_more_than_the_positives() -> None:
    assert measure([[True, False, False]], [1], [3])["ndcg"] == [[1.0]]


def test_legacy_ndcg_is_inflated_on_a_hand_computed_case() -> None:
    # One hit of four positives, at rank 3: the gain is 1 / log2(4) = 0.5. The best list of four positives
    # gains 1 + 0.630930 + 0.5 + 0.430677 = 2.561606; the best order of the one hit gains 1.
    values = measure([[False, False, True, False, False]], [4], [5])
    assert values["ndcg"][0][0] == pytest.approx(0.5 / 2.561606, abs=1e-6)
    assert values["ndcg_invrl"][0][0] == pytest.approx(0.5)


def test_legacy_ndcg_without_a_hit_is_zero() -> None:
    values = measure([[False, False]], [3], [1, 2])
    assert values["ndcg_invrl"] == [[0.0, 0.0]]
    assert values["hit_rate"] == [[0.0, 0.0]]


def test_metrics_are_per_user() -> None:
    rows, positives, ks = [[True, False], [False, True], [False, False]], [1, 2, 3], [1, 2]
    together = measure(rows, positives, ks)
    for user, row in enumerate(rows):
        alone = measure([row], [positives[user]], ks)
        assert {metric: values[user] for metric, values in together.items()} == {
            metric: values[0] for metric, values in alone.items()
        }


def test_a_metric_has_one_name() -> None:
    assert name("ood", "recall", 20) == "ood/recall_at_20"
    assert split_name("ood_far/hit_rate_at_5") == ("ood_far", "hit_rate", 5)


@pytest.mark.parametrize(
    "full", ["recall_at_5", "iid/recall", "iid/recall_at_0", "iid/a/b_at_5", "/recall_at_5"]
)
def test_what_is_no_name_is_not_split(full: str) -> None:
    with pytest.raises(ValueError, match="PART/METRIC_at_K"):
        split_name(full)
