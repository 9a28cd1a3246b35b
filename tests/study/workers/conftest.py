"""Worker processes: real ones, with trials that cost nothing."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from painvrl.core.workspace import Workspace
from painvrl.study import runner
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import StudySummary, run_study
from painvrl.study.tracking.port import NullTracker

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


@pytest.fixture(scope="session")
def is_alive() -> Callable[[int], bool]:
    """Whether a process runs; a zombie does not."""

    def check(process: int) -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        status = Path(f"/proc/{process}/status")
        try:
            return "State:\tZ" not in status.read_text()
        except OSError:
            return False

    return check


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Waits for a condition."""

    def wait(true: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not true():
            assert time.monotonic() < end, "waited for a minute"
            time.sleep(0.01)

    return wait
