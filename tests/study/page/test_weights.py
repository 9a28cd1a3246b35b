from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from painvrl.engine.outcomes import Completed
from painvrl.study.page.weights import picture, weight_curves

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


def test_rounds_are_drawn_side_by_side_in_the_colour_of_the_weight(curves: Any) -> None:
    figure = picture(curves)
    assert figure is not None
    lines = [line for line in figure.data if line.mode == "lines"]
    assert len(lines) == 2 * 4
    light, heavy = lines[0], lines[4]
    assert (list(light.x), list(light.y)) == ([9, 19], [1.0, 0.75])
    assert (list(heavy.x), list(heavy.y)) == ([9, 19, 29, 39], [0.5, 0.25, 0.125, 0.0])
    assert light.line.color != heavy.line.color
    assert list(lines[5].y) == [-0.5, -0.25, -0.125, 0.0]
    assert [line.yaxis for line in lines[:4]] == ["y", "y2", "y3", "y4"]
    (scale,) = [line.marker.colorbar for line in figure.data if line.mode == "markers"]
    assert list(scale.ticktext) == ["0.1", "1", "10", "100"]


def test_one_weight_needs_no_scale(curves: Any) -> None:
    figure = picture(curves[:1])
    assert figure is not None
    assert figure.data[-1].marker.showscale is False


def test_no_trace_no_picture() -> None:
    assert picture(()) is None
