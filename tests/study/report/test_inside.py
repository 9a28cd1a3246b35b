from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from painvrl.engine.outcomes import Completed
from painvrl.study.report.inside import environments_picture, insides, weight_curves, weights_picture

Make = Callable[..., Any]
BOTH = {"iid/ndcg_at_20": 0.3, "ood/ndcg_at_20": 0.1}
ROUNDS = (
    {"environments/size_1": 99.0, "environments/size_2": 1.0, "mask/density": 0.9, "mask/sparsity": 0.0},
    {
        "environments/size_1": 30.0,
        "environments/size_2": 60.0,
        "environments/size_3": 10.0,
        "mask/density": 0.4,
    },
)


def test_the_last_round_counts(trials: Make, record: Make) -> None:
    made = trials(record(3, Completed(metrics=BOTH, rounds=ROUNDS)), record(4, (0.1, 0.05)))
    (inside,) = insides(made)
    assert (inside.trial, inside.on_front, inside.count) == (3, True, 3)
    assert (inside.largest, inside.smallest) == (pytest.approx(0.6), pytest.approx(0.1))
    assert (inside.density, inside.sparsity) == (0.4, None)
    assert (inside.iid, inside.ood) == (0.3, 0.1)


def test_the_picture_sets_both_axes_against_each_quantity(trials: Make, record: Make, panel_of: Make) -> None:
    made = trials(record(3, Completed(metrics=BOTH, rounds=ROUNDS)))
    figure = environments_picture(made, insides(made))
    assert figure is not None
    shown = sorted((panel_of(figure, line), line.name, *line.x, *line.y) for line in figure.data)
    assert shown == [
        ("mean gate of the mask", "front", 0.4, 0.1),
        ("mean gate of the mask", "front", 0.4, 0.3),
        ("share of the largest environment", "front", pytest.approx(0.6), 0.1),
        ("share of the largest environment", "front", pytest.approx(0.6), 0.3),
        ("share of the smallest environment", "front", pytest.approx(0.1), 0.1),
        ("share of the smallest environment", "front", pytest.approx(0.1), 0.3),
    ]


def test_a_round_without_environments_leaves_their_panels_out(
    trials: Make, record: Make, panel_of: Make
) -> None:
    made = trials(record(0, Completed(metrics=BOTH, rounds=({"mask/density": 0.4},))))
    (inside,) = insides(made)
    assert (inside.count, inside.largest) == (0, None)
    figure = environments_picture(made, (inside,))
    assert figure is not None
    assert {panel_of(figure, line) for line in figure.data} == {"mean gate of the mask"}


def test_no_round_no_picture(trials: Make, record: Make) -> None:
    made = trials(record(0, (0.3, 0.1)))
    assert insides(made) == ()
    assert environments_picture(made, ()) is None


def test_a_training_is_shown_once_whatever_its_points(swept_trials: Make, swept: Make) -> None:
    def learned(record: Any) -> Any:
        return replace(
            record,
            outcome=replace(record.outcome, rounds=ROUNDS),
            points=tuple(replace(one, outcome=replace(one.outcome, rounds=ROUNDS)) for one in record.points),
        )

    made = swept_trials(
        learned(swept(0, (0.3, 0.1), (0.2, 0.2), (0.1, 0.35))),
        learned(swept(1, (0.15, 0.15), (0.31, 0.01))),
        learned(swept(2, (0.1, 0.1), (0.05, 0.05))),
    )
    assert made.on_front == {"0.0", "0.1", "0.2", "1.1"}
    assert [(row.trial, row.on_front, row.iid, row.ood) for row in insides(made)] == [
        (0, True, 0.2, 0.2),
        (1, True, 0.15, 0.15),
        (2, False, 0.1, 0.1),
    ]


def trace(*epsilon: float) -> tuple[dict[str, float], ...]:
    return tuple(
        {"round": 1.0 + place // 2, "step": 9.0 + 10 * (place % 2), "epsilon": one}
        | {"cosine": -one, "risk": 2 * one, "penalty": 3 * one}
        for place, one in enumerate(epsilon)
    )


def completed(*epsilon: float) -> Completed:
    return Completed(metrics={"iid/ndcg_at_20": 0.3, "ood/ndcg_at_20": 0.1}, mask_trace=trace(*epsilon))


@pytest.fixture
def curves(shelf: Make, record: Make) -> Any:
    records = [
        record(0, completed(0.5, 0.25, 0.125, 0.0), point={"mask.irm_weight": 100.0}),
        record(1, (0.2, 0.2), point={"mask.irm_weight": 5.0}),
        record(2, completed(1.0, 0.75), point={"mask.irm_weight": 0.1}),
    ]
    return weight_curves(shelf([], []), records)


def test_trials_that_kept_a_trace_come_with_their_irm_weight_lightest_first(curves: Any) -> None:
    assert [(curve.trial, curve.irm_weight) for curve in curves] == [(2, 0.1), (0, 100.0)]
    assert curves[1].points == trace(0.5, 0.25, 0.125, 0.0)


def test_rounds_are_drawn_side_by_side_in_the_colour_of_the_weight(curves: Any, panel_of: Make) -> None:
    figure = weights_picture(curves)
    assert figure is not None
    lines = {(line.name, panel_of(figure, line)): (list(line.x), list(line.y)) for line in figure.data}
    light, heavy = "trial 2, IRM weight 0.1", "trial 0, IRM weight 100"
    assert len(lines) == 2 * 4
    assert lines[light, "ε: weight of the empirical risk"] == ([9, 19], [1.0, 0.75])
    assert lines[heavy, "ε: weight of the empirical risk"] == ([9, 19, 29, 39], [0.5, 0.25, 0.125, 0.0])
    assert lines[heavy, "cosine of the two gradients"][1] == [-0.5, -0.25, -0.125, 0.0]
    assert lines[heavy, "penalty"][1] == [1.5, 0.75, 0.375, 0.0]
    colours = {line.name: line.line.color for line in figure.data}
    assert colours == {light: "rgb(74, 120, 208)", heavy: "rgb(196, 98, 45)"}
    assert [line.name for line in figure.data if line.showlegend] == [light, heavy]


def test_no_trace_no_weights_picture() -> None:
    assert weights_picture(()) is None
