from __future__ import annotations

from dataclasses import replace

import pytest

from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.search.budget import Budget, StallConfig, growth_over
from painvrl.study.store.records import TakenFrom, TrialRecord, TrialState


def record(number: int, *values: float, violated: tuple[str, ...] = ()) -> TrialRecord:
    done = Completed(metrics={}) if values else Failed(reason="diverged", message="no")
    return TrialRecord(
        number=number,
        state=TrialState.COMPLETE if values else TrialState.FAILED,
        point={"mask.sparsity": number / 100},
        values=values or None,
        outcome=done,
        run_id=None,
        seconds=1.0,
        deaths=0,
        violated=violated,
    )


GROWS = [record(0, 1.0, 1.0), record(1, 2.0, 1.0), record(2), record(3, 1.0, 2.0)]


def test_growth_is_that_of_the_hypervolume_over_the_last_finished_trials() -> None:
    assert growth_over(GROWS, 1) == pytest.approx(3 / 2 - 1)
    assert growth_over(GROWS, 2) == pytest.approx(3 / 2 - 1)  # the failed one counts as a trial
    assert growth_over(GROWS, 3) == pytest.approx(3 / 1 - 1)


@pytest.mark.parametrize("records", [[], [record(0, 1.0, 1.0)], [record(0), record(1)]])
def test_nothing_grows_before_there_was_anything(records: list[TrialRecord]) -> None:
    assert growth_over(records, 2) is None
    stall = Budget(trials=9, stall=StallConfig(trials=2, improvement=0.5))
    assert stall.spent(records, 0.0) is None


def test_a_trial_outside_the_constraints_is_no_gain() -> None:
    infeasible = record(1, 5.0, 5.0, violated=("time",))
    assert growth_over([record(0, 1.0, 1.0), infeasible], 1) == 0.0


def test_a_search_without_gain_ends_and_one_with_gain_goes_on() -> None:
    flat = [record(0, 2.0, 2.0), record(1, 1.0, 1.0), record(2, 1.0, 1.5)]
    budget = Budget(trials=9, stall=StallConfig(trials=2, improvement=0.01))
    said = budget.spent(flat, 0.0)
    assert said is not None
    assert "grew by 0.00% over the last 2 trials" in said
    assert budget.spent([*flat, record(3, 2.0, 2.1)], 0.0) is None
    assert budget.spent(flat[:2], 0.0) is None


def test_what_was_taken_over_is_where_growth_begins_and_no_trial_of_the_last() -> None:
    taken = [replace(one, taken_from=TakenFrom(study="old", trial=one.number)) for one in GROWS]
    assert growth_over(taken, 2) is None
    assert growth_over([*taken, record(4, 2.0, 2.0)], 2) is None
    both = [*taken, record(4, 2.0, 2.0), record(5, 1.0, 1.0)]
    assert growth_over(both, 2) == pytest.approx(4 / 3 - 1)


def test_time_is_up_when_it_is() -> None:
    assert Budget(trials=9, seconds=60.0).spent([], 59.9) is None
    assert "time limit of 60 s" in str(Budget(trials=9, seconds=60.0).spent([], 60.0))
    assert Budget(trials=9).spent(GROWS, 1e9) is None
