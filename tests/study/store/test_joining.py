"""Several processes on one study, in a real PostgreSQL: each trial has one result, and the total is exact."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
import torch

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.loop import MAX_RUNNER_DEATHS, Death, TakenOver
from painvrl.engine.outcomes import Completed
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import join_study, run_study
from painvrl.study.search import source
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.budget import Budget
from painvrl.study.search.source import StudySource
from painvrl.study.store import database as database_module
from painvrl.study.store import lease, patience
from painvrl.study.store.creation import create_study
from painvrl.study.store.database import connect, engine_url
from painvrl.study.store.lock import is_run
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import Attr, open_study
from painvrl.study.tracking.port import NullTracker, Opened

CPU = torch.device("cpu")

Tree = dict[str, Any]

DONE = Completed(metrics={"iid/ndcg_at_20": 0.2, "ood/ndcg_at_20": 0.1})


@pytest.fixture
def spec(spec_tree: Tree, database: str) -> StudySpec:
    tree = copy.deepcopy(spec_tree)
    tree["study"] |= {"storage": database, "sampler": "random"}
    return StudySpec.model_validate(tree)


@pytest.fixture
def host(spec: StudySpec, workspace: Workspace) -> Callable[[], AskTell]:
    """Makes the adapter of one more host."""
    create_study(spec, workspace, data="d")
    return lambda: AskTell(open_study(spec, workspace), spec.study)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease ends with the call that made it: nobody hears of another process."""
    monkeypatch.setattr(lease, "LEASE", 0.0)
    monkeypatch.setattr(lease, "BEAT", 3600.0)
    monkeypatch.setattr(source, "LOOK_AGAIN", 0.01)


def states(adapter: AskTell) -> list[TrialState]:
    return [record.state for record in adapter._stored.trials()]


def test_a_trial_whose_process_is_alive_is_nobody_elses(host: Callable[[], AskTell]) -> None:
    old, other = host(), host()
    asked = old.ask()
    assert asked is not None
    assert other.reap() == ()
    old.tell(asked.number, DONE)
    assert states(other) == [TrialState.COMPLETE]


def test_a_process_that_was_reaped_before_its_tell_is_refused_and_nothing_is_doubled(
    host: Callable[[], AskTell],
) -> None:
    old = host()
    paused = old.ask()
    other = host()
    other.leases._lease = 0.0
    assert paused is not None
    assert other.reap() == (paused.number,)
    assert other.reap() == ()
    again = other.ask()
    assert again is not None
    assert (again.number, again.point) == (1, paused.point)
    with pytest.raises(TakenOver, match="nothing was heard of the process that trained trial 0"):
        old.tell(paused.number, DONE)
    other.tell(again.number, DONE)
    with pytest.raises(TakenOver):
        old.tell(paused.number, DONE)
    old.interrupt(paused.number)
    assert old.retry(paused.number, Death())
    first, second = old._stored.trials()
    assert (first.state, first.outcome, first.values) == (TrialState.INTERRUPTED, None, None)
    assert (second.state, second.values) == (TrialState.COMPLETE, (0.2, 0.1))


def test_what_was_stored_before_its_answer_was_lost_is_told_again_without_harm(
    host: Callable[[], AskTell],
) -> None:
    adapter = host()
    asked = adapter.ask()
    assert asked is not None
    for _ in range(2):
        adapter.tell(asked.number, DONE)
    with pytest.raises(TakenOver):
        adapter.tell(asked.number, replace(DONE, metrics={**DONE.metrics, "iid/ndcg_at_20": 0.3}))
    assert [record.values for record in adapter._stored.trials()] == [(0.2, 0.1)]


def test_a_process_of_this_host_that_died_is_known_without_its_lease(
    host: Callable[[], AskTell], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = lease.this_process()
    if alive["numbers"] is None:
        pytest.skip("the system does not tell what its process numbers are unique in")
    dead = {**alive, "process": 2**22 + 1}  # beyond the largest number that Linux gives
    assert not lease.is_dead(alive)
    assert lease.is_dead(dead)
    assert not lease.is_dead({**dead, "numbers": "another host"})
    assert not lease.is_dead(None)
    old = host()
    with monkeypatch.context() as patch:
        patch.setattr(lease, "this_process", lambda: dead)
        old.ask()
    assert host().reap() == (0,)


def test_a_lease_is_renewed_as_long_as_its_process_lives(
    host: Callable[[], AskTell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_STARTED", "timestamp '2000-01-01'")
    old, other = host(), host()
    old.leases._beat = 0.01
    asked = old.ask()
    assert asked is not None
    with old._stored.storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2000-01-01'")
    assert other.leases.left_behind() == [asked.number]
    with old.leases.renewed():
        for _ in range(1000):
            if not other.leases.left_behind():
                break
            threading.Event().wait(0.01)
    assert other.reap() == ()


def test_leases_that_ran_out_while_the_server_was_away_begin_anew_with_it(
    host: Callable[[], AskTell], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, other = host(), host()
    assert old.ask() is not None
    with old._stored.storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2000-01-01'")
    monkeypatch.setattr(lease, "_STARTED", lease._NOW)
    assert other.leases.alone(other.leases.left_behind) == []
    monkeypatch.setattr(lease, "_STARTED", "timestamp '2000-01-01'")
    assert other.leases.alone(other.leases.left_behind) == [0]


@pytest.mark.parametrize("told", [True, False])
def test_a_tell_that_was_committed_and_not_confirmed_is_told_once(
    host: Callable[[], AskTell], monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """The server is lost when it has, or has not yet, stored what a trial came to."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.0)
    adapter, whole, times = host(), lease.Leases._whole, iter([True])

    def lost(self: lease.Leases, call: Callable[[], Any]) -> Any:
        if not next(times, False):
            return whole(self, call)
        if told:
            whole(self, call)
        raise patience.ServerGone("the connection is lost")

    asked = adapter.ask()
    assert asked is not None
    monkeypatch.setattr(lease.Leases, "_whole", lost)
    adapter.tell(asked.number, DONE)
    assert states(host()) == [TrialState.COMPLETE]
    with pytest.raises(TakenOver):
        adapter.tell(asked.number, replace(DONE, metrics=dict.fromkeys(DONE.metrics, 0.9)))


def test_what_is_asked_and_told_in_one_transaction_is_taken_back_as_a_whole(
    host: Callable[[], AskTell],
) -> None:
    adapter = host()
    asked = adapter.ask()
    assert asked is not None

    class Stopped(BaseException):
        pass

    def stopped() -> None:
        adapter.tell(asked.number, DONE)
        adapter.ask()
        raise Stopped

    with pytest.raises(Stopped):
        adapter.leases.alone(stopped)
    assert states(adapter) == states(host()) == [TrialState.RUNNING]
    assert list(adapter.leases._mine) == [asked.number], "whose lease goes on"
    adapter.tell(asked.number, DONE)
    following = adapter.ask()
    assert following is not None
    assert following.number == 1
    assert states(host()) == [TrialState.COMPLETE, TrialState.RUNNING]


def test_two_processes_of_two_workers_reserve_no_more_trials_than_wanted(
    host: Callable[[], AskTell],
) -> None:
    def made() -> StudySource:
        adapter = host()
        return StudySource(
            stored=adapter._stored, adapter=adapter, tracker=NullTracker(), budget=Budget(trials=3)
        )

    one, other = made(), made()
    tasks = [one.next(0), other.next(0), one.next(1)]
    assert [task.number for task in tasks if task] == [0, 1, 2]
    assert other.next(1) is None
    assert one.next(2) is None
    for owner, task in zip((one, other, one), tasks, strict=True):
        assert task is not None
        owner.keep(task, DONE)
    assert (one.next(0), other.next(0)) == (None, None)
    assert len(other.stored.trials()) == 3


@pytest.mark.slow
def test_runners_at_once_finish_exactly_as_many_as_wanted_and_the_points_of_one(
    spec: StudySpec,
    spec_tree: Tree,
    formula: Any,
    go: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source, "LOOK_AGAIN", 0.01)
    spec_tree["study"]["sampler"] = "random"
    alone = type(formula)()
    go(StudySpec.model_validate(spec_tree), alone, trials=9)
    formulas = [type(formula)() for _ in range(3)]
    finished: list[int] = []

    def run(place: int) -> None:
        workspace = Workspace(tmp_path / f"host-{place}").create()
        objective = formulas[place]
        done = run_study(spec, workspace, CPU, trials=9, tracker=NullTracker(), objective=objective)
        finished.append(done.status.finished)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished == [9, 9, 9], "each returns when all are finished"
    records = open_study(spec, Workspace(tmp_path)).trials()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 9
    tried = [point for each in formulas for point in each.points()]
    assert Counter(map(str, tried)) == Counter(map(str, alone.points()))
    assert str(records[0].point) == str(alone.points()[0]), "the base's own point, once"


@pytest.mark.slow
def test_a_runner_that_was_taken_for_dead_goes_on_after_a_line_and_the_total_is_exact(
    spec: StudySpec,
    formula: Any,
    diary: Any,
    go: Callable[..., Any],
    workspace: Workspace,
    at_once: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner = type(formula)()
    paused = type(formula)(script={1: lambda: go(spec, inner, trials=3)})
    summary = go(spec, paused, trials=4, diary=diary)
    records = open_study(spec, workspace).trials()
    kept = Counter(record.state for record in records)
    assert kept == {TrialState.COMPLETE: 4, TrialState.INTERRUPTED: 1}
    assert summary.status.finished == 4
    assert records[1].state is TrialState.INTERRUPTED
    assert inner.points()[0] == paused.points()[1], "the point is trained again"
    said = {event.number: event.outcome for event in diary.trials}
    assert said[1].reason == "taken_over"
    assert ("kill", "run-1") in diary.events
    assert ("finish", "run-1", "Completed") not in diary.events
    assert [event.finished for event in diary.trials] == [1, 3, 4]


@pytest.mark.slow
def test_a_point_that_ends_one_runner_after_the_other_is_shown_as_failed_by_the_next_and_counts_once(
    host: Callable[[], AskTell], diary: Any, at_once: None
) -> None:
    for number in range(MAX_RUNNER_DEATHS):
        runner = host()
        asked = runner.ask()
        assert asked is not None
        assert asked.number == number
        runner.attach_run(number, f"run-{number}")
        runner.got_on(number, Death())
        if number < MAX_RUNNER_DEATHS - 1:
            assert host().reap() == (number,)
    adapter = host()
    following = StudySource(stored=adapter._stored, adapter=adapter, tracker=diary, budget=Budget(trials=2))
    task = following.next(0)
    assert task is not None
    assert ("finish", "run-4", "Failed") in diary.events
    following.keep(task, DONE)
    assert following.next(0) is None
    assert states(adapter)[-2:] == [TrialState.FAILED, TrialState.COMPLETE]
    with pytest.raises(TakenOver):
        runner.tell(MAX_RUNNER_DEATHS - 1, DONE)


def drop_connections(url: str) -> None:
    """As a server does that is started again."""
    engine = sqlalchemy.create_engine(engine_url(url))
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    engine.dispose()


@pytest.mark.slow
def test_connections_that_a_server_drops_let_nobody_in_twice(
    spec: StudySpec, formula: Any, go: Callable[..., Any], workspace: Workspace
) -> None:
    """A server that is started again drops every connection, and the locks with them."""

    def restart() -> None:
        drop_connections(str(spec.study.storage))
        other = AskTell(open_study(spec, workspace), spec.study)
        assert other.reap() == ()
        asked = other.ask()
        assert asked is not None
        other.tell(asked.number, DONE)

    go(spec, type(formula)(), trials=1)
    summary = go(spec, type(formula)(script={0: restart}), trials=3)
    assert summary.status.finished == 3
    assert [record.state for record in open_study(spec, workspace).trials()] == [TrialState.COMPLETE] * 3


@pytest.mark.slow
def test_a_study_that_is_run_is_known_to_be_after_its_server_has_dropped_every_connection(
    spec: StudySpec,
    formula: Any,
    go: Callable[..., Any],
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_module, "RETAKE_SECONDS", 0.1)
    seen: list[bool] = []

    def restart() -> None:
        drop_connections(str(spec.study.storage))
        stored = open_study(spec, workspace)
        deadline = time.monotonic() + 20
        while not is_run(stored, workspace) and time.monotonic() < deadline:
            time.sleep(0.3)
        seen.append(is_run(stored, workspace))

    go(spec, type(formula)(script={0: restart}), trials=1)
    assert seen == [True]
    assert not is_run(open_study(spec, workspace), workspace)


@pytest.mark.slow
def test_a_study_is_joined_by_its_name_alone_and_its_file_keeps_the_place_to_itself(
    spec: StudySpec, formula: Any, go: Callable[..., Any], workspace: Workspace
) -> None:
    go(spec, formula, trials=2)
    stored = open_study(spec, workspace)
    stored.study.set_user_attr(Attr.REQUESTED, 4)
    assert "geheim" not in str(stored.study.user_attrs)
    objective = type(formula)()
    url = spec.study.storage
    done = join_study("toy", workspace, CPU, storage=url, tracker=NullTracker(), objective=objective)
    assert done.status.finished == 4
    assert len(objective.jobs) == 2


def test_who_joins_by_the_name_leaves_the_total_and_the_file_as_they_have_become_meanwhile(
    spec: StudySpec, spec_tree: Tree, formula: Any, go: Callable[..., Any], workspace: Workspace
) -> None:
    """What it read of the study is old by the time that its data are loaded."""
    spec_tree["study"] |= {"storage": spec.study.storage, "sampler": "random"}
    constraint, points = (
        {"metric": "iid/ndcg_at_20", "min": 0.2},
        [{"mask.sparsity": 0.25}, {"mask.sparsity": 0.5}],
    )
    spec_tree["config"]["data"]["memory_limit"] = 3.0  # type: ignore[index]
    changed = StudySpec.model_validate({**spec_tree, "points": points, "constraints": [constraint]})
    files: list[str] = []

    class Reads(NullTracker):
        def open(self, *arguments: Any) -> Opened:
            files.append(str(arguments))
            return super().open(*arguments)

    class Slow(type(formula)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name == "data" and not self.jobs:
                go(changed, type(formula)(), trials=3)
                open_study(spec, workspace).study.set_user_attr(Attr.REQUESTED, 6)
            return super().__getattribute__(name)

    go(spec, formula, trials=2)
    done = join_study("toy", workspace, CPU, storage=spec.study.storage, tracker=Reads(), objective=Slow())
    stored = open_study(spec, workspace)
    assert "mask.sparsity: 0.25" in files[-1]
    assert stored.config.data.memory_limit == 3.0
    assert (done.status.finished, done.status.requested, stored.requested) == (6, 6, 6)
    assert [one.metric for one in stored.constraints] == ["iid/ndcg_at_20"]
    assert stored.study.user_attrs[Attr.FILE]["points"] == points
    assert not [trial for trial in stored.study.get_trials() if Attr.DROPPED in trial.user_attrs]


def test_a_study_that_is_deleted_while_its_data_load_is_not_made_anew_by_who_joins_it(
    spec: StudySpec, formula: Any, go: Callable[..., Any], workspace: Workspace
) -> None:
    class Slow(type(formula)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name == "data":
                optuna.delete_study(study_name="toy", storage=connect(spec.study.storage))
            return super().__getattribute__(name)

    go(spec, formula, trials=2)
    with pytest.raises(StudyError, match="toy: was deleted meanwhile"):
        join_study("toy", workspace, CPU, storage=spec.study.storage, objective=Slow())
    assert optuna.get_all_study_names(connect(spec.study.storage)) == []


def test_a_slow_tracker_keeps_nobody_from_creating_a_study_and_is_opened_by_one_at_a_time(
    spec: StudySpec, formula: Any, go: Callable[..., Any], workspace: Workspace
) -> None:
    """A second runner comes while the first one opens its tracker: it gets as far as opening its own."""
    here, created, opening, seen = threading.Lock(), threading.Event(), threading.Event(), []

    class Slow(NullTracker):
        def open(self, *arguments: Any) -> Opened:
            seen.append(here.acquire(blocking=False))
            if len(seen) == 1:
                second.start()
                seen.append(created.wait(30))
                seen.append(not opening.wait(1))  # it is time enough to open the tracker, were it free
            opening.set()
            here.release()
            return Opened(parent_run="parent")

    def begin() -> None:
        create_study(spec, Workspace(workspace.root), data="planted-1")
        created.set()
        go(spec, type(formula)(), tracker=Slow())

    second = threading.Thread(target=begin)
    go(spec, formula, tracker=Slow())
    second.join()
    assert seen == [True] * 4


@pytest.mark.parametrize("storage", [None, "sqlite:///optuna.db"])
def test_a_study_in_a_file_is_not_joined_and_the_reason_is_one_line(
    workspace: Workspace, storage: str | None
) -> None:
    with pytest.raises(StudyError, match="toy: only a study in a PostgreSQL is joined; one in") as caught:
        join_study("toy", workspace, CPU, storage=storage)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_two_processes_share_the_studys_own_run_and_each_trial_has_that_of_who_trained_it(
    spec: StudySpec, formula: Any, go: Callable[..., Any], tracked: Workspace, at_once: None
) -> None:
    from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
    from painvrl.study.tracking.mlflow_tracker import mlflow_tracker

    other = lambda: go(spec, type(formula)(), trials=3, tracker=mlflow_tracker(tracked))  # noqa: E731
    go(spec, type(formula)(script={1: other}), trials=4, tracker=mlflow_tracker(tracked))
    records = open_study(spec, tracked).trials()
    with mlflow_calls(tracked.tracking_uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=tracked.tracking_uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        runs = client.search_runs([experiment.experiment_id])
    ended = {run.data.tags["trial"]: run for run in runs if run.data.tags["kind"] == "trial"}
    complete = {str(each.number): each.run_id for each in records if each.state is TrialState.COMPLETE}
    assert {trial: run.info.run_id for trial, run in ended.items()} == complete
    assert {run.info.status for run in ended.values()} == {"FINISHED"}
    assert records[1].run_id == complete["2"], "whoever took the trial over goes on in its run"
    (own,) = (run for run in runs if run.data.tags["kind"] == "study")
    assert own.info.status == "FINISHED"


RUN = """
import sys
from pathlib import Path
import torch
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.job import DataSummary
from painvrl.engine.outcomes import Completed
from painvrl.study.file.spec import load_spec
from painvrl.study.runner import run_study
from painvrl.study.store import lease
from painvrl.study.tracking.port import NullTracker

lease.BEAT, lease.LEASE = 0.1, 1.0

class Waits:
    data = DataSummary(fingerprint="planted-1")
    def __call__(self, job, on_stage, on_rung):
        print(job.number, flush=True)
        sys.stdin.readline()
        return Completed(metrics={"iid/ndcg_at_20": 0.9, "ood/ndcg_at_20": 0.9})

workspace = Workspace(Path(sys.argv[2])).create()
spec = load_spec(Path(sys.argv[1]))
done = run_study(spec, workspace, torch.device("cpu"), trials=3, tracker=NullTracker(), objective=Waits())
print("finished", done.status.finished, flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_stopped_and_goes_on_after_its_trial_was_given_away_doubles_nothing(
    spec: StudySpec,
    formula: Any,
    go: Callable[..., Any],
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(dump_yaml(spec), encoding="utf-8")
    old = subprocess.Popen(
        [sys.executable, "-c", RUN, str(file), str(tmp_path / "other")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with old:
        assert old.stdin is not None
        assert old.stdout is not None
        assert old.stdout.readline() == "0\n"
        old.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(lease, "LEASE", 1.0)
        monkeypatch.setattr(source, "LOOK_AGAIN", 0.1)
        assert go(spec, formula, trials=3).status.finished == 3
        old.send_signal(signal.SIGCONT)
        old.stdin.write("\n")
        old.stdin.close()
        assert old.stdout.read() == "finished 3\n"
    assert old.returncode == 0
    records = open_study(spec, workspace).trials()
    assert Counter(record.state for record in records) == {
        TrialState.COMPLETE: 3,
        TrialState.INTERRUPTED: 1,
    }
    assert records[0].state is TrialState.INTERRUPTED
    assert all((record.values or (0.0,))[0] < 0.9 for record in records), "its result is nowhere"
    assert len(formula.jobs) == 3
