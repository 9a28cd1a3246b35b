from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from painvrl.study.front import front_table
from painvrl.study.plots.panels import Panel, layers, panels_of
from painvrl.study.plots.theme import TRAININGS

Shelf = Callable[..., Any]

NDCG = ("iid/ndcg_at_20", "ood/ndcg_at_20")


def row(iid: float, ood: float, **more: float) -> dict[str, float]:
    """Metrics of both parts; recall is the reverse of NDCG, so that the planes differ."""
    return {
        "iid/ndcg_at_20": iid,
        "ood/ndcg_at_20": ood,
        "iid/recall_at_20": ood,
        "ood/recall_at_20": iid,
        "iid/recall_at_5": 0.1,
        "ood/recall_at_5": 0.1,
        **more,
    }


def planes(panels: Sequence[Panel]) -> list[tuple[str, str]]:
    return [(panel.x, panel.y) for panel in panels]


def trials(dots: Sequence[Any]) -> list[int]:
    return [row.trial for row in dots]


def test_recall_and_ndcg_have_a_plane_at_the_objectives_cutoff_objectives_or_not(shelf: Shelf) -> None:
    table = front_table(shelf([row(0.1, 0.2)], NDCG))
    assert planes(panels_of(table)) == [
        ("iid/recall_at_20", "ood/recall_at_20"),
        ("iid/ndcg_at_20", "ood/ndcg_at_20"),
    ]


def test_every_cutoff_and_every_metric_of_the_objectives_has_a_plane(shelf: Shelf) -> None:
    names = ("iid/precision_at_20", "ood/recall_at_5")
    rows = [row(0.1, 0.2, **{"iid/precision_at_20": 0.3, "ood/precision_at_20": 0.4})]
    assert planes(panels_of(front_table(shelf(rows, names)))) == [
        ("iid/recall_at_5", "ood/recall_at_5"),
        ("iid/recall_at_20", "ood/recall_at_20"),
        ("iid/ndcg_at_20", "ood/ndcg_at_20"),
        ("iid/precision_at_20", "ood/precision_at_20"),
    ]


def test_of_several_ood_parts_each_has_its_planes(shelf: Shelf) -> None:
    names = ("iid/ndcg_at_5", "ood_far/ndcg_at_5", "ood_near/ndcg_at_5")
    rows = [{"iid/ndcg_at_5": 0.1, "ood_near/ndcg_at_5": 0.2, "ood_far/ndcg_at_5": 0.3}]
    assert planes(panels_of(front_table(shelf(rows, names)))) == [
        ("iid/ndcg_at_5", "ood_near/ndcg_at_5"),
        ("iid/ndcg_at_5", "ood_far/ndcg_at_5"),
    ]


def test_without_two_parts_or_without_a_front_there_is_no_plane(shelf: Shelf) -> None:
    assert panels_of(front_table(shelf([{"iid/ndcg_at_20": 0.1}], ["iid/ndcg_at_20"]))) == ()
    assert panels_of(front_table(shelf([None], NDCG))) == ()


def test_every_trial_stands_at_its_metrics_in_its_group(shelf: Shelf) -> None:
    table = front_table(shelf([row(0.1, 0.3), row(0.3, 0.1), row(0.05, 0.05), row(0.2, 0.2)], NDCG))
    panel = panels_of(table)[1]
    assert trials(panel.front) == [0, 3, 1]
    assert panel.at(panel.front) == ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1])
    assert trials(panel.dominated) == [2]
    assert panel.iid_only is not None
    assert panel.iid_only.trial == 1


def test_the_line_leaves_out_what_is_beaten_on_this_plane_alone(shelf: Shelf) -> None:
    names = (*NDCG, "iid/recall_at_20")
    rows = [row(0.1, 0.3), row(0.3, 0.1), row(0.1, 0.1, **{"iid/recall_at_20": 0.9})]
    panel = panels_of(front_table(shelf(rows, names)))[1]
    assert trials(panel.front) == [0, 2, 1]
    assert trials(panel.edge) == [0, 1]


def test_presets_picks_and_broken_constraints_are_reported_apart(shelf: Shelf) -> None:
    table = front_table(shelf([row(0.1, 0.3), row(0.3, 0.1), row(0.05, 0.05), row(0.04, 0.04)], NDCG))
    off = (replace(table.dominated[0], preset="erm"), replace(table.dominated[1], violated=("time <= 3",)))
    picks = {"balanced": "0", "mine": "0", "gone": "9"}
    panel = panels_of(replace(table, dominated=off, picks=picks))[1]
    assert [(name, row.trial) for name, row in panel.presets] == [("erm", 2)]
    assert [(name, row.trial) for name, row in panel.picks] == [("balanced, mine", 0)]
    assert (trials(panel.dominated), trials(panel.infeasible)) == ([2], [3])


def test_a_trial_without_measurements_has_no_place(shelf: Shelf) -> None:
    table = front_table(shelf([row(0.1, 0.3), row(0.05, 0.05)], NDCG))
    blind = replace(table.dominated[0], metrics={}, violated=("out_of_memory",))
    panel = panels_of(replace(table, dominated=(blind,)))[1]
    assert (panel.dominated, panel.infeasible) == ((), ())


def test_the_points_of_a_training_make_a_curve_if_one_of_them_is_on_the_front(swept_table: Shelf) -> None:
    table = swept_table(
        [(0.3, 0.1), (0.1, 0.3), (0.05, 0.05)],  # two on the front
        [(0.2, 0.2)],  # alone
        [(0.15, 0.25), (0.25, 0.15), (0.22, 0.17)],  # three
        [(0.01, 0.02), (0.02, 0.01)],  # none
        [(0.12, 0.29), (0.01, 0.01)],  # one of two
    )
    (panel,) = panels_of(table)
    assert [[row.name for row in curve] for curve in panel.curves] == [
        ["2.0", "2.2", "2.1"],
        ["0.2", "0.1", "0.0"],
        ["4.1", "4.0"],
    ]
    on_curves = [[row.name for row in layer.rows] for layer in layers(panel) if layer.curve]
    assert on_curves == [["2.0", "2.2", "2.1"], ["0.1", "0.0"], ["4.0"]]


def test_a_point_that_breaks_a_constraint_is_on_no_curve(swept_table: Shelf) -> None:
    table = swept_table([(0.3, 0.1), (0.1, 0.05)], [(0.1, 0.3), (0.05, 0.1), (0.01, 0.2)])
    broken = tuple(replace(row, violated=("too slow",)) for row in table.dominated if row.name != "1.2")
    kept = tuple(row for row in table.dominated if row.name == "1.2")
    (panel,) = panels_of(replace(table, dominated=(*broken, *kept)))
    assert [[row.name for row in curve] for curve in panel.curves] == [["1.2", "1.0"]]


def test_trials_of_one_point_make_no_curve(shelf: Shelf) -> None:
    (_, panel) = panels_of(front_table(shelf([row(0.1, 0.3), row(0.3, 0.1), row(0.05, 0.05)], NDCG)))
    assert panel.curves == ()


def test_a_preset_is_named_once_where_it_is_itself(swept_table: Shelf) -> None:
    table = swept_table([(0.2, 0.2), (0.3, 0.1), (0.1, 0.3)], [(0.05, 0.1), (0.25, 0.15)], presets=[0, 1])
    (panel,) = panels_of(table)
    assert sorted(row.name for _, row in panel.presets) == ["0.0", "1.0"]
    assert {row.name for row in panel.front} == {"0.0", "0.1", "0.2", "1.1"}


def test_each_point_of_the_front_is_in_one_layer_and_those_with_names_lie_above(swept_table: Shelf) -> None:
    table = swept_table([(0.2, 0.05), (0.1, 0.3), (0.3, 0.1)], [(0.25, 0.15), (0.15, 0.25)], [(0.2, 0.2)])
    off = (replace(table.dominated[0], preset="erm"),)
    (panel,) = panels_of(replace(table, dominated=off, picks={"balanced": "2.0"}))
    shown = {layer.name: [row.name for row in layer.rows] for layer in layers(panel)}
    assert list(shown.items()) == [
        ("dominated", ["0.0"]),
        ("breaks a constraint", []),
        ("front, other trainings", ["2.0"]),
        ("front, training 0", ["0.1", "0.2"]),
        ("front, training 1", ["1.1", "1.0"]),
        ("preset on the front", []),
        ("preset behind the front", ["0.0"]),
        ("what IID alone would choose", ["0.2"]),
        ("picked", ["2.0"]),
    ]
    assert [layer.names for layer in layers(panel) if layer.names] == [("erm",), ("balanced",)]
    whole = {layer.name: [row.name for row in layer.rows] for layer in layers(panel, trainings=0)}
    assert whole["front"] == ["0.1", "1.1", "2.0", "1.0", "0.2"]
    assert len(whole) == len(shown) - 2


def test_of_many_trainings_the_ones_with_most_of_the_front_have_colours(
    swept_table: Shelf, arc: Shelf
) -> None:
    count = len(TRAININGS) + 3
    (panel,) = panels_of(swept_table(*(arc(9 + trial, 0.3) for trial in range(count))))
    sizes = Counter(row.trial for row in panel.front)
    drawn = list(layers(panel))
    curves = [layer for layer in drawn if layer.curve]
    assert [layer.colour for layer in curves] == list(TRAININGS)
    (rest,) = [layer for layer in drawn if layer.name == "front, other trainings"]
    shown = {layer.curve[0].trial for layer in curves}
    assert min(sizes[trial] for trial in shown) >= max(sizes[trial] for trial in set(sizes) - shown)
    assert {row.trial for row in rest.rows} == set(sizes) - shown
    assert sum(len(layer.rows) for layer in curves) + len(rest.rows) == len(panel.front)
