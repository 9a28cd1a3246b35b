from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from painvrl.study.pictures.layers import layers
from painvrl.study.pictures.panels import panels_of
from painvrl.study.pictures.theme import TRAININGS

Shelf = Callable[..., Any]


def test_each_point_of_the_front_is_in_one_layer_and_those_with_names_lie_above(swept_table: Shelf) -> None:
    table = swept_table([(0.2, 0.05), (0.1, 0.3), (0.3, 0.1)], [(0.25, 0.15), (0.15, 0.25)], [(0.2, 0.2)])
    off = (replace(table.dominated[0], preset="erm"),)
    (panel,) = panels_of(replace(table, dominated=off, picks={"balanced": "2.0"}))
    shown = {layer.name: [dot.row.name for dot in layer.dots] for layer in layers(panel)}
    assert list(shown.items()) == [
        ("dominated", ["0.0"]),
        ("breaks a constraint", []),
        ("front, other trainings", ["2.0"]),
        ("front, training 0", ["0.1", "0.2"]),
        ("front, training 1", ["1.1", "1.0"]),
        ("preset", ["0.0"]),
        ("what IID alone would choose", ["0.2"]),
        ("picked", ["2.0"]),
    ]
    assert [layer.names for layer in layers(panel) if layer.names] == [("erm",), ("balanced",)]
    whole = {layer.name: [dot.row.name for dot in layer.dots] for layer in layers(panel, trainings=0)}
    assert whole["front"] == ["0.1", "1.1", "2.0", "1.0", "0.2"]
    assert len(whole) == len(shown) - 2


def test_of_many_trainings_the_ones_with_most_of_the_front_have_colours(
    swept_table: Shelf, arc: Shelf
) -> None:
    count = len(TRAININGS) + 3
    (panel,) = panels_of(swept_table(*(arc(9 + trial, 0.3) for trial in range(count))))
    sizes = {curve.trial: len(curve.front) for curve in panel.curves}
    drawn = list(layers(panel))
    curves = [layer for layer in drawn if layer.curve]
    assert [layer.colour for layer in curves] == list(TRAININGS)
    (rest,) = [layer for layer in drawn if layer.name == "front, other trainings"]
    shown = {layer.curve[0].row.trial for layer in curves}
    assert min(sizes[trial] for trial in shown) >= max(sizes[trial] for trial in set(sizes) - shown)
    assert {dot.row.trial for dot in rest.dots} == set(sizes) - shown
    assert sum(len(layer.dots) for layer in curves) + len(rest.dots) == len(panel.front)
