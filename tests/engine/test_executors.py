"""What every executor keeps to. A new one is added to ``EXECUTORS``, and nothing else."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import pytest
import torch

from painvrl.cli import output
from painvrl.core import shown
from painvrl.core.errors import StudyError
from painvrl.engine.executor import Executor, Placement, executor_of
from painvrl.engine.job import Job
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome, Pruned
from painvrl.run.config import TrainConfig

CPU = torch.device("cpu")

Make: TypeAlias = Callable[[ModuleType], AbstractContextManager[Executor]]

EXECUTORS: dict[str, Make] = {
    "serial": lambda toys: executor_of(toys.Toy, CPU, 1),
    "processes": lambda toys: executor_of(toys.Toy, CPU, 2),
    "ray": lambda toys: on_ray(toys.Toy),
}
SLOW = ("ray",)  # a cluster takes seconds to start
OUTLIVES_A_DEATH = ("processes", "ray")


def marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


@contextmanager
def on_ray(make: Callable[..., Any]) -> Iterator[Executor]:
    """Two workers on a cluster of this machine alone, which further ones share."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    begun_here = not ray.is_initialized()
    if begun_here:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the module of toys
            ray.init(
                num_cpus=4, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False
            )
    try:
        with executor_of(make, CPU, 2, placement=Placement(executor="ray")) as made:
            yield made
    finally:
        if begun_here:
            ray.shutdown()


@pytest.fixture(scope="module")
def toys() -> Iterator[ModuleType]:
    """Importable by worker processes, which get this process's path."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    yield importlib.import_module("toy_objective")
    sys.modules.pop("toy_objective")
    sys.path.remove(folder)


@pytest.fixture(scope="module", params=marked(EXECUTORS))
def executor(request: pytest.FixtureRequest, toys: ModuleType) -> Iterator[Executor]:
    with EXECUTORS[request.param](toys) as made:
        yield made


@pytest.fixture
def job(tiny_config: TrainConfig) -> Callable[..., Job]:
    def make(number: int, act: str | None = None, *rungs: str) -> Job:
        return Job(number=number, point={"act": act}, config=tiny_config, rungs=frozenset(rungs))

    return make


def all_of(executor: Executor, jobs: list[Job], stages: list[tuple[int, str]]) -> dict[int, Outcome]:
    """Every job's outcome, with as many under way as there is room for."""
    waiting, under_way, outcomes = list(jobs), 0, {}
    while waiting or under_way:
        while waiting and under_way < executor.size:
            executor.start(waiting.pop(0))
            under_way += 1
        ended = executor.next(lambda *stage: stages.append(stage))
        if ended is None:
            continue
        number, outcome = ended
        under_way -= 1
        assert number not in outcomes
        outcomes[number] = outcome
    return outcomes


def test_it_says_what_data_every_job_has(executor: Executor) -> None:
    assert executor.data.fingerprint == "toy on cpu"
    assert executor.size >= 1


def test_every_job_has_its_own_outcome_once_the_same_in_every_executor(
    executor: Executor, toys: ModuleType, job: Callable[..., Job]
) -> None:
    jobs = [job(number) for number in range(5)]
    objective = toys.Toy(device=CPU)
    expected = {each.number: objective(each, lambda _: None, lambda *_: None) for each in jobs}
    assert all_of(executor, jobs, []) == expected


def test_stages_are_passed_on_in_their_order(executor: Executor, job: Callable[..., Job]) -> None:
    stages: list[tuple[int, str]] = []
    all_of(executor, [job(number) for number in range(4)], stages)
    for number in range(4):
        assert [stage for one, stage in stages if one == number] == ["pretrain", f"round {number}"]


def test_a_failure_is_an_outcome_and_the_next_job_goes_on(
    executor: Executor, job: Callable[..., Job]
) -> None:
    outcomes = all_of(executor, [job(0, "fail"), job(1), job(2)], [])
    assert outcomes[0] == Failed(reason="diverged", message="job 0 is not finite")
    assert all(isinstance(outcomes[number], Completed) for number in (1, 2))


def test_a_job_is_judged_at_its_rungs_and_stops_where_the_answer_says_so(
    executor: Executor, job: Callable[..., Job]
) -> None:
    asked: list[tuple[int, str, float]] = []

    def judge(number: int, rung: str, values: Mapping[str, float]) -> str | None:
        asked.append((number, rung, values["iid/ndcg_at_20"]))
        return "hopeless" if rung == "b/2" else None

    outcomes = {}
    for number, rungs in ((3, ("a/1", "b/2", "c/3")), (4, ("a/1",))):
        executor.start(job(number, None, *rungs))
        while (ended := executor.next(lambda *_: None, judge)) is None:
            pass
        outcomes |= dict([ended])
    assert asked == [(3, "a/1", 0.3), (3, "b/2", 0.3), (4, "a/1", 0.4)]
    assert isinstance(outcomes[4], Completed)
    stopped = outcomes[3]
    assert isinstance(stopped, Pruned)
    assert (stopped.rung, stopped.message, stopped.metrics) == ("b/2", "hopeless", {"iid/ndcg_at_20": 0.3})


def test_without_a_judge_nothing_is_stopped(executor: Executor, job: Callable[..., Job]) -> None:
    assert isinstance(all_of(executor, [job(0, None, "a/1")], [])[0], Completed)


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(OUTLIVES_A_DEATH))
def test_a_death_ends_its_own_job_alone_and_leaves_room_for_another(
    name: str, toys: ModuleType, job: Callable[..., Job]
) -> None:
    with EXECUTORS[name](toys) as executor:
        outcomes = all_of(executor, [job(0), job(1, "die"), job(2), job(3)], [])
    died = outcomes.pop(1)
    assert isinstance(died, Failed)
    assert died.reason == WORKER_DIED
    assert all(isinstance(outcome, Completed) for outcome in outcomes.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTLIVES_A_DEATH)
def test_a_job_that_hangs_ends_when_its_time_is_over_and_leaves_room_for_another(
    name: str, toys: ModuleType, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("painvrl.engine.deadline.GRACE_SECONDS", 0.2)
    monkeypatch.setattr("painvrl.engine.deadline.START_SECONDS", 5.0)
    with EXECUTORS[name](toys) as executor:
        hangs = replace(job(1, "stop"), timeout=0.1)
        outcomes = all_of(executor, [job(0), hangs, job(2), job(3)], [])
    late = outcomes.pop(1)
    assert isinstance(late, Failed)
    assert (late.reason, "time was over" in late.message) == (WORKER_DIED, True)
    assert all(isinstance(outcome, Completed) for outcome in outcomes.values())


@pytest.mark.parametrize("name", OUTLIVES_A_DEATH)
def test_an_interrupt_that_was_swallowed_ends_the_wait_for_a_job_and_closing_waits_for_nobody(
    name: str, toys: ModuleType, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("painvrl.engine.processes.END_SECONDS", 0.5)
    others = multiprocessing.active_children()

    def on_stage(number: int, stage: str) -> None:
        monkeypatch.setattr("painvrl.core.interrupts._asked", stage == "round 1")

    with pytest.raises(KeyboardInterrupt), EXECUTORS[name](toys) as executor:  # noqa: PT012 (to its end)
        executor.start(job(1, "stop"))
        while executor.next(on_stage) is None:  # there is room for another one
            pass
    assert multiprocessing.active_children() == others


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [1, 99])
def test_deaths_over_the_data_are_tried_again_and_said_in_the_end(
    toys: ModuleType, tmp_path: Path, deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("painvrl.engine.processes.MAX_DESCRIBERS", 2)
    (tmp_path / "deaths").write_text(str(deaths))
    made = executor_of(partial(toys.Frail, tmp_path / "deaths"), CPU, 2)
    if deaths == 1:
        with made as executor:
            assert executor.data.fingerprint == "toy on cpu"
    else:
        with pytest.raises(StudyError, match=r"die while they prepare the data.*\(found 2\)"), made:
            pass
    assert (tmp_path / "deaths").read_text() == str(max(0, deaths - 2))


@pytest.mark.slow
def test_a_worker_process_shows_no_secret_where_its_driver_does_not(
    toys: ModuleType, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "GUARDS", [output.guard_output])
    with executor_of(toys.Loud, CPU, 2):
        pass
    assert "postgresql://me:***@host/db" in (said := capfd.readouterr().err)
    assert "hunter2" not in said
