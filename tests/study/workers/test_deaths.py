"""Worker processes that die, and those that have to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.job import Job
from painvrl.engine.loop import MAX_DEATHS
from painvrl.engine.outcomes import Completed
from painvrl.engine.processes import ProcessExecutor, WorkerSpec
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import open_study

CPU = torch.device("cpu")

IsAlive = Callable[[int], bool]
WaitUntil = Callable[[Callable[[], bool]], None]


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_own_trial_only_and_the_point_comes_back(
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
    assert summary.status.counts["complete"] == summary.status.finished == 5
    records = open_study("toy", workspace).trials()
    assert [record.number for record in records if record.state is TrialState.INTERRUPTED] == [1]
    assert len(records) == 6
    assert (records[2].point, records[2].deaths) == (records[1].point, 1)
    assert [(trial.number, trial.finished) for trial in listening.trials][:2] == [(1, 0), (2, 1)]
    assert listening.trials[0].outcome.reason == "worker_died"
    assert listening.trials[0].outcome.message.endswith("it is tried again")
    assert ("kill", "run-1") in listening.events
    traces = {int((accidents / f"trained-{number}").read_text().split()[0]) for number in (0, 1, 2)}
    assert len(traces) == 3


@pytest.mark.slow
def test_a_point_that_kills_every_worker_is_given_up(
    pooled: Any, spec: StudySpec, accidents: Path, diary: Any, workspace: Workspace
) -> None:
    (accidents / "0").write_text("wait")
    for number in range(1, MAX_DEATHS + 1):
        (accidents / str(number)).write_text("die")

    class Releases(type(diary)):  # type: ignore[misc]
        def trial_finished(self, event: Any) -> None:
            super().trial_finished(event)
            if event.finished == 1:
                (accidents / "0").unlink(missing_ok=True)

    listening = Releases()
    summary = pooled(spec, diary=listening, trials=3)
    (failure,) = summary.status.failures
    assert (failure.trial, failure.reason) == (MAX_DEATHS, "worker_died")
    assert failure.message == "the process that trained it died (killed, or out of memory)"
    assert summary.status.counts["complete"] == 2
    records = open_study("toy", workspace).trials()
    assert len({str(record.point) for record in records[1 : MAX_DEATHS + 1]}) == 1
    assert ("finish", f"run-{MAX_DEATHS}", "Failed") in listening.events


@pytest.mark.slow
def test_a_worker_that_died_between_two_tasks_is_replaced(
    toys: ModuleType, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    make = partial(toys.Toy, tiny_config, cache_dir=tmp_path / "cache", device=CPU, share_pretrained=False)
    with closing(ProcessExecutor([WorkerSpec(make=make, device=CPU, threads=1)])) as pool:
        (first,) = multiprocessing.active_children()
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        first.join()
        pool.start(Job(number=3, point={}, config=tiny_config))
        number, outcome = pool.next(lambda *_: None)
    assert (number, type(outcome)) == (3, Completed)


@pytest.mark.slow
def test_interrupted_workers_end_and_the_same_call_goes_on(
    pooled: Any,
    spec: StudySpec,
    accidents: Path,
    diary: Any,
    workspace: Workspace,
    is_alive: IsAlive,
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
from painvrl.study.file.spec import load_spec
from painvrl.study.tracking.port import NullTracker
from painvrl.core import interrupts
from painvrl.core.workspace import Workspace

if __name__ == "__main__":
    runner.TrainingObjective = toy_objectives.Toy
    interrupts.listen()  # as the command does
    try:
        runner.run_study(load_spec(Path(sys.argv[1])), Workspace(Path(sys.argv[2])), torch.device("cpu"),
                         workers=2, tracker=NullTracker())
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)],
)
def test_workers_die_with_the_process_that_runs_the_study(
    pooled: Any,
    spec: StudySpec,
    workspace: Workspace,
    accidents: Path,
    tmp_path: Path,
    is_alive: IsAlive,
    wait_until: WaitUntil,
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
        if number != signal.SIGKILL:
            os.killpg(process.pid, number)  # as a terminal and a scheduler do: to the workers, too
        else:
            os.kill(process.pid, number)
        _, reported = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in reported
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
    state = TrialState.RUNNING if number == signal.SIGKILL else TrialState.INTERRUPTED
    assert [record.state for record in open_study("toy", workspace).trials()] == [state, state]
    for waiting in (0, 1):
        (accidents / str(waiting)).unlink()
    assert pooled(spec).status.finished == 4
