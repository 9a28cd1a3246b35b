from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError, DataError, NothingFeasible, PlaceError, StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.choice.selection import select
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import StudySummary, run_study
from painvrl.study.store.lock import study_lock
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import list_studies, open_study
from painvrl.study.tracking.port import NullTracker

Go = Callable[..., StudySummary]
CPU = torch.device("cpu")


def test_a_study_runs_as_many_trials_as_it_wants(go: Go, spec: StudySpec, formula: Any, diary: Any) -> None:
    summary = go(spec, formula, diary=diary)
    assert (summary.status.finished, summary.status.requested) == (4, 4)
    assert [job.number for job in formula.jobs] == [0, 1, 2, 3]
    assert summary.link == "http://127.0.0.1:5000/front"
    assert len({str(point) for point in formula.points()}) == 4


def test_what_is_reported_comes_in_order(go: Go, spec: StudySpec, formula: Any, diary: Any) -> None:
    go(spec, formula, diary=diary, trials=2)
    assert diary.events == [
        ("open", None, []),
        ("trial_started", 0, 0),
        ("start", 0),
        ("stage", 0, "pretrain"),
        ("finish", "run-0", "Completed"),
        ("trial_finished", 0, 1),
        ("trial_started", 1, 1),
        ("start", 1),
        ("stage", 1, "pretrain"),
        ("finish", "run-1", "Completed"),
        ("trial_finished", 1, 2),
        ("close", "FINISHED"),
    ]
    (started,) = diary.started
    assert (started.study, started.requested, started.finished, started.resumed) == ("toy", 2, 0, False)
    assert started.data == formula.data


@pytest.mark.slow
def test_a_trial_trains_its_point_on_top_of_the_base_configuration(
    go: Go, spec: StudySpec, formula: Any
) -> None:
    go(spec, formula)
    for job in formula.jobs:
        assert spec.space.point_of(job.config) == job.point
        assert job.seed == spec.config.seed
        assert job.config.backbone == spec.config.backbone


def test_a_resumed_study_adds_what_is_missing_and_repeats_nothing(
    go: Go, spec: StudySpec, formula: Any, diary: Any
) -> None:
    go(spec, formula, trials=2)
    go(spec, formula, diary=diary, trials=5)
    go(spec, formula, trials=5)
    assert len(formula.jobs) == 5
    assert len({str(point) for point in formula.points()}) == 5
    (started,) = diary.started
    assert (started.finished, started.resumed) == (2, True)
    assert diary.events[0] == ("open", None, [0, 1])


def test_stopping_and_going_on_gives_the_study_that_never_stopped(
    spec: StudySpec, workspace: Workspace, formula: Any, go: Go
) -> None:
    straight = go(spec, formula, trials=6)
    other = spec.model_copy(update={"study": spec.study.model_copy(update={"name": "other"})})
    scripted = type(formula)(script={1: KeyboardInterrupt(), 4: KeyboardInterrupt()})
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            go(other, scripted, trials=6)
    stopped = go(other, scripted, trials=6)
    assert [row.values for row in stopped.front.rows] == [row.values for row in straight.front.rows]
    assert [row.point for row in stopped.front.rows] == [row.point for row in straight.front.rows]
    # Each interrupted trial was started twice; nothing else was.
    tried = [str(point) for point in scripted.points()]
    assert tried[1] == tried[2]
    assert tried[4] == tried[5]
    assert len(tried) == 8
    assert len(set(tried)) == 6


def test_an_interrupt_closes_everything_and_comes_out(
    go: Go, spec: StudySpec, formula: Any, diary: Any, workspace: Workspace
) -> None:
    formula.script = {1: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        go(spec, formula, diary=diary)
    assert diary.events[-2:] == [("kill", "run-1"), ("close", "KILLED")]
    states = [record.state for record in open_study("toy", workspace).trials()]
    assert states == [TrialState.COMPLETE, TrialState.INTERRUPTED]


@pytest.mark.parametrize("method", ["kill", "close"])
def test_an_interrupt_stays_one_when_the_tracker_is_down(
    go: Go, spec: StudySpec, formula: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def down(*_: object, **__: object) -> None:
        raise StudyError("MLflow does not answer")

    tracker = NullTracker()
    monkeypatch.setattr(tracker, method, down)
    formula.script = {1: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        go(spec, formula, tracker=tracker)
    states = [record.state for record in open_study("toy", workspace).trials()]
    assert states == [TrialState.COMPLETE, TrialState.INTERRUPTED]


def test_a_study_over_a_grid_ends_with_the_grid(
    go: Go, spec_tree: dict[str, Any], formula: Any, workspace: Workspace
) -> None:
    spec_tree["study"]["sampler"] = "grid"
    spec_tree["space"] = {"environments.count": {"type": "int", "low": 2, "high": 6, "step": 2}}
    spec_tree["presets"] = ["erm"]
    summary = go(StudySpec.model_validate(spec_tree), formula, trials=99)
    assert summary.status.finished == len(formula.jobs) == 4
    assert summary.ended_by == "every point of the space has been tried"
    assert sorted(point.get("environments.count", 0) for point in formula.points()) == [0, 2, 4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"timeout": 1e-9}, {"stall": {"trials": 1, "improvement": 9.0}}])
def test_a_study_with_all_its_trials_was_ended_by_nothing(
    go: Go, spec: StudySpec, formula: Any, spec_tree: dict[str, Any], limit: dict[str, Any]
) -> None:
    assert go(spec, formula, trials=2).ended_by is None
    spec_tree["study"] |= limit
    bounded = StudySpec.model_validate(spec_tree)
    assert go(bounded, formula, trials=2).ended_by is None
    assert go(bounded, formula, trials=3).ended_by is not None, "which has one trial too few"


def test_failed_trials_are_recorded_counted_and_passed_over(
    go: Go, spec: StudySpec, formula: Any, diary: Any
) -> None:
    formula.script = {
        0: Failed(reason="diverged", message="the loss is nan"),
        2: Failed(reason="x", message="y"),
    }
    summary = go(spec, formula, diary=diary)
    assert summary.status.counts["complete"] == summary.status.counts["failed"] == 2
    assert [(failure.trial, failure.reason) for failure in summary.status.failures] == [
        (0, "diverged"),
        (2, "x"),
    ]
    assert {row.trial for row in summary.front.rows} <= {1, 3}
    assert ("finish", "run-0", "Failed") in diary.events
    assert [event.values is None for event in diary.trials] == [True, False, True, False]
    assert diary.front["run-0"] is diary.front["run-2"] is False


def test_a_study_without_a_complete_trial_is_not_feasible(
    go: Go, spec: StudySpec, formula: Any, diary: Any
) -> None:
    formula.script = {place: Failed(reason="diverged", message="the loss is nan") for place in range(4)}
    with pytest.raises(NothingFeasible, match=r"no complete trial: all 4 failed; .*the loss is nan"):
        go(spec, formula, diary=diary)
    assert diary.events[-1] == ("close", "FAILED")


def test_hyperparameters_that_clash_fail_their_trial_and_not_the_study(
    go: Go, spec: StudySpec, formula: Any, diary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.run.hyperparameters import apply
    from painvrl.study.store import storage

    def picky(base: Any, point: Any) -> Any:
        return apply(base, {"mask.sparsity": 3.0} if len(diary.trials) == 1 else point)

    monkeypatch.setattr(storage, "apply", picky)
    summary = go(spec, formula, diary=diary, trials=3)
    (failure,) = summary.status.failures
    assert (failure.trial, failure.reason) == (1, "refused")
    assert "mask.sparsity" in failure.message
    assert "\n" not in failure.message


def test_the_front_is_kept_current_as_trials_land(go: Go, spec: StudySpec, formula: Any, diary: Any) -> None:
    values = [(0.1, 0.1), (0.2, 0.05), (0.3, 0.3), (0.1, 0.4)]
    formula.script = {
        place: Completed(metrics={"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood})
        for place, (iid, ood) in enumerate(values)
    }
    go(spec, formula, diary=diary)
    assert [(event.standing.on_front, event.standing.front_size) for event in diary.trials] == [
        (1, 1),
        (1, 2),
        (1, 1),
        (1, 2),
    ]
    assert diary.front == {"run-0": False, "run-1": False, "run-2": True, "run-3": True}


def test_the_points_of_a_swept_study_get_their_runs_when_it_ends_and_are_its_front_then(
    go: Go, swept_spec: StudySpec, formula: Any, swept: Any, diary: Any, workspace: Workspace
) -> None:
    marked: list[dict[str, bool]] = []
    formula.script = {
        0: swept((0.1, 0.4), (0.3, 0.3), (0.05, 0.2)),
        1: lambda: marked.append(diary.front),
        2: swept((0.6, 0.01)),
        3: Failed(reason="x", message="y"),
    }
    summary = go(swept_spec, formula, diary=diary)
    members = ["0.0", "0.1", "2.0"]  # the formula's own values of trial 1 are beaten by 0.1
    assert marked == [{"run-0": True}]
    assert diary.events[-2:] == [("points", [0, 1, 2], members), ("close", "FINISHED")]
    assert {row.run_id for row in summary.front.rows} == {f"run-{name}" for name in members}
    runs = open_study("toy", workspace).study.user_attrs["painvrl:runs"]
    assert runs == {name: f"run-{name}" for name in members}
    assert {run for run, member in diary.front.items() if member} == {f"run-{name}" for name in members}
    assert {run for run, member in diary.front.items() if not member} == {f"run-{n}" for n in range(4)}


def test_a_study_without_a_sweep_has_no_points_to_track(
    go: Go, spec: StudySpec, formula: Any, diary: Any, workspace: Workspace
) -> None:
    go(spec, formula, diary=diary, trials=2)
    assert "points" not in {event[0] for event in diary.events}
    assert "painvrl:runs" not in open_study("toy", workspace).study.user_attrs


@pytest.mark.parametrize("method", ["start", "finish", "mark_front", "close"])
def test_an_error_of_the_tracker_stops_no_study(
    go: Go, spec: StudySpec, formula: Any, workspace: Workspace, method: str
) -> None:
    class Down(NullTracker):
        def refuse(self, *_: object, **__: object) -> None:
            if formula.jobs:
                raise StudyError("MLflow does not answer")

    setattr(Down, method, Down.refuse)
    summary = go(spec, formula, tracker=Down())
    assert len(formula.jobs) == 4
    assert summary.status.counts["complete"] == 4


def test_a_tracker_that_refuses_at_the_start_is_an_error_before_anything_is_trained(
    go: Go, spec: StudySpec, formula: Any
) -> None:
    class Wrong(NullTracker):
        def open(self, *_: object) -> Any:
            raise StudyError("MLflow does not answer as it should: no permission")

    with pytest.raises(StudyError, match="no permission"):
        go(spec, formula, tracker=Wrong())
    assert formula.jobs == []
    go(spec, formula, trials=1)
    assert formula.points() == [spec.space.point_of(spec.config)]


def test_a_clean_up_that_fails_does_not_hide_the_first_error(
    go: Go, spec: StudySpec, formula: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StudyError("the database is locked, too")

    monkeypatch.setattr("painvrl.study.search.asktell.AskTell.interrupt", refuse)
    formula.script = {1: PlaceError("the disk is full")}
    with pytest.raises(PlaceError, match="the disk is full"):
        go(spec, formula)


def test_a_study_is_run_by_one_process_at_a_time(
    go: Go, spec: StudySpec, formula: Any, workspace: Workspace
) -> None:
    with (
        study_lock(workspace.lock_path("toy"), "toy"),
        pytest.raises(StudyError, match="is being run by another process"),
    ):
        go(spec, formula)
    assert formula.jobs == []


def test_changed_data_stop_a_study_before_its_first_trial(go: Go, spec: StudySpec, formula: Any) -> None:
    go(spec, formula, trials=1)
    other = type(formula)(data=type(formula.data)(fingerprint="planted-2"))
    with pytest.raises(StudyError, match=r"the data \(content or split\)"):
        go(spec, other)
    assert other.jobs == []


def test_data_that_cannot_be_read_leave_no_study_behind(
    spec_tree: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    spec_tree["config"]["data"] = {
        "kind": "table",
        "path": str(tmp_path / "absent.csv"),
        "item_table": {"path": str(tmp_path / "items.csv"), "key": "item", "text": "title"},
    }
    spec_tree["config"]["split"] = {"protocol": "popularity"}
    spec = StudySpec.model_validate(spec_tree)
    with pytest.raises(DataError, match=r"absent\.csv"):
        run_study(spec, workspace, CPU, tracker=NullTracker())
    assert list_studies(workspace) == ()


def test_no_trials_are_a_mistake(go: Go, spec: StudySpec, formula: Any) -> None:
    with pytest.raises(ConfigError, match="trials: must be at least 1"):
        go(spec, formula, trials=0)


DIE = """
import os, signal, sys
from pathlib import Path
import torch
from painvrl.engine.job import DataSummary
from painvrl.engine.outcomes import Completed
from painvrl.study.runner import run_study
from painvrl.study.file.spec import load_spec
from painvrl.study.tracking.port import NullTracker
from painvrl.core.workspace import Workspace

class Dies:
    data = DataSummary(fingerprint="planted-1")
    done = 0
    def __call__(self, job, on_stage, on_rung):
        if self.done == int(sys.argv[3]):
            print("training", flush=True)
            sys.stdin.read()
        self.done += 1
        sparsity = job.config.mask.sparsity
        return Completed(metrics={"iid/ndcg_at_20": 1 - sparsity, "ood/ndcg_at_20": sparsity})

try:
    run_study(load_spec(Path(sys.argv[1])), Workspace(Path(sys.argv[2])), torch.device("cpu"),
              objective=Dies(), tracker=NullTracker())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_process_that_is_killed_loses_at_most_the_trial_it_was_training(
    spec: StudySpec, workspace: Workspace, formula: Any, go: Go, tmp_path: Path, number: int, code: int
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(dump_yaml(spec), encoding="utf-8")
    command = [sys.executable, "-c", DIE, str(path), str(workspace.root), "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        with pytest.raises(StudyError, match=f"process {process.pid}"):
            go(spec, formula)
        os.kill(process.pid, number)
        process.wait(timeout=30)
    assert process.returncode == code
    left = open_study("toy", workspace).trials()
    assert left[2].state is (TrialState.RUNNING if number == signal.SIGKILL else TrialState.INTERRUPTED)
    go(spec, formula)
    records = open_study("toy", workspace).trials()
    assert [record.state.value for record in records] == [
        "complete",
        "complete",
        "interrupted",
        "complete",
        "complete",
    ]
    assert records[3].point == records[2].point
    assert len(formula.jobs) == 2


FATAL = """
import os, signal, sys, torch
from pathlib import Path
from painvrl.engine.job import DataSummary
from painvrl.engine.outcomes import Completed
from painvrl.study.runner import run_study
from painvrl.study.file.spec import load_spec
from painvrl.study.tracking.port import NullTracker
from painvrl.core.workspace import Workspace

class Fatal:
    data = DataSummary(fingerprint="planted-1")
    def __call__(self, job, on_stage, on_rung):
        on_stage("pretrain")
        if job.config.mask.sparsity == 0.5:  # that of the default configuration, which comes first
            os.kill(os.getpid(), signal.SIGKILL)
        return Completed(metrics={"iid/ndcg_at_20": 0.2, "ood/ndcg_at_20": 0.1})

run_study(load_spec(Path(sys.argv[1])), Workspace(Path(sys.argv[2])), torch.device("cpu"),
          objective=Fatal(), tracker=NullTracker())
"""


@pytest.mark.slow  # it starts six processes
def test_a_point_that_kills_the_process_of_the_study_each_time_does_not_keep_it_from_its_end(
    spec: StudySpec, workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(dump_yaml(spec), encoding="utf-8")
    command = [sys.executable, "-c", FATAL, str(path), str(workspace.root)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(6)]
    assert [run.returncode for run in runs] == [-9] * 5 + [0]
    assert "trial 4 has failed: 5 processes that trained it died" in runs[-1].stderr
    records = open_study("toy", workspace).trials()
    assert [record.state.value for record in records] == ["interrupted"] * 4 + ["failed"] + ["complete"] * 3
    assert records[4].reason == "worker_died"


@pytest.mark.slow
def test_a_real_study_repeats_to_the_last_bit_from_its_storage(
    spec_tree: dict[str, Any], workspace: Workspace
) -> None:
    from painvrl.run.pipeline import run
    from painvrl.run.prepare import prepare

    spec_tree["space"]["fusion.variant_weight"] = {"type": "float", "low": 0.0, "high": 1.0}
    spec = StudySpec.model_validate(spec_tree)
    begin = time.perf_counter()
    summary = run_study(spec, workspace, CPU, trials=3, tracker=NullTracker())
    assert time.perf_counter() - begin < 60
    assert summary.status.counts["complete"] == 3
    pick = select(open_study(None, workspace), prefer="iid")
    prepared = prepare(pick.config, cache_dir=workspace.cache, device=CPU)
    again = run(pick.config, prepared)
    assert dict(again.metrics) == dict(pick.metrics)
    assert np.isfinite(list(again.metrics.values())).all()
