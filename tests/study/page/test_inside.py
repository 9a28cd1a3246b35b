from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from painvrl.study.page.inside import environments_picture as picture
from painvrl.study.page.inside import insides
from painvrl.study.trial.outcomes import Completed

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
    figure = picture(made, insides(made))
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
    figure = picture(made, (inside,))
    assert figure is not None
    assert {panel_of(figure, line) for line in figure.data} == {"mean gate of the mask"}


def test_no_round_no_picture(trials: Make, record: Make) -> None:
    made = trials(record(0, (0.3, 0.1)))
    assert insides(made) == ()
    assert picture(made, ()) is None


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
