from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.constraints import Constraint
from painvrl.engine.loop import MAX_DEATHS, MAX_RUNNER_DEATHS, Death
from painvrl.engine.outcomes import Completed, Failed
from painvrl.run.distributions import Value
from painvrl.study.file.space import Space
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TrialState, front_of
from painvrl.study.store.storage import StoredStudy, open_study

DONE = Completed(metrics={"iid/ndcg_at_20": 0.2, "ood/ndcg_at_20": 0.1})
FAILED = Failed(reason="diverged", message="no")

GRID = Space.model_validate(
    {
        "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3},
        "environments.count": {"type": "int", "low": 2, "high": 4},
        "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
    }
)


@pytest.fixture
def stored(spec: StudySpec, workspace: Workspace) -> StoredStudy:
    return create_study(spec, workspace, data="d")[0]


def another_process(spec: StudySpec, workspace: Workspace) -> AskTell:
    """A adapter over a connection of its own, as a process has that starts after the last one died."""
    return AskTell(open_study("toy", workspace), spec.study)


def states(adapter: AskTell) -> list[TrialState]:
    return [record.state for record in adapter._stored.trials()]


def test_the_first_point_is_the_base_configurations(stored: StoredStudy, spec: StudySpec) -> None:
    adapter = AskTell(stored, spec.study)
    assert adapter.ask().point == spec.space.point_of(spec.config)


def test_completed_and_failed_trials_count_and_interrupted_ones_do_not(
    stored: StoredStudy, spec: StudySpec
) -> None:
    adapter = AskTell(stored, spec.study)
    assert adapter.finished() == 0
    adapter.tell(adapter.ask().number, DONE)
    adapter.tell(adapter.ask().number, FAILED)
    adapter.interrupt(adapter.ask().number)
    adapter.ask()
    assert states(adapter) == [
        TrialState.COMPLETE,
        TrialState.FAILED,
        TrialState.INTERRUPTED,
        TrialState.RUNNING,
    ]
    assert adapter.finished() == 2


@pytest.mark.parametrize(
    "sampler", ["tpe", "random", "auto", "qmc", "grid", pytest.param("gp", marks=pytest.mark.slow)]
)
def test_a_study_that_stops_anywhere_tries_the_points_of_one_that_does_not(
    spec: StudySpec, workspace: Workspace, sampler: str
) -> None:
    def points(name: str, stops: set[int]) -> list[dict[str, Value]]:
        settings = spec.study.model_copy(update={"name": name, "sampler": sampler})
        named = spec.model_copy(
            update={"study": settings, "space": GRID if sampler == "grid" else spec.space}
        )
        adapter = AskTell(create_study(named, workspace, data="d")[0], named.study)
        tried: list[dict[str, Value]] = []
        stops = set(stops)
        while (finished := adapter.finished()) < 5:
            asked = adapter.ask()
            if finished in stops:
                stops.remove(finished)
                if finished % 2:
                    adapter.interrupt(asked.number)
                adapter = AskTell(open_study(name, workspace), named.study)
                adapter.reap()
                continue
            tried.append(asked.point)
            value = float(asked.point["mask.sparsity"] or 0)
            outcome = Completed(metrics={"iid/ndcg_at_20": 1 - value, "ood/ndcg_at_20": value**2})
            adapter.tell(asked.number, FAILED if finished == 1 else outcome)
        return tried

    straight = points("straight", set())
    assert points("stopped", {0, 2, 3}) == straight
    assert len({str(point) for point in straight}) == 5


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_points_asked_for_at_a_time_differ_as_those_asked_for_in_turn(
    spec: StudySpec, workspace: Workspace, sampler: str
) -> None:
    def adapter(name: str) -> AskTell:
        study = spec.study.model_copy(update={"name": name, "sampler": sampler, "startup_trials": 5})
        named = spec.model_copy(update={"study": study})
        return AskTell(create_study(named, workspace, data="d")[0], named.study)

    together, turn = adapter("together"), adapter("turn")
    points = [together.ask().point for _ in range(4)]
    in_turn = []
    for _ in range(4):
        asked = turn.ask()
        in_turn.append(asked.point)
        turn.tell(asked.number, DONE)
    assert points == in_turn


def test_the_peak_of_memory_is_stored_with_the_outcome(stored: StoredStudy, spec: StudySpec) -> None:
    adapter = AskTell(stored, spec.study)
    adapter.tell(adapter.ask().number, replace(DONE, peak_memory_mib=12.5))
    outcome = stored.trials()[0].outcome
    assert isinstance(outcome, Completed)
    assert outcome.peak_memory_mib == 12.5


def test_a_trial_of_a_dead_process_ends_and_its_point_comes_back(
    stored: StoredStudy, spec: StudySpec, workspace: Workspace
) -> None:
    lost = AskTell(stored, spec.study).ask()
    adapter = another_process(spec, workspace)
    assert adapter.reap() == (lost.number,)
    assert states(adapter) == [TrialState.INTERRUPTED, TrialState.WAITING]
    assert adapter.reap() == ()
    assert states(adapter) == [TrialState.INTERRUPTED, TrialState.WAITING]
    again = adapter.ask()
    assert (again.number, again.point) == (1, lost.point)


def test_no_point_is_given_up_for_the_deaths_of_those_who_run_the_study(
    stored: StoredStudy, spec: StudySpec, workspace: Workspace
) -> None:
    lost = AskTell(stored, spec.study).ask()
    for _ in range(MAX_DEATHS + 1):
        adapter = another_process(spec, workspace)
        adapter.reap()
        assert adapter.ask().point == lost.point
    assert adapter.finished() == 0
    assert adapter._stored.trials()[-1].deaths == 0


@pytest.mark.slow
def test_a_point_that_ends_each_process_that_trains_it_in_itself_is_given_up(
    stored: StoredStudy, spec: StudySpec, workspace: Workspace
) -> None:
    first = AskTell(stored, spec.study).ask()
    deaths = [Death(), Death(kept=True), *[Death()] * MAX_RUNNER_DEATHS]
    for number, death in enumerate(deaths):
        adapter = another_process(spec, workspace)
        if number > 0:
            assert adapter.ask().point == first.point
        adapter.got_on(number, death)
        assert another_process(spec, workspace).reap() == (number,)
    assert states(adapter) == [TrialState.INTERRUPTED] * (len(deaths) - 1) + [TrialState.FAILED]
    last = adapter._stored.trials()[-1]
    assert (last.reason, last.deaths, last.point) == ("worker_died", MAX_RUNNER_DEATHS, first.point)
    assert adapter.finished() == 1
    assert adapter.ask().point != first.point


def test_a_point_that_kills_every_worker_is_given_up(
    stored: StoredStudy, spec: StudySpec, workspace: Workspace
) -> None:
    adapter = AskTell(stored, spec.study)
    early, kept, late = Death(begun=False), Death(kept=True), Death()
    first = adapter.ask()
    asked = first
    for death in (late, late, early, kept, late, early, late):
        assert adapter.retry(asked.number, death)
        asked = adapter.ask()
        assert asked.point == first.point
    assert not adapter.retry(asked.number, late)
    assert adapter._stored.trials()[-1].deaths == MAX_DEATHS


def test_a_point_that_is_tried_again_goes_on_in_its_run(
    stored: StoredStudy, spec: StudySpec, workspace: Workspace
) -> None:
    adapter = AskTell(stored, spec.study)
    asked = adapter.ask()
    assert asked.run_id is None
    adapter.attach_run(asked.number, "run-0")
    adapter.retry(asked.number, Death())
    again = adapter.ask()
    assert again.run_id == "run-0"
    adapter.attach_run(again.number, "run-0")
    adapter = another_process(spec, workspace)
    adapter.reap()
    assert adapter.ask().run_id == "run-0"


def test_a_point_that_a_person_stops_comes_back_as_often_as_it_takes(
    stored: StoredStudy, spec: StudySpec, workspace: Workspace
) -> None:
    adapter = AskTell(stored, spec.study)
    first = adapter.ask()
    adapter.interrupt(first.number)
    for _ in range(MAX_DEATHS + 1):
        adapter = another_process(spec, workspace)
        assert adapter.reap() == ()
        asked = adapter.ask()
        assert asked.point == first.point
        adapter.interrupt(asked.number)
    assert adapter.finished() == 0


def test_an_outcome_that_was_stored_before_the_end_is_not_computed_again(
    stored: StoredStudy, spec: StudySpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = AskTell(stored, spec.study)
    numbers = []
    for outcome in (DONE, FAILED):
        asked = adapter.ask()
        numbers.append(asked.number)
        with monkeypatch.context() as patch:
            patch.setattr(AskTell, "_end", lambda *_: None)  # the process dies here
            adapter.tell(asked.number, outcome)
    adapter = another_process(spec, workspace)
    assert adapter.reap() == tuple(numbers)
    assert states(adapter) == [TrialState.COMPLETE, TrialState.FAILED]
    assert adapter._stored.trials()[0].values == (0.2, 0.1)
    assert adapter.finished() == 2


def learnt(spec: StudySpec, workspace: Workspace, sampler: str, failure: Failed) -> list[float]:
    """Sparsities tried where every one above 0.3 fails, after the start-up trials."""
    settings = spec.study.model_copy(update={"name": f"{sampler}-{failure.reason}", "sampler": sampler})
    named = spec.model_copy(update={"study": settings.model_copy(update={"startup_trials": 8})})
    adapter = AskTell(create_study(named, workspace, data="d")[0], named.study)
    tried = []
    for _ in range(24):
        asked = adapter.ask()
        value = float(asked.point["mask.sparsity"] or 0)
        tried.append(value)
        good = Completed(metrics={"iid/ndcg_at_20": 0.2 + value, "ood/ndcg_at_20": 0.2 + value})
        adapter.tell(asked.number, failure if value > 0.3 else good)
    return tried[8:]


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["out_of_memory", "diverged", "not_finite", "out_of_time"])
def test_a_region_that_cannot_be_trained_is_left_alone(
    spec: StudySpec, workspace: Workspace, reason: str
) -> None:
    taught = learnt(spec, workspace, "tpe", Failed(reason=reason, message="no"))
    blameless = learnt(spec, workspace, "tpe", Failed(reason="unexpected", message="a bug"))
    assert sum(value > 0.3 for value in taught) <= 8 < sum(value > 0.3 for value in blameless)


def constrained(spec: StudySpec, *constraints: dict[str, object]) -> StudySpec:
    return spec.model_copy(
        update={"constraints": tuple(Constraint.model_validate(one) for one in constraints)}
    )


TIME = {"metric": "time", "max": 10.0}
IID = {"metric": "iid/ndcg_at_20", "min": 0.15}


def test_a_trial_that_breaks_a_constraint_is_complete_and_never_on_the_front(
    spec: StudySpec, workspace: Workspace
) -> None:
    spec = constrained(spec, TIME, IID)
    stored, _ = create_study(spec, workspace, data="d")
    adapter = AskTell(stored, spec.study)
    for seconds, iid in ((4.0, 0.2), (12.5, 0.9), (4.0, 0.1)):
        metrics = {"iid/ndcg_at_20": iid, "ood/ndcg_at_20": 0.1}
        spent = {"pretrain": seconds / 2, "mask": seconds / 2}
        adapter.tell(adapter.ask().number, Completed(metrics=metrics, seconds=spent))
    adapter.tell(adapter.ask().number, FAILED)
    reported = [trial.constraints for trial in stored.study.trials]
    names = ("untrained", "time/max", "iid/ndcg_at_20/min")
    assert reported == [
        dict(zip(names, values, strict=True))
        for values in (
            (-1.0, -6.0, pytest.approx(-0.05)),
            (-1.0, 2.5, pytest.approx(-0.75)),
            (-1.0, -6.0, pytest.approx(0.05)),
            (1.0, 0.0, 0.0),
        )
    ]
    records = stored.trials()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 3 + [TrialState.FAILED]
    assert [len(record.violated) for record in records] == [0, 1, 1, 0]
    assert "time 12.5 s is above max 10 s" in records[1].violated[0]
    assert [record.number for record in front_of(records)] == [0]
    assert [trial.number for trial in stored.study.best_trials] == [0]


def test_constraints_that_change_on_the_way_hold_for_all_trials(
    spec: StudySpec, workspace: Workspace
) -> None:
    adapter = AskTell(create_study(spec, workspace, data="d")[0], spec.study)
    adapter.tell(adapter.ask().number, DONE)  # 0.2 and 0.1
    stricter = constrained(spec, {"metric": "iid/ndcg_at_20", "min": 0.3})
    stored, existed = create_study(stricter, workspace, data="d")
    assert existed
    assert [len(record.violated) for record in stored.trials()] == [1]
    assert create_study(spec, workspace, data="d")[0].trials()[0].violated == ()


@pytest.mark.slow
def test_gp_goes_on_when_constraints_change(spec: StudySpec, workspace: Workspace) -> None:
    spec = spec.model_copy(update={"study": spec.study.model_copy(update={"sampler": "gp"})})
    for wanted, constraints in ((4, ()), (6, (IID,)), (8, (TIME,))):
        now = constrained(spec, *constraints)
        adapter = AskTell(create_study(now, workspace, data="d")[0], now.study)
        while adapter.finished() < wanted:
            adapter.tell(adapter.ask().number, DONE)


@pytest.mark.slow
def test_gp_takes_failures_among_complete_trials(spec: StudySpec, workspace: Workspace) -> None:
    taught = learnt(spec, workspace, "gp", FAILED)
    assert sum(value > 0.3 for value in taught) <= 6


def test_what_cannot_be_trained_is_infeasible_to_optuna_and_failed_to_us(
    stored: StoredStudy, spec: StudySpec
) -> None:
    adapter = AskTell(stored, spec.study)
    for outcome in (DONE, FAILED, Failed(reason="unexpected", message="a bug")):
        adapter.tell(adapter.ask().number, outcome)
    assert [trial.state.name for trial in stored.study.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.constraints for trial in stored.study.trials] == [
        {"untrained": -1.0},
        {"untrained": 1.0},
        {},
    ]
    assert [record.state for record in stored.trials()] == [
        TrialState.COMPLETE,
        TrialState.FAILED,
        TrialState.FAILED,
    ]
    assert [record.values for record in stored.trials()] == [(0.2, 0.1), None, None]
    assert [trial.number for trial in stored.study.best_trials] == [0]


def test_an_interrupt_in_the_last_moment_loses_no_outcome(
    stored: StoredStudy, spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = AskTell(stored, spec.study)
    number = adapter.ask().number
    with monkeypatch.context() as patch:
        patch.setattr(AskTell, "_end", lambda *_: None)
        adapter.tell(number, DONE)
    adapter.interrupt(number)
    assert states(adapter) == [TrialState.COMPLETE]
    adapter.interrupt(number)
    assert states(adapter) == [TrialState.COMPLETE]


def test_values_follow_the_order_of_the_objectives(spec_tree: dict[str, Any], workspace: Workspace) -> None:
    spec_tree["objectives"] = ["ood/ndcg_at_20", "iid/ndcg_at_20"]
    spec = StudySpec.model_validate(spec_tree)
    stored, _ = create_study(spec, workspace, data="d")
    adapter = AskTell(stored, spec.study)
    adapter.tell(adapter.ask().number, DONE)
    assert stored.trials()[0].values == (0.1, 0.2)
    assert stored.study.trials[0].values == [0.1, 0.2]
    assert {direction.name for direction in stored.study.directions} == {"MAXIMIZE"}


@pytest.mark.slow
def test_the_sampler_learns_from_what_it_was_reported(spec: StudySpec, workspace: Workspace) -> None:
    def points(name: str, wanted: float) -> list[dict[str, Value]]:
        named = spec.model_copy(update={"study": spec.study.model_copy(update={"name": name})})
        adapter = AskTell(create_study(named, workspace, data="d")[0], named.study)
        tried = []
        for _ in range(6):
            asked = adapter.ask()
            good = 1 - abs(float(asked.point["mask.sparsity"] or 0) - wanted)
            adapter.tell(asked.number, Completed(metrics={"iid/ndcg_at_20": good, "ood/ndcg_at_20": good}))
            tried.append(asked.point)
        return tried

    low, high, again = points("low", 0.0), points("high", 0.9), points("again", 0.0)
    startup = spec.study.startup_trials
    assert low[:startup] == high[:startup]
    assert low[startup:] != high[startup:]
    assert low == again
