"""A study as a source, with several trials under way, over an executor whose trials end in a given order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.executor import OnJobRung
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.loop import run_jobs
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome, Pruned, SweptPoint
from painvrl.study.file.spec import StudySpec
from painvrl.study.search import source
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.budget import Budget
from painvrl.study.search.pruner import Pruner
from painvrl.study.search.pruning import PruningConfig
from painvrl.study.search.source import SPACE_TRIED, StudySource, sweep_of
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import StoredStudy


@dataclass
class Executor:
    """Ends the youngest trial first; ``script`` says what becomes of a trial instead of success."""

    size: int
    script: dict[int, Outcome | BaseException] = field(default_factory=dict)
    under_way: list[Job] = field(default_factory=list)
    most: int = 0
    data: DataSummary = field(default=DataSummary(fingerprint="d"))

    def start(self, job: Job) -> None:
        self.under_way.append(job)
        self.most = max(self.most, len(self.under_way))

    def next(self, on_stage: Callable[[int, str], None], on_rung: OnJobRung) -> tuple[int, Outcome]:
        number = self.under_way[-1].number
        on_stage(number, "pretrain")
        act = self.script.get(number)
        if isinstance(act, BaseException):
            raise act
        self.under_way.pop()
        values = {"iid/ndcg_at_20": number / 100, "ood/ndcg_at_20": -number / 100}
        return number, act or Completed(metrics=values)


@pytest.fixture
def stored(spec: StudySpec, workspace: Workspace) -> StoredStudy:
    return create_study(spec, workspace, data="d")[0]


def run(
    stored: StoredStudy, spec: StudySpec, executor: Executor, diary: Any, wanted: int, **more: Any
) -> str | None:
    """Run trials until so many are finished; why there are fewer."""
    budget = more.pop("budget", Budget(trials=wanted))
    adapter = AskTell(stored, spec.study)
    source = StudySource(stored=stored, adapter=adapter, tracker=diary, budget=budget, **more)
    run_jobs(source, executor, diary, diary)
    return source.ended_by


@pytest.mark.parametrize(("size", "wanted"), [(1, 3), (2, 5), (3, 5), (4, 2)])
def test_there_are_never_more_trials_than_workers_nor_more_than_wanted(
    stored: StoredStudy, spec: StudySpec, diary: Any, size: int, wanted: int
) -> None:
    executor = Executor(size, script={1: Failed(reason="diverged", message="no")})
    run(stored, spec, executor, diary, wanted)
    assert executor.most == min(size, wanted)
    assert len(stored.trials()) == wanted
    assert [event.finished for event in diary.trials] == list(range(1, wanted + 1))
    assert len({str(record.point) for record in stored.trials()}) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_the_loop_ends_where_every_point_is_trained_and_waits_for_those_under_way(
    spec_tree: dict[str, Any], workspace: Workspace, diary: Any, size: int
) -> None:
    spec_tree["space"] = {"environments.count": {"type": "int", "low": 2, "high": 6}}
    spec = StudySpec.model_validate(spec_tree)
    stored = create_study(spec, workspace, data="d")[0]
    executor = Executor(size, script={1: Failed(reason=WORKER_DIED, message="no")})
    assert run(stored, spec, executor, diary, 99) == SPACE_TRIED
    counts = Counter(record.state for record in stored.trials() if record.state is not TrialState.REPEATED)
    assert counts == {TrialState.COMPLETE: 5, TrialState.INTERRUPTED: 1}
    assert executor.most == min(size, 5)


def test_every_trial_gets_its_own_outcome_in_whatever_order_they_end(
    stored: StoredStudy, spec: StudySpec, diary: Any
) -> None:
    run(stored, spec, Executor(3), diary, 5)
    assert [event.number for event in diary.trials] == [2, 3, 4, 1, 0]
    assert [record.values for record in stored.trials()] == [(n / 100, -n / 100) for n in range(5)]
    finished = [event[1] for event in diary.events if event[0] == "finish"]
    assert finished == ["run-2", "run-3", "run-4", "run-1", "run-0"]


def test_a_trial_that_was_swept_tells_how_many_of_its_points_are_on_the_front(
    stored: StoredStudy, spec: StudySpec, diary: Any
) -> None:
    def swept(*values: tuple[float, float]) -> Completed:
        metrics = [{"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood} for iid, ood in values]
        points = tuple(SweptPoint(values={}, metrics=each) for each in metrics)
        return Completed(metrics=metrics[0], points=points)

    script: dict[int, Outcome | BaseException] = {
        0: swept((0.4, 0.1), (0.1, 0.4)),
        1: swept((0.3, 0.05), (0.3, 0.3), (0.2, 0.3)),
        2: swept((0.1, 0.1), (0.2, 0.2)),
        3: swept((0.5, 0.5), (0.6, 0.1)),
    }
    run(stored, spec, Executor(1, script=script), diary, 4)
    reported = [(event.standing.on_front, event.standing.front_size) for event in diary.trials]
    assert reported == [(2, 2), (1, 3), (0, 3), (2, 2)]
    assert [event.values["iid/ndcg_at_20"] for event in diary.trials] == [0.4, 0.3, 0.1, 0.5]


@pytest.mark.parametrize("sweep", ["auto", False])
@pytest.mark.parametrize("weights", [{}, {"fusion.cold_weight": {"type": "float", "low": 0, "high": 1}}])
def test_a_trial_is_swept_where_the_space_has_something_to_sweep(
    spec_tree: dict[str, Any], workspace: Workspace, sweep: object, weights: dict[str, object]
) -> None:
    spec_tree["sweep"] = sweep
    spec_tree["space"] |= weights
    stored = create_study(StudySpec.model_validate(spec_tree), workspace, data="d")[0]
    plan = sweep_of(stored, stored.config)
    assert (set() if plan is None else set(plan.hyperparameters)) == (set(weights) if sweep else set())
    assert (plan is None) is not (bool(weights) and bool(sweep))


def test_a_pruned_trial_counts_and_is_reported_as_pruned(
    stored: StoredStudy, spec: StudySpec, diary: Any
) -> None:
    pruned = Pruned(rung="pretrain/20", message="all were ahead", metrics={})
    run(stored, spec, Executor(1, script={1: pruned}), diary, 3)
    states = [record.state for record in stored.trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert [trial.state.name for trial in stored.study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert (diary.trials[1].values, diary.trials[1].finished) == (None, 2)


@dataclass
class Judged(Executor):
    """Passes a rung with every trial, and prunes it where the answer is to stop."""

    jobs: list[Job] = field(default_factory=list)

    def start(self, job: Job) -> None:
        self.jobs.append(job)
        super().start(job)

    def next(self, on_stage: Callable[[int, str], None], on_rung: OnJobRung) -> tuple[int, Outcome]:
        number = self.under_way[-1].number
        there = {"iid/ndcg_at_20": -number / 100, "ood/ndcg_at_20": 0.1}
        said = on_rung(number, "pretrain/6", there)
        if said is not None:
            self.under_way.pop()
            return number, Pruned(rung="pretrain/6", message=said, metrics=there)
        return super().next(on_stage, on_rung)


def test_with_a_pruner_trials_are_judged_and_without_one_they_have_no_rungs(
    stored: StoredStudy, spec: StudySpec, diary: Any
) -> None:
    executor = Judged(1)
    run(stored, spec, executor, diary, 4, pruner=Pruner(stored, PruningConfig(eta=9)))
    states = [record.state for record in stored.trials()]
    assert states == [TrialState.COMPLETE, *[TrialState.PRUNED] * 3]  # each is worse than all before
    assert all("pretrain/6" in job.rungs for job in executor.jobs)  # the second evaluation
    run(stored, spec, executor, diary, 5, trial_timeout=7.0)
    assert stored.trials()[4].state is TrialState.COMPLETE
    assert (executor.jobs[4].rungs, executor.jobs[4].timeout) == (frozenset(), 7.0)


def test_when_time_is_up_what_is_under_way_ends_and_nothing_new_starts(
    stored: StoredStudy, spec: StudySpec, diary: Any
) -> None:
    ticks = iter([0.0, 0.0, 0.0, 10.0, 10.0, 10.0])
    executor = Executor(2)
    budget, clock = Budget(trials=9, seconds=5.0), lambda: next(ticks)
    assert "time limit of 5 s" in str(run(stored, spec, executor, diary, 9, budget=budget, clock=clock))
    assert [record.state for record in stored.trials()] == [TrialState.COMPLETE] * 2
    assert run(stored, spec, executor, diary, 3) is None


@pytest.mark.parametrize(("error", "killed"), [(KeyboardInterrupt(), 3), (RuntimeError("no"), 0)])
def test_an_error_interrupts_every_trial_that_is_under_way(
    stored: StoredStudy, spec: StudySpec, diary: Any, error: BaseException, killed: int
) -> None:
    executor = Executor(3, script={3: error})
    with pytest.raises(type(error)):
        run(stored, spec, executor, diary, 9)
    states = [record.state for record in stored.trials()]
    assert states == [TrialState.INTERRUPTED] * 2 + [TrialState.COMPLETE] + [TrialState.INTERRUPTED]
    assert len([event for event in diary.events if event[0] == "kill"]) == killed
    adapter = AskTell(stored, spec.study)
    assert adapter.reap() == ()
    assert [adapter.ask().point for _ in range(3)] == [stored.trials()[number].point for number in (0, 1, 3)]


def test_a_trial_that_cannot_be_made_a_job_is_interrupted_and_no_death(
    stored: StoredStudy, spec: StudySpec, diary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(source, "job_of", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(stored, spec, Executor(1), diary, 3)
    (record,) = stored.trials()
    assert (record.state, record.deaths) == (TrialState.INTERRUPTED, 0)
    assert AskTell(stored, spec.study).reap() == ()
    assert run(stored, spec, Executor(1), diary, 1) is None
    assert stored.trials()[1].point == record.point
