"""A single worker: the process that runs the study."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace
from painvrl.engine.executor import SerialExecutor
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed
from painvrl.study import runner
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import run_study
from painvrl.study.store.storage import list_studies
from painvrl.study.tracking.port import NullTracker

CPU = torch.device("cpu")


def test_a_crew_of_one_trains_in_this_process(spec: StudySpec, formula: Any) -> None:
    executor = SerialExecutor(formula)
    reported: list[tuple[int, str]] = []
    executor.start(Job(number=7, point={}, config=spec.config))
    number, outcome = executor.next(lambda *event: reported.append(event))
    assert (number, reported, type(outcome)) == (7, [(7, "pretrain")], Completed)
    assert (executor.size, executor.data) == (1, formula.data)


def test_an_objective_of_ones_own_is_for_a_single_worker(
    spec: StudySpec, workspace: Workspace, formula: Any
) -> None:
    with pytest.raises(ConfigError, match="workers: must be 1 with an objective") as error:
        run_study(spec, workspace, CPU, workers=2, tracker=NullTracker(), objective=formula)
    assert error.value.value == 2
    assert formula.jobs == []
    assert list_studies(workspace) == ()


@pytest.mark.parametrize(("name", "fraction"), [("cuda", 0.5), ("cuda:1", None), ("cuda:1", 0.3)])
def test_a_single_worker_uses_a_cuda_device_with_a_number(
    spec: StudySpec,
    workspace: Workspace,
    formula: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fraction: float | None,
) -> None:
    current: list[torch.device] = []
    limits: list[tuple[float, torch.device]] = []

    def limit(wanted: float, device: torch.device) -> None:
        assert device.index is not None, "torch refuses a device without one"
        limits.append((wanted, device))

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
    made: list[torch.device] = []

    def make(*_: object, device: torch.device, **__: object) -> Any:
        made.append(device)
        return formula

    monkeypatch.setattr(runner, "TrainingObjective", make)
    device = torch.device(name)
    run_study(spec, workspace, device, memory_fraction=fraction, trials=1, tracker=NullTracker())
    expected = torch.device("cuda", device.index or 0)
    assert current == made == [expected]
    assert limits == ([] if fraction is None else [(fraction, expected)])
