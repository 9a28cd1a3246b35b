from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from painvrl.run.hyperparameters import Point
from painvrl.study.report.design import design

Make = Callable[..., Any]


def test_a_number_is_standardised_on_its_own_scale_and_turned_over_its_quartiles(space: Make) -> None:
    made = design(
        [{"a": 1.0}, {"a": 10.0}, {"a": 100.0}, {"a": 1000.0}, {"a": 10000.0}],
        space({"a": {"type": "float", "low": 1, "high": 1e4, "log": True}}).root,
    )
    assert made.matrix[:, 0].tolist() == [1.0] * 5
    # Powers of ten are evenly spaced in the logarithm: -2 .. 2, with a spread of sqrt(2).
    assert made.matrix[:, 1] == pytest.approx(np.array([-2, -1, 0, 1, 2]) / np.sqrt(2))
    (change,) = made.changes
    assert (change.hyperparameter, change.low, change.high) == ("a", 10.0, 1000.0)
    assert made.along[0] == pytest.approx([0, 2 / np.sqrt(2)])


def test_equal_quartiles_fall_back_to_the_ends(space: Make) -> None:
    points = [{"n": 4}] * 6 + [{"n": 2}, {"n": 6}]
    (change,) = design(points, space({"n": {"type": "int", "low": 2, "high": 6}}).root).changes
    assert (change.low, change.high) == (2, 6)


def test_a_choice_is_compared_with_the_most_frequent_one(space: Make) -> None:
    tree = {"c": {"type": "categorical", "choices": ["x", "y", "z"]}}
    made = design([{"c": one} for one in "yzyxyz"], space(tree).root)
    assert [(change.low, change.high) for change in made.changes] == [("y", "z"), ("y", "x")]
    assert made.matrix[:, 1].tolist() == [0, 1, 0, 0, 0, 1]
    assert made.matrix[:, 2].tolist() == [0, 0, 0, 1, 0, 0]


def test_a_conditional_hyperparameter_is_at_its_mean_where_it_is_absent_and_says_so(space: Make) -> None:
    tree = {"a": {"type": "float", "low": 0, "high": 9}}
    made = design([{"a": 1.0}, {}, {"a": 3.0}, {"a": 5.0}, {}], space(tree).root)
    assert made.matrix[:, 1] == pytest.approx(np.array([-2, 0, 0, 2, 0]) / np.sqrt(8 / 3))
    assert made.matrix[:, 2].tolist() == [0, 1, 0, 0, 1]


HANGS = {
    "kind": {"type": "categorical", "choices": ["x", "y", "z"]},
    "a": {"type": "float", "low": 0, "high": 9, "when": {"kind": "x"}},
}


def test_an_absence_that_a_choice_says_already_is_not_said_twice(space: Make) -> None:
    points: list[Point] = [{"kind": "x", "a": float(place)} for place in range(4)]
    points += [{"kind": "y"}, {"kind": "z"}, {"kind": "y"}]
    made = design(points, space(HANGS).root)
    # Ones, two choices, the number: a fifth column would be the sum of the two choices.
    assert made.matrix.shape == (7, 4)
    assert np.linalg.matrix_rank(made.matrix) == 4


@pytest.mark.parametrize("child_first", [False, True])
def test_two_hyperparameters_that_are_absent_together_share_one_indicator_in_whichever_order_they_stand(
    space: Make, *, child_first: bool
) -> None:
    tree = {name: {"type": "float", "low": 0, "high": 9} for name in ("a", "b")} | {
        "kind": {"type": "categorical", "choices": ["x", "y"]}
    }
    points: list[Point] = []
    for place, kind in enumerate("xxxxxyyy"):
        both: Point = {"a": float(place), "b": float(place**2 % 5)} if kind == "x" else {}
        points.append({**both, "kind": kind})
    order = tuple(tree) if child_first else tuple(reversed(tree))
    with_kind = design(points, space({name: tree[name] for name in order}).root)
    assert with_kind.matrix.shape == (8, 4)
    assert np.linalg.matrix_rank(with_kind.matrix) == 4
    alone = design(points, space({name: tree[name] for name in "ab"}).root)
    assert alone.matrix.shape == (8, 4), "ones, both numbers, one absence"


def test_only_a_choice_is_named_with_its_values(space: Make) -> None:
    points: list[Point] = [{"kind": "x", "a": float(place)} for place in range(4)]
    made = design([*points, {"kind": "y"}, {"kind": "z"}], space(HANGS).root)
    assert [change.name for change in made.changes] == ["kind: x → y", "kind: x → z", "a"]


def test_a_constant_hyperparameter_is_left_out_with_a_reason(space: Make) -> None:
    tree = {
        "a": {"type": "float", "low": 0, "high": 9},
        "b": {"type": "float", "low": 0, "high": 9},
        "c": {"type": "categorical", "choices": ["x", None]},
    }
    made = design([{"a": 2.0, "c": "x"}, {"a": 2.0, "c": None}], space(tree).root)
    assert made.left_out == {"a": "has one value in all of these trials", "b": "is in none of these trials"}
    assert [change.hyperparameter for change in made.changes] == ["c"], "None is a choice as any other"
