from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plotext
import pytest

from painvrl.study.front import FrontTable, front_table
from painvrl.study.plots.panels import panels_of
from painvrl.study.plots.text import front_text

Plane = Callable[..., Any]


@pytest.fixture
def table(plane: Plane) -> FrontTable:
    return front_table(plane((0.1, 0.3), (0.3, 0.1), (0.2, 0.2), (0.1, 0.1)))


def draw(table: FrontTable, *, width: int = 60, height: int = 20, colour: bool = False) -> str:
    return front_text(panels_of(table), width=width, height=height, colour=colour)


def test_each_trial_has_its_sign_at_its_place(table: FrontTable) -> None:
    lines = draw(table).splitlines()[:20]
    assert max(map(len, lines)) == 60
    spots = {
        (column, line): sign
        for line, text in enumerate(lines)
        for column, sign in enumerate(text)
        if sign in "●·◎★"
    }
    by_sign = {sign: sorted(spot for spot, one in spots.items() if one == sign) for sign in "●·◎"}
    (left, top), (middle, half) = by_sign["●"]
    ((low_x, low_y),) = by_sign["·"]
    ((right, bottom),) = by_sign["◎"]
    assert left == low_x < middle < right
    assert top < half < bottom == low_y
    assert abs((left + right) / 2 - middle) <= 1
    assert abs((top + bottom) / 2 - half) <= 1


def test_names_of_picks_and_presets_stand_beside_their_trials_on_both_halves(table: FrontTable) -> None:
    off = (replace(table.dominated[0], preset="erm"),)
    text = draw(replace(table, dominated=off, picks={"ood": "0", "iid": "1"}))
    assert "★ ood" in text
    assert "iid ★" in text
    assert "◇ erm" in text, "behind the front"


def test_below_the_planes_stands_which_trial_has_which_sign(table: FrontTable) -> None:
    text = draw(replace(table, picks={"mine": "2"}))
    assert text.splitlines()[-4:] == [
        "· dominated: trial 3",
        "● front: trials 0, 2, 1",
        "◎ what IID alone would choose: trial 1",
        "★ picked: trial 2",
    ]


def test_colours_are_codes_around_the_same_text(table: FrontTable) -> None:
    plain, coloured = draw(table), draw(table, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[38;5;" in coloured
    assert plotext.uncolorize(coloured) == plain


def test_the_size_is_what_was_asked_for_whatever_the_terminal_is(table: FrontTable) -> None:
    lines = draw(table, width=150, height=40).splitlines()
    assert max(map(len, lines)) == 150
    assert sum(line.rstrip().endswith(("│", "┐", "┘")) for line in lines) == 38


def test_plotexts_one_figure_is_left_empty(table: FrontTable) -> None:
    once = draw(table)
    assert draw(table) == once


def test_one_trial_alone_can_be_drawn(plane: Plane) -> None:
    assert "◎" in draw(front_table(plane((0.0, 0.0))))


def test_a_legend_of_many_points_counts_them_and_their_trainings(swept_table: Plane, arc: Plane) -> None:
    table = swept_table(arc(31, 0.3), arc(32, 0.3), [(0.01, 0.01), (0.02, 0.005)])
    size = len(table.rows)
    assert size > 50
    legend = draw(table).splitlines()[-3:]
    assert legend == [
        "· dominated: trials 2.0, 2.1",
        f"● front: {size} points of 2 trainings",
        f"◎ what IID alone would choose: trial {table.rows[0].name}",
    ]


def test_a_legend_of_few_points_or_of_trials_without_points_names_them(
    plane: Plane, swept_table: Plane
) -> None:
    few = swept_table([(0.3, 0.1), (0.1, 0.3)])
    assert "● front: trials 0.1, 0.0" in draw(few).splitlines()
    many = front_table(plane(*((step / 100, (30 - step) / 100) for step in range(30))))
    assert f"● front: trials {', '.join(str(number) for number in range(30))}" in draw(many).splitlines()
