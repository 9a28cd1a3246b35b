from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from painvrl.study.front import FrontTable, front_table
from painvrl.study.plots.figure import front_figure, front_page, title_of
from painvrl.study.plots.panels import panels_of
from painvrl.study.plots.theme import TRAININGS

Shelf = Callable[..., Any]

NAMES = ("iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20")
FRONT = ((0.2, 0.1, 0.3, 0.4), (0.4, 0.3, 0.1, 0.2), (0.1, 0.05, 0.05, 0.05))


@pytest.fixture
def table(shelf: Shelf) -> FrontTable:
    """Two trials on the front, one dominated that is a preset, and a pick."""
    made = front_table(shelf([dict(zip(NAMES, values, strict=True)) for values in FRONT], NAMES))
    return replace(made, dominated=(replace(made.dominated[0], preset="erm"),), picks={"balanced": "0"})


def test_the_page_shows_every_trial_and_needs_no_network(table: FrontTable) -> None:
    page = front_page(table)
    assert page is not None
    assert "front (2)" in page
    assert "dominated (1)" in page
    assert all(f"trial {number}" in page for number in range(3))
    assert 'src="http' not in page
    assert len(page) > 1_000_000  # plotly itself is inside


def test_both_planes_are_on_the_page_with_their_metrics_as_axes(table: FrontTable) -> None:
    layout = front_figure(panels_of(table), "toy").layout
    assert [layout[axis].title.text for axis in ("xaxis", "yaxis", "xaxis2", "yaxis2")] == [
        "iid/recall_at_20",
        "ood/recall_at_20",
        "iid/ndcg_at_20",
        "ood/ndcg_at_20",
    ]


def test_each_group_is_drawn_where_its_trials_are_and_named_once(table: FrontTable) -> None:
    drawn = list(front_figure(panels_of(table), "toy").data)
    on_ndcg = {trace.name: trace for trace in drawn if trace.xaxis == "x2"}
    assert {name: list(zip(trace.x, trace.y, strict=True)) for name, trace in on_ndcg.items()} == {
        "best on this plane": [(0.1, 0.4), (0.3, 0.2)],
        "dominated (1)": [(0.05, 0.05)],
        "front (2)": [(0.1, 0.4), (0.3, 0.2)],
        "what IID alone would choose": [(0.3, 0.2)],
        "preset behind the front": [(0.05, 0.05)],
        "picked": [(0.1, 0.4)],
    }
    assert on_ndcg["preset behind the front"].text == ("erm",)
    assert on_ndcg["picked"].text == ("balanced",)
    named = [trace.name for trace in drawn if trace.showlegend]
    assert sorted(named) == sorted(set(on_ndcg))


def test_the_mouse_shows_trial_objectives_hyperparameters_and_preset(table: FrontTable) -> None:
    hover = {
        text.split("<br>")[0]: text
        for trace in front_figure(panels_of(table), "toy").data
        for text in trace.hovertext or ()
    }
    assert hover["<b>trial 1</b>"] == (
        "<b>trial 1</b><br>iid/recall_at_20: 0.4000<br>iid/ndcg_at_20: 0.3000<br>ood/recall_at_20: 0.1000<br>"
        "ood/ndcg_at_20: 0.2000<br>mask.sparsity: 0.01"
    )
    assert "<b>trial 2</b>, preset erm" in hover


def test_values_that_differ_by_rounding_alone_are_one(table: FrontTable) -> None:
    near = tuple(replace(row, metrics=dict.fromkeys(NAMES, 0.1 + 1e-16 * row.trial)) for row in table.rows)
    drawn = front_figure(panels_of(replace(table, rows=near, dominated=(), picks={}))).data
    assert {value for trace in drawn for value in (*trace.x, *trace.y)} == {0.1}


def test_labels_of_points_close_together_stand_on_different_sides(table: FrontTable) -> None:
    presets = tuple(
        replace(
            table.dominated[0],
            trial=9 + place,
            name=str(9 + place),
            preset=name,
            metrics=dict.fromkeys(NAMES, 0.2),
        )
        for place, name in enumerate(("erm", "irm", "invrl", "ultragcn"))
    )
    drawn = front_figure(panels_of(replace(table, dominated=presets))).data
    (sides,) = [trace.textposition for trace in drawn if "behind" in trace.name and trace.xaxis == "x2"]
    assert len(set(sides)) == len(presets)


def test_presets_on_the_front_have_another_sign_than_those_behind_it(table: FrontTable) -> None:
    on = (replace(table.rows[0], preset="irm"), *table.rows[1:])
    drawn = {trace.name: trace for trace in front_figure(panels_of(replace(table, rows=on))[:1]).data}
    signs = {name: drawn[f"preset {name} the front"] for name in ("on", "behind")}
    assert [signs[name].text for name in signs] == [("irm",), ("erm",)]
    assert [signs[name].marker.symbol for name in signs] == ["diamond", "diamond-open"]


def test_without_dominated_points_the_legend_still_has_their_group(table: FrontTable) -> None:
    alone = replace(table, dominated=(), picks={})
    named = [trace.name for trace in front_figure(panels_of(alone)[:1]).data]
    assert named == ["best on this plane", "dominated (0)", "front (2)", "what IID alone would choose"]


def test_names_are_escaped_in_labels(table: FrontTable) -> None:
    row = replace(table.rows[0], point={"fusion.kind": "<script>"}, preset="<b>")
    shown = replace(table, rows=(row,), dominated=(), iid_only=None, picks={"<i>": row.name})
    drawn = list(front_figure(panels_of(shown), "<u>").data)
    hovers = [text for trace in drawn for text in trace.hovertext or ()]
    assert all("&lt;script&gt;" in text and "preset &lt;b&gt;" in text for text in hovers)
    labels = {text for trace in drawn for text in trace.text or ()}
    assert labels == {"&lt;b&gt;", "&lt;i&gt;"}
    assert front_figure(panels_of(shown), "<u>").layout.title.text == "&lt;u&gt;"


def test_one_part_alone_has_no_page(shelf: Shelf) -> None:
    names = ["iid/ndcg_at_20", "iid/recall_at_20"]
    assert front_page(front_table(shelf([dict.fromkeys(names, 0.1)], names))) is None


def test_the_points_of_a_training_have_its_colour_and_line(swept_table: Shelf) -> None:
    table = swept_table([(0.3, 0.1), (0.1, 0.3), (0.2, 0.05)], [(0.25, 0.15), (0.15, 0.25)], [(0.2, 0.2)])
    traces = {trace.name: trace for trace in front_figure(panels_of(table)).data}
    assert list(traces) == [
        "best on this plane",
        "dominated (1)",
        "front, other trainings (1)",
        "front, training 0 (2)",
        "front, training 1 (2)",
        "what IID alone would choose",
    ]
    curve = traces["front, training 0 (2)"]
    assert list(zip(curve.x, curve.y, strict=True)) == [(0.1, 0.3), (0.2, 0.05), (0.3, 0.1)]
    assert list(curve.marker.size) == [10, 0, 10], "the dominated point has its own sign"
    assert curve.marker.color == curve.line.color == TRAININGS[0]
    assert traces["front, training 1 (2)"].line.color == TRAININGS[1]
    assert [text.split("<br>")[0] for text in curve.hovertext] == [
        "<b>trial 0.1</b>",
        "<b>trial 0.2</b>",
        "<b>trial 0.0</b>",
    ]


def test_the_title_counts_trials_or_points_and_their_trainings(table: FrontTable, swept_table: Shelf) -> None:
    assert title_of(table) == "toy: 2 of 3 trials on the front"
    swept = swept_table([(0.3, 0.1), (0.1, 0.3), (0.05, 0.05)], [(0.01, 0.01)])
    assert title_of(swept) == "toy: 2 of 4 points on the front, of 1 of 2 trainings"
