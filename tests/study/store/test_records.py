from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from painvrl.study.store.records import FINISHED, TrialRecord, TrialState, complete, front_of
from painvrl.study.trial.outcomes import Failed

Plane = Callable[..., Any]
FAILED = Failed(reason="diverged", message="the loss is nan")


def numbers(records: tuple[TrialRecord, ...] | list[TrialRecord]) -> list[int]:
    return [record.number for record in records]


def test_the_front_holds_the_complete_trials_that_no_other_dominates_by_number(plane: Plane) -> None:
    records = plane((0.1, 0.3), FAILED, (0.1, 0.2), None, (0.3, 0.1), (0.2, 0.2)).records
    assert numbers(complete(records)) == [0, 2, 4, 5]
    assert numbers(front_of(records)) == [0, 4, 5]


def test_equal_trials_are_on_the_front_together(plane: Plane) -> None:
    assert numbers(front_of(plane((0.2, 0.2), (0.1, 0.1), (0.2, 0.2)).records)) == [0, 2]


@pytest.mark.parametrize("rows", [(), (None,), (FAILED, None)])
def test_without_a_complete_trial_the_front_is_empty(plane: Plane, rows: tuple[Any, ...]) -> None:
    assert front_of(plane(*rows).records) == ()


def test_what_failed_counts_as_finished_and_what_stopped_or_waits_does_not() -> None:
    assert {state for state in TrialState if state in FINISHED} == {
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAILED,
    }


def test_a_record_has_metrics_or_a_reason_or_neither(plane: Plane) -> None:
    done, failed, running = plane((0.1, 0.3), FAILED, None).records
    assert done.metrics == {"iid/ndcg_at_20": 0.1, "ood/ndcg_at_20": 0.3}
    assert (done.reason, done.message) == (None, None)
    assert failed.metrics == {}
    assert (failed.reason, failed.message) == ("diverged", "the loss is nan")
    assert running.metrics == {}
    assert (running.reason, running.message) == (None, None)
