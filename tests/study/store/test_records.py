from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from painvrl.engine.outcomes import Failed, Pruned
from painvrl.study.store.records import FINISHED, TrialRecord, TrialState, complete, front_of, why_no_front

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


def test_why_there_is_no_front_tells_what_became_of_the_trials(plane: Plane) -> None:
    assert why_no_front("toy", plane(None).records).endswith(
        "'toy' has no complete trial: none has ended yet"
    )
    assert why_no_front("toy", plane(FAILED, FAILED).records).endswith(
        "no complete trial: all 2 failed; the last said diverged: the loss is nan"
    )
    (running,) = plane(None).records
    pruned = replace(
        running, state=TrialState.PRUNED, outcome=Pruned(rung="pretrain/20", message="behind", metrics={})
    )
    assert "1 of 2 failed" in why_no_front("toy", [*plane(FAILED).records, pruned])
    broken = [
        replace(record, violated=(f"trial {record.number} is slow",))
        for record in plane((0.1, 0.2), (0.2, 0.1)).records
    ]
    assert why_no_front("toy", [*broken, *plane(FAILED).records]) == (
        "no complete trial of the study 'toy' keeps to its constraints: the last, trial 1 is slow"
    )


def test_a_point_that_was_trained_twice_by_an_earlier_version_counts_once(plane: Plane) -> None:
    records = plane((0.2, 0.2), (0.2, 0.2), (0.2, 0.2), (0.2, 0.2)).records
    point = {"fusion.kind": "branch", "mask.sparsity": 0.0}
    other = dict(reversed(point.items()))
    twice = [replace(records[0], point=point), replace(records[1], point=other)]
    presets = [replace(records[place], point={}, preset=name) for place, name in ((2, "erm"), (3, "irm"))]
    assert numbers(complete([*twice, *presets])) == [0, 2, 3]
    assert numbers(front_of([*twice, *presets])) == [0, 2, 3]
