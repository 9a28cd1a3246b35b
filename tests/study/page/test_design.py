from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from painvrl.study.page.design import design

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
    assert (change.knob, change.low, change.high) == ("a", 10.0, 1000.0)
    assert change.along == pytest.approx([0, 2 / np.sqrt(2)])


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


def test_a_conditional_knob_is_at_its_mean_where_it_is_absent_and_says_so(space: Make) -> None:
    tree = {"a": {"type": "float", "low": 0, "high": 9}}
    made = design([{"a": 1.0}, {}, {"a": 3.0}, {"a": 5.0}, {}], space(tree).root)
    assert made.matrix[:, 1] == pytest.approx(np.array([-2, 0, 0, 2, 0]) / np.sqrt(8 / 3))
    assert made.matrix[:, 2].tolist() == [0, 1, 0, 0, 1]


def test_a_constant_knob_is_left_out_with_a_reason(space: Make) -> None:
    tree = {
        "a": {"type": "float", "low": 0, "high": 9},
        "b": {"type": "float", "low": 0, "high": 9},
        "c": {"type": "categorical", "choices": ["x", None]},
    }
    made = design([{"a": 2.0, "c": "x"}, {"a": 2.0, "c": None}], space(tree).root)
    assert made.left_out == {"a": "has one value in all of these trials", "b": "is in none of these trials"}
    assert [change.knob for change in made.changes] == ["c"], "None is a choice as any other"
