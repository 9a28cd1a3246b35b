from __future__ import annotations

from collections.abc import Callable
from typing import Any

from painvrl.engine.outcomes import Failed, Pruned
from painvrl.study.report.learning_curves import LossCount, losses

Make = Callable[..., Any]


def test_what_was_lost_is_listed_and_counted_by_reason(record: Make) -> None:
    found = losses(
        [
            record(0, (0.3, 0.1)),
            record(1, Pruned(rung="pretrain/20", message="3 were better", metrics={}), seconds=2.0),
            record(2, Failed(reason="diverged", message="a parameter is not finite"), seconds=3.0),
            record(3, (0.9, 0.9), violated=("seconds is 9, above 5", "memory is high"), seconds=9.0),
            record(4, Failed(reason="diverged", message="again"), seconds=None),
            record(5, None),
        ]
    )
    assert [(row.trial, row.kind, row.reason, row.message) for row in found.rows] == [
        (1, "pruned", "pretrain/20", "3 were better"),
        (2, "failed", "diverged", "a parameter is not finite"),
        (3, "infeasible", "seconds is 9, above 5", ""),
        (3, "infeasible", "memory is high", ""),
        (4, "failed", "diverged", "again"),
    ]
    assert found.counts == (
        LossCount(kind="failed", reason="diverged", trials=2, seconds=3.0),
        LossCount(kind="pruned", reason="pretrain/20", trials=1, seconds=2.0),
        LossCount(kind="infeasible", reason="seconds is 9, above 5", trials=1, seconds=9.0),
        LossCount(kind="infeasible", reason="memory is high", trials=1, seconds=9.0),
    )


def test_a_swept_trial_is_lost_only_where_all_its_points_break_a_constraint(swept: Make) -> None:
    found = losses(
        [
            swept(0, (0.9, 0.9), (0.1, 0.1), broken=(0,)),
            swept(1, (0.9, 0.9), (0.1, 0.1), broken=(0, 1)),
            swept(2, (0.9, 0.9), (0.1, 0.1)),
        ]
    )
    assert [(row.trial, row.kind, row.reason) for row in found.rows] == [(1, "infeasible", "too rare")]
