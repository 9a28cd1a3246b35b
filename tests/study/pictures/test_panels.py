from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from painvrl.study.pictures.panels import Panel, panels_of
from painvrl.study.report import front_table

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
    return [dot.row.trial for dot in dots]


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
    assert [(dot.row.trial, dot.x, dot.y) for dot in panel.front] == [
        (0, 0.1, 0.3),
        (3, 0.2, 0.2),
        (1, 0.3, 0.1),
    ]
    assert trials(panel.dominated) == [2]
    assert panel.iid_only is not None
    assert panel.iid_only.row.trial == 1


def test_the_line_leaves_out_what_is_beaten_on_this_plane_alone(shelf: Shelf) -> None:
    names = (*NDCG, "iid/recall_at_20")
    rows = [row(0.1, 0.3), row(0.3, 0.1), row(0.1, 0.1, **{"iid/recall_at_20": 0.9})]
    panel = panels_of(front_table(shelf(rows, names)))[1]
    assert trials(panel.front) == [0, 2, 1]
    assert trials(panel.edge) == [0, 1]


def test_presets_picks_and_broken_constraints_are_told_apart(shelf: Shelf) -> None:
    table = front_table(shelf([row(0.1, 0.3), row(0.3, 0.1), row(0.05, 0.05), row(0.04, 0.04)], NDCG))
    off = (replace(table.dominated[0], preset="erm"), replace(table.dominated[1], violated=("time <= 3",)))
    picks = {"balanced": "0", "mine": "0", "gone": "9"}
    panel = panels_of(replace(table, dominated=off, picks=picks))[1]
    assert [(name, dot.row.trial) for name, dot in panel.presets] == [("erm", 2)]
    assert [(name, dot.row.trial) for name, dot in panel.picks] == [("balanced, mine", 0)]
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
    assert [curve.trial for curve in panel.curves] == [2, 0, 4]
    names = [[dot.row.name for dot in dots] for curve in panel.curves for dots in (curve.dots, curve.front)]
    assert names == [
        ["2.0", "2.2", "2.1"],
        ["2.0", "2.2", "2.1"],
        ["0.2", "0.1", "0.0"],
        ["0.1", "0.0"],
        ["4.1", "4.0"],
        ["4.0"],
    ]
    on_curves = {dot.row.name for curve in panel.curves for dot in curve.front}
    assert {dot.row.name for dot in panel.front} - on_curves == {"1.0"}


def test_a_point_that_breaks_a_constraint_is_on_no_curve(swept_table: Shelf) -> None:
    table = swept_table([(0.3, 0.1), (0.1, 0.05)], [(0.1, 0.3), (0.05, 0.1), (0.01, 0.2)])
    broken = tuple(replace(row, violated=("too slow",)) for row in table.dominated if row.name != "1.2")
    kept = tuple(row for row in table.dominated if row.name == "1.2")
    (panel,) = panels_of(replace(table, dominated=(*broken, *kept)))
    assert [(one.trial, [dot.row.name for dot in one.dots]) for one in panel.curves] == [(1, ["1.2", "1.0"])]


def test_trials_of_one_point_make_no_curve(shelf: Shelf) -> None:
    (_, panel) = panels_of(front_table(shelf([row(0.1, 0.3), row(0.3, 0.1), row(0.05, 0.05)], NDCG)))
    assert panel.curves == ()


def test_a_preset_is_named_once_where_it_is_itself(swept_table: Shelf) -> None:
    table = swept_table([(0.2, 0.2), (0.3, 0.1), (0.1, 0.3)], [(0.05, 0.1), (0.25, 0.15)], presets=[0, 1])
    (panel,) = panels_of(table)
    assert sorted(dot.row.name for _, dot in panel.presets) == ["0.0", "1.0"]
    assert {dot.row.name for dot in panel.front} == {"0.0", "0.1", "0.2", "1.1"}
