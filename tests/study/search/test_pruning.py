from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from painvrl.run.config import TrainConfig
from painvrl.study.search.pruning import PruningConfig, ahead_of, places, rungs_of

BEST, MIDDLE, WORST = (0.3, 0.3), (0.2, 0.2), (0.1, 0.1)


def alone(points: Any) -> list[Any]:
    """Trials with one point each."""
    return [[point] for point in points]


def config(tiny_settings: dict[str, object], **sections: object) -> TrainConfig:
    training = {"max_epochs": 120, "evaluate_every": 10}
    return TrainConfig.model_validate({**tiny_settings, "training": training, **sections})


def test_rungs_are_evaluations_of_the_pretraining(tiny_settings: dict[str, object]) -> None:
    assert rungs_of(config(tiny_settings), PruningConfig()) == {"pretrain/20"}
    found = rungs_of(config(tiny_settings), PruningConfig(evaluations=(1, 4)))
    assert found == {"pretrain/10", "pretrain/40"}


@pytest.mark.parametrize("kind", ["sum", "scalar", "item", "branch", "invariant"])
def test_what_pretrains_nothing_is_judged_in_the_training_of_its_fusion(
    tiny_settings: dict[str, object], kind: str
) -> None:
    plain = config(tiny_settings, mask={"source": "ones"}, fusion={"kind": kind})
    name = kind if kind in {"sum", "scalar", "item"} else "invariant"
    assert rungs_of(plain, PruningConfig(evaluations=(3,))) == {f"{name}/30"}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_who_is_dominated_is_behind_in_whatever_order_they_came(order: tuple[int, ...]) -> None:
    points = [(BEST, MIDDLE, WORST)[place] for place in order]
    assert [ahead_of(alone(points), row) for row in range(3)] == list(order)


def test_within_a_rank_who_adds_more_hypervolume_is_ahead() -> None:
    # Alone they hold 0.20, 0.25 and 0.09; behind the second the first adds 0.5 * 0.2, the third 0.1 * 0.4.
    points = [(1.0, 0.2), (0.5, 0.5), (0.1, 0.9)]
    assert [ahead_of(alone(points), row) for row in range(3)] == [1, 0, 2]


def test_a_point_close_to_a_better_one_comes_after_a_far_one() -> None:
    # (0.79, 0.5) has the second largest box, but next to (0.8, 0.499) it adds hardly anything.
    points = [(0.8, 0.5), (0.79, 0.501), (0.3, 0.9)]
    assert [ahead_of(alone(points), row) for row in range(3)] == [0, 2, 1]


def test_of_equal_points_the_earlier_one_is_ahead() -> None:
    assert [ahead_of(alone([BEST, BEST, WORST]), row) for row in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_point_that_is_not_finite_is_behind_all_that_are(bad: float) -> None:
    points = [WORST, (bad, 0.9), BEST]
    assert ahead_of(alone(points), 1) == 2
    assert ahead_of(alone(points), 0) == 1


def test_a_trial_stands_where_its_first_point_stands() -> None:
    # Its second point dominates the first trial's only one; its first is the worst of all.
    assert [ahead_of([[MIDDLE], [WORST, BEST]], own) for own in range(2)] == [1, 0]
    # 0.30 and 0.20 alone; behind the former the latter adds less than (0.1, 0.9) does.
    curves = [[(0.6, 0.5)], [(0.5, 0.4), (0.1, 0.9)], [(0.65, 0.3), (0.2, 0.2)]]
    assert [ahead_of(curves, own) for own in range(3)] == [0, 1, 2]


def test_a_rival_with_many_points_ahead_counts_once() -> None:
    curves = [[(0.1 * step, 1 - 0.1 * step) for step in range(1, 10)], [(0.49, 0.5)]]
    assert ahead_of(curves, 1) == 1


def test_a_trial_is_behind_only_by_its_finite_points() -> None:
    curves = [[BEST], [(math.nan, 0.9), MIDDLE], [WORST], [(math.inf, 1.0)]]
    assert [ahead_of(curves, own) for own in range(4)] == [0, 1, 2, 3]


def test_everybody_has_a_place_of_their_own() -> None:
    points = np.random.default_rng(0).random((25, 2))
    assert sorted(ahead_of(alone(points), row) for row in range(25)) == list(range(25))


def test_one_in_eta_goes_on_and_never_nobody() -> None:
    assert [places(count, 3.0) for count in (1, 2, 3, 4, 6, 7, 40)] == [1, 1, 1, 2, 2, 3, 14]
    assert places(10, 1.5) == 7


@pytest.mark.parametrize(
    "wrong", [{"eta": 1.0}, {"evaluations": [0]}, {"evaluations": []}, {"eta": float("nan")}]
)
def test_a_pruning_that_keeps_everybody_or_begins_before_the_training_is_refused(
    wrong: dict[str, float],
) -> None:
    with pytest.raises(ValidationError):
        PruningConfig.model_validate(wrong)
