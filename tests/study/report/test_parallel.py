from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from painvrl.study.report.parallel import picture

Make = Callable[..., Any]


def point(sparsity: float, weight: float | None, kind: str) -> dict[str, object]:
    known = {"mask.sparsity": sparsity, "mask.irm_weight": weight, "fusion.kind": kind}
    return {name: value for name, value in known.items() if value is not None}


def test_a_line_runs_through_hyperparameters_and_objectives_and_the_front_comes_last(
    trials: Make, record: Make
) -> None:
    figure = picture(
        trials(
            record(0, (0.3, 0.1), point=point(0.1, 100.0, "invariant")),
            record(1, (0.1, 0.1), point=point(0.5, 0.1, "branch")),
            record(2, (0.1, 0.3), point=point(0.9, 1.0, "branch")),
            record(3, (0.5, 0.5), preset="erm", point={}),
        )
    )
    assert figure is not None
    (lines,) = figure.data
    axes = {axis.label: axis for axis in lines.dimensions}
    assert list(axes) == [
        "mask.sparsity",
        "mask.irm_weight",
        "fusion.kind",
        "iid/ndcg_at_20",
        "ood/ndcg_at_20",
    ]
    # All are dominated by the preset, which has no point: the order is that of the numbers.
    assert list(axes["mask.sparsity"]["values"]) == [0.1, 0.5, 0.9]
    assert list(axes["mask.irm_weight"]["values"]) == pytest.approx([2, -1, 0])
    assert list(axes["mask.irm_weight"].ticktext)[0::4] == ["0.1", "100"]
    assert list(axes["fusion.kind"]["values"]) == [1, 0, 0]
    assert list(axes["fusion.kind"].ticktext) == ["branch", "invariant"]
    assert list(lines.line.color) == [0, 0, 0]


def test_the_lines_of_the_front_are_drawn_over_the_others(trials: Make, record: Make) -> None:
    figure = picture(
        trials(
            record(0, (0.3, 0.3), point=point(0.1, 1.0, "branch")),
            record(1, (0.1, 0.1), point=point(0.5, 1.0, "branch")),
        )
    )
    assert figure is not None
    assert list(figure.data[0].line.color) == [0, 1]
    assert list(figure.data[0].dimensions[0]["values"]) == [0.5, 0.1]


def test_a_trial_without_a_hyperparameter_lies_below_the_others_and_is_named_so(
    trials: Make, record: Make
) -> None:
    figure = picture(
        trials(
            record(0, (0.3, 0.1), point=point(0.0, 1.0, "branch")),
            record(1, (0.1, 0.3), point=point(1.0, None, "branch")),
            record(2, (0.2, 0.2), point=point(0.5, 10.0, "branch")),
        )
    )
    assert figure is not None
    weight = figure.data[0].dimensions[1]
    assert list(weight["values"]) == pytest.approx([0.0, -0.12, 1.0])
    assert dict(zip(weight.ticktext, weight.tickvals, strict=True))["absent"] == pytest.approx(-0.12)


def test_an_axis_of_whole_numbers_has_ticks_at_those_alone_that_trials_had(
    trials: Make, record: Make
) -> None:
    counts = {"environments.count": {"type": "int", "low": 2, "high": 64, "log": True}}
    points = [record(place, (0.1, 0.1), point={"environments.count": 2**place}) for place in range(1, 7)]
    figure = picture(trials(*points, space=counts))
    assert figure is not None
    (lines,) = figure.data
    assert list(lines.dimensions[0].ticktext) == ["2", "4", "8", "16", "32", "64"]
    assert list(lines.dimensions[0].tickvals) == pytest.approx(list(lines.dimensions[0]["values"]))
    assert list(lines.customdata) == [str(place) for place in range(1, 7)]
    assert lines.dimensions[1].tickvals is None, "a selection along it snaps to nothing"


def test_one_trial_draws_no_lines(trials: Make, record: Make) -> None:
    assert picture(trials(record(0, (0.3, 0.1)))) is None


def test_a_line_is_a_point_and_runs_through_what_was_swept(swept_trials: Make, swept: Make) -> None:
    figure = picture(
        swept_trials(
            swept(0, (0.3, 0.1), (0.2, 0.2), (0.1, 0.1), point=point(0.1, 100.0, "invariant")),
            swept(1, (0.1, 0.05), (0.1, 0.3), point=point(0.5, 0.1, "branch")),
            swept(2, (0.5, 0.01), preset="erm", point={}),
        )
    )
    assert figure is not None
    (lines,) = figure.data
    axes = {axis.label: list(axis["values"]) for axis in lines.dimensions}
    assert axes["fusion.cold_weight"] == [0.2, 0.0, 0.0, 0.1, 0.1]
    assert axes["mask.sparsity"] == [0.1, 0.5, 0.1, 0.1, 0.5]
    assert axes["ood/ndcg_at_20"] == [0.1, 0.05, 0.1, 0.2, 0.3]
    assert list(lines.line.color) == [0, 0, 1, 1, 1]
