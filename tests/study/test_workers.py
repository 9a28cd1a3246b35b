"""Worker processes: real ones, with trials that cost nothing."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from painvrl.errors import ConfigError, DataError, StudyError
from painvrl.study import runner
from painvrl.study.objective import Completed, TrialJob
from painvrl.study.records import TrialState
from painvrl.study.runner import StudySummary, run_study
from painvrl.study.spec import StudySpec
from painvrl.study.storage import list_studies, open_study
from painvrl.study.tracking import NullTracker
from painvrl.study.workers import Alone, memory_fractions
from painvrl.workspace import Workspace
from painvrl.yamlfile import dump_yaml

CPU = torch.device("cpu")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The toy objectives, importable by worker processes (they get this process's path)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    module = importlib.import_module("toy_objectives")
    yield module
    sys.modules.pop("toy_objectives")


@pytest.fixture
def accidents(workspace: Workspace) -> Path:
    """Where a file named like a trial says what happens to it, and where workers leave their traces."""
    folder = workspace.root / "accidents"
    folder.mkdir()
    return folder


@pytest.fixture
def pooled(
    toys: ModuleType, accidents: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., StudySummary]:
    """Runs a study of toys with several workers."""
    monkeypatch.setattr(runner, "TrainingObjective", toys.Toy)

    def go(spec: StudySpec, *, workers: int = 2, diary: Any = None, **more: Any) -> StudySummary:
        return run_study(
            spec,
            workspace,
            CPU,
            workers=workers,
            progress=diary,
            tracker=diary or NullTracker(),
            **more,
        )

    return go


def test_workers_train_as_many_trials_as_wanted_each_once_on_data_made_once(
    pooled: Any, spec: StudySpec, accidents: Path, diary: Any
) -> None:
    (accidents / "0").write_text("wait")  # until the second process has trained a trial

    class Releases(type(diary)):  # type: ignore[misc]
        def trial_finished(self, event: Any) -> None:
            super().trial_finished(event)
            (accidents / "0").unlink(missing_ok=True)

    listening = Releases()
    summary = pooled(spec, diary=listening, trials=6)
    assert summary.status.counts["complete"] == summary.status.finished == 6
    traces = [(accidents / f"trained-{number}").read_text().split() for number in range(6)]
    processes = {process for process, _ in traces}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    assert {threads for _, threads in traces} == {"1"}
    assert [(accidents / f"made-{process}").read_text() for process in processes] == ["x", "x"]
    kinds = [event[0] for event in listening.events]
    assert kinds[-1] == "close"
    assert kinds.count("trial_finished") == kinds.count("start") == kinds.count("finish") == 6
    assert sorted(event[1] for event in listening.events if event[0] == "stage") == list(range(6))
    assert [event.finished for event in listening.trials] == [1, 2, 3, 4, 5, 6]
    assert [event[:2] for event in listening.events[1:5]] == [
        ("trial_started", 0),
        ("start", 0),
        ("trial_started", 1),
        ("start", 1),
    ]
    assert not any(is_alive(int(process)) for process in processes)


def test_a_worker_that_dies_costs_its_own_trial_only(
    pooled: Any, spec: StudySpec, accidents: Path, diary: Any, workspace: Workspace
) -> None:
    (accidents / "0").write_text("wait")
    (accidents / "1").write_text("die")

    class Releases(type(diary)):  # type: ignore[misc]
        def trial_finished(self, event: Any) -> None:
            super().trial_finished(event)
            if event.number == 2:  # trained by a process that replaced the dead one
                (accidents / "0").unlink()

    listening = Releases()
    summary = pooled(spec, diary=listening, trials=5)
    (failure,) = summary.status.failures
    assert (failure.trial, failure.reason) == (1, "worker_died")
    assert "died" in failure.message
    assert summary.status.counts["complete"] == 4
    assert [trial.number for trial in listening.trials][:2] == [1, 2]
    traces = {int((accidents / f"trained-{number}").read_text().split()[0]) for number in (0, 1, 2)}
    assert len(traces) == 3
    assert len(open_study("toy", workspace).trials()) == 5


def test_a_worker_that_died_between_two_trials_is_replaced(
    pooled: Any, spec: StudySpec, accidents: Path, diary: Any
) -> None:
    class Kills(type(diary)):  # type: ignore[misc]
        def trial_finished(self, event: Any) -> None:
            super().trial_finished(event)
            if len(self.trials) == 1:
                process = int((accidents / f"trained-{event.number}").read_text().split()[0])
                os.kill(process, signal.SIGKILL)
                wait_until(lambda: not is_alive(process))
                time.sleep(0.3)  # the executor notices

    summary = pooled(spec, diary=Kills(), trials=5)
    assert summary.status.finished == 5
    assert summary.status.counts["failed"] <= 1  # where the executor had not noticed yet


@pytest.mark.parametrize("sampler", ["random"])
def test_a_random_study_tries_the_same_points_with_any_number_of_workers(
    pooled: Any, spec: StudySpec, workspace: Workspace, formula: Any, go: Any, sampler: str
) -> None:
    def named(name: str) -> StudySpec:
        study = spec.study.model_copy(update={"name": name, "sampler": sampler})
        return spec.model_copy(update={"study": study})

    go(named("one"), formula, trials=6)
    pooled(named("two"), trials=6)
    one, two = ([record.point for record in open_study(name, workspace).trials()] for name in ("one", "two"))
    assert one == two
    assert len({str(point) for point in one}) == 6


def test_interrupted_workers_end_and_the_same_call_goes_on(
    pooled: Any, spec: StudySpec, accidents: Path, diary: Any, workspace: Workspace
) -> None:
    for number in (2, 3):
        (accidents / str(number)).write_text("wait")

    class Stops(type(diary)):  # type: ignore[misc]
        def trial_stage(self, number: int, stage: str) -> None:
            super().trial_stage(number, stage)
            if {2, 3} <= {event[1] for event in self.events if event[0] == "stage"}:
                raise KeyboardInterrupt

    stopped = Stops()
    with pytest.raises(KeyboardInterrupt):
        pooled(spec, diary=stopped, trials=6)
    records = open_study("toy", workspace).trials()
    states = [record.state for record in records]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.INTERRUPTED] * 2
    assert {event for event in stopped.events if event[0] == "kill"} == {("kill", "run-2"), ("kill", "run-3")}
    assert stopped.events[-1] == ("close", "KILLED")
    processes = {int(path.name.split("-")[1]) for path in accidents.glob("made-*")}
    assert len(processes) == 2
    assert not any(is_alive(process) for process in processes)
    for number in (2, 3):
        (accidents / str(number)).unlink()
    summary = pooled(spec, trials=6)
    assert summary.status.finished == 6
    after = open_study("toy", workspace).trials()
    assert [record.point for record in after[4:6]] == [record.point for record in records[2:4]]


STUDY = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[3])
import toy_objectives
from painvrl.study import runner
from painvrl.study.spec import load_spec
from painvrl.study.tracking import NullTracker
from painvrl.workspace import Workspace

if __name__ == "__main__":
    runner.TrainingObjective = toy_objectives.Toy
    try:
        runner.run_study(load_spec(Path(sys.argv[1])), Workspace(Path(sys.argv[2])), torch.device("cpu"),
                         workers=2, tracker=NullTracker())
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_workers_die_with_the_process_that_runs_the_study(
    pooled: Any,
    spec: StudySpec,
    workspace: Workspace,
    accidents: Path,
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    path, program = tmp_path / "toy.yaml", tmp_path / "study.py"
    path.write_text(dump_yaml(spec), encoding="utf-8")
    program.write_text(STUDY, encoding="utf-8")
    for waiting in (0, 1):
        (accidents / str(waiting)).write_text("wait")
    command = [sys.executable, str(program), str(path), str(workspace.root), str(Path(__file__).parent)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: all((accidents / f"trained-{waiting}").exists() for waiting in (0, 1)))
        workers = {int((accidents / f"trained-{waiting}").read_text().split()[0]) for waiting in (0, 1)}
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to the workers, too
        else:
            os.kill(process.pid, number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in told
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
    state = TrialState.RUNNING if number == signal.SIGKILL else TrialState.INTERRUPTED
    assert [record.state for record in open_study("toy", workspace).trials()] == [state, state]
    for waiting in (0, 1):
        (accidents / str(waiting)).unlink()
    assert pooled(spec).status.finished == 4


def test_data_that_cannot_be_read_are_said_as_with_one_worker(
    spec_tree: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    spec_tree["config"]["data"] = {
        "kind": "table",
        "path": str(tmp_path / "absent.csv"),
        "item_table": {"path": str(tmp_path / "items.csv"), "key": "item", "text": "title"},
    }
    spec_tree["config"]["split"] = {"protocol": "popularity"}
    spec = StudySpec.model_validate(spec_tree)
    told = []
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"absent\.csv") as error:
            run_study(spec, workspace, CPU, workers=workers, tracker=NullTracker())
        told.append(str(error.value))
    assert told[0] == told[1]
    assert list_studies(workspace) == ()


def test_a_process_that_dies_over_the_data_is_said(
    toys: ModuleType, spec: StudySpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TrainingObjective", toys.Dead)
    with pytest.raises(StudyError, match="died while it prepared the data"):
        run_study(spec, workspace, CPU, workers=2, tracker=NullTracker())
    assert list_studies(workspace) == ()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_memory_fraction_is_for_cuda(spec: StudySpec, workspace: Workspace, workers: int) -> None:
    with pytest.raises(ConfigError, match="--memory-fraction"):
        run_study(spec, workspace, CPU, workers=workers, memory_fraction=0.5, tracker=NullTracker())


def test_workers_that_share_a_device_share_its_memory() -> None:
    one, other = torch.device("cuda", 0), torch.device("cuda", 1)
    assert memory_fractions([one, other, one], None) == (0.475, None, 0.475)
    assert memory_fractions([one], None) == (None,)
    assert memory_fractions([one, one], 0.3) == (0.3, 0.3)
    assert memory_fractions([CPU, CPU], None) == (None, None)


def test_a_crew_of_one_trains_in_this_process(spec: StudySpec, formula: Any) -> None:
    crew = Alone(formula)
    told: list[tuple[int, str]] = []
    crew.start(TrialJob(number=7, point={}, config=spec.config))
    number, outcome = crew.next(lambda *event: told.append(event))
    assert (number, told, type(outcome)) == (7, [(7, "pretrain")], Completed)
    assert (crew.size, crew.data) == (1, formula.data)


def test_real_trials_in_workers_are_those_of_one_process(
    spec_tree: dict[str, Any], workspace: Workspace
) -> None:
    spec_tree["study"]["sampler"] = "random"
    results = []
    for workers in (1, 2):
        spec_tree["study"]["name"] = f"with-{workers}"
        spec = StudySpec.model_validate(spec_tree)
        run_study(spec, workspace, CPU, workers=workers, trials=3, tracker=NullTracker())
        records = open_study(f"with-{workers}", workspace).trials()
        results.append([(record.point, record.values) for record in records])
    assert results[0] == results[1]
    assert len(list((workspace.cache / "pretrained").glob("*.npz"))) == 1


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited for a minute"
        time.sleep(0.01)
