"""What several processes train, and what each of them is reported."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from painvrl.core.errors import ConfigError, DataError, StudyError
from painvrl.core.workspace import Workspace
from painvrl.engine import processes as module
from painvrl.engine.job import Job, Objective
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned
from painvrl.engine.processes import ProcessExecutor, WorkerSpec, memory_fractions
from painvrl.run.config import TrainConfig
from painvrl.study import runner
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import run_study
from painvrl.study.store.storage import list_studies, open_study
from painvrl.study.tracking.port import NullTracker

CPU = torch.device("cpu")


def test_workers_train_as_many_trials_as_wanted_each_once_on_data_made_once(
    pooled: Any, spec: StudySpec, accidents: Path, diary: Any, is_alive: Callable[[int], bool]
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


@pytest.mark.slow
def test_a_random_study_tries_the_same_points_with_any_number_of_workers(
    pooled: Any, spec: StudySpec, workspace: Workspace, formula: Any, go: Any
) -> None:
    def named(name: str) -> StudySpec:
        study = spec.study.model_copy(update={"name": name, "sampler": "random"})
        return spec.model_copy(update={"study": study})

    go(named("one"), formula, trials=6)
    pooled(named("two"), trials=6)
    one, two = ([record.point for record in open_study(name, workspace).trials()] for name in ("one", "two"))
    assert one == two
    assert len({str(point) for point in one}) == 6


@pytest.mark.slow
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
    reported = []
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"absent\.csv") as error:
            run_study(spec, workspace, CPU, workers=workers, tracker=NullTracker())
        reported.append(str(error.value))
    assert reported[0] == reported[1]
    assert list_studies(workspace) == ()


def test_a_process_that_dies_over_the_data_is_said(
    toys: ModuleType, spec: StudySpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TrainingObjective", toys.Dead)
    monkeypatch.setattr(module, "MAX_DESCRIBERS", 1)
    with pytest.raises(StudyError, match="die while they prepare the data"):
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


@pytest.mark.slow
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
    assert len(list((workspace.cache / "pretrained").glob("*.pt"))) == 1


@pytest.mark.slow
def test_trials_in_processes_are_judged_at_their_rungs_by_the_one_that_runs_the_study(
    toys: ModuleType, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    make = partial(toys.Toy, tiny_config, cache_dir=tmp_path / "cache", device=CPU, share_pretrained=False)
    specs = [WorkerSpec(make=make, device=CPU, threads=1) for _ in range(2)]
    asked: list[tuple[int, str]] = []

    def on_rung(number: int, rung: str, values: Mapping[str, float]) -> str | None:
        assert values["ood/ndcg_at_20"] == tiny_config.mask.sparsity
        asked.append((number, rung))
        return "it is hopeless" if (number, rung) == (1, "pretrain/2") else None

    rungs = frozenset({"pretrain/1", "pretrain/2"})
    with closing(ProcessExecutor(specs)) as pool:
        for number in range(2):
            pool.start(Job(number=number, point={}, config=tiny_config, rungs=rungs))
        outcomes = dict(pool.next(lambda *_: None, on_rung) for _ in range(2))
    assert sorted(asked) == [(number, rung) for number in range(2) for rung in sorted(rungs)]
    assert isinstance(outcomes[0], Completed)
    assert isinstance(outcomes[1], Pruned)
    assert (outcomes[1].rung, outcomes[1].message) == ("pretrain/2", "it is hopeless")


@pytest.fixture
def failing_worker(spec: StudySpec) -> Callable[[Exception], Outcome]:
    """Trains a trial in a process whose objective cannot be made."""

    def train(error: Exception) -> Outcome:
        def make() -> Objective:
            raise error

        spec_of = WorkerSpec(make=make, device=CPU, threads=1)
        worker = module._Worker(spec_of, SimpleNamespace(), SimpleQueue())
        said = worker.do(Job(number=0, point={}, config=spec.config))
        if isinstance(said, module._Raised):
            raise said.error
        return said

    return train


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("no room"), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (FileNotFoundError("gone"), "unexpected"),
    ],
)
def test_a_worker_that_cannot_prepare_its_data_fails_its_trial_and_not_the_study(
    failing_worker: Callable[[Exception], Outcome], error: Exception, reason: str
) -> None:
    outcome = failing_worker(error)
    assert isinstance(outcome, Failed)
    assert outcome.reason == reason
    assert str(error) in outcome.message
    assert outcome.log is not None
    assert "Traceback" in outcome.log


def test_a_users_mistake_that_a_worker_meets_is_everybodys(
    failing_worker: Callable[[Exception], Outcome],
) -> None:
    with pytest.raises(DataError, match="broken"):
        failing_worker(DataError("broken"))
