from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from painvrl.study.page.inside import weight_curves
from painvrl.study.page.inside import weights_picture as picture
from painvrl.study.trial.outcomes import Completed

Make = Callable[..., Any]


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
    figure = picture(curves)
    assert figure is not None
    lines = {(line.name, panel_of(figure, line)): (list(line.x), list(line.y)) for line in figure.data}
    light, heavy = "trial 2, IRM weight 0.1", "trial 0, IRM weight 100"
    assert len(lines) == 2 * 4
    assert lines[light, "ε: weight of the empirical risk"] == ([9, 19], [1.0, 0.75])
    assert lines[heavy, "ε: weight of the empirical risk"] == ([9, 19, 29, 39], [0.5, 0.25, 0.125, 0.0])
    assert lines[heavy, "cosine of the two gradients"][1] == [-0.5, -0.25, -0.125, 0.0]
    assert lines[heavy, "penalty"][1] == [1.5, 0.75, 0.375, 0.0]
    colours = {line.name: line.line.color for line in figure.data}
    assert colours == {light: "rgb(58, 91, 160)", heavy: "rgb(196, 98, 45)"}
    assert [line.name for line in figure.data if line.showlegend] == [light, heavy]


def test_no_trace_no_picture() -> None:
    assert picture(()) is None
