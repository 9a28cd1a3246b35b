"""A tiny ablation: three presets and a variant under two seeds, run once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import validated
from painvrl.engine.events import StudyStarted, TrialFinished, TrialStarted
from painvrl.run.config import TrainConfig
from painvrl.study.ablation.ablate import AblationSummary, run_ablation
from painvrl.study.ablation.spec import AblationSpec
from painvrl.study.tracking.port import NullTracker, Tracker

Tree = dict[str, Any]


def tree_of(config: TrainConfig) -> Tree:
    return {
        "ablation": {
            "name": "tiny",
            "seeds": [3, 4],
            "presets": ["ultragcn", "erm", "painvrl"],
            "reference": "painvrl",
            "draws": 150,
        },
        "config": config.model_dump(mode="json"),
        "variants": {"loud": {"preset": "painvrl", "mask.sparsity": 0.2, "fusion.variant_weight": 1.0}},
    }


@pytest.fixture
def tree(tiny_config: TrainConfig) -> Tree:
    """The ablation's file as plain values; each test gets its own copy."""
    return tree_of(tiny_config)


@dataclass
class Listener:
    """Writes down what is trained."""

    started: list[StudyStarted] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    finished: list[TrialFinished] = field(default_factory=list)

    def study_started(self, event: StudyStarted) -> None:
        self.started.append(event)

    def trial_started(self, event: TrialStarted) -> None:
        assert event.title is not None
        self.titles.append(" ".join(event.title.split()))

    def trial_stage(self, number: int, stage: str) -> None:
        pass

    def trial_finished(self, event: TrialFinished) -> None:
        self.finished.append(event)


Go = Callable[..., tuple[AblationSummary, Listener]]


def go(tree: Mapping[str, Any], folder: Path, tracker: Tracker | None = None, **options: Any) -> Any:
    spec, listener = validated(AblationSpec, tree), Listener()
    summary = run_ablation(
        spec,
        Workspace(folder),
        torch.device("cpu"),
        progress=listener,
        tracker=tracker or NullTracker(),
        **options,
    )
    return summary, listener


@pytest.fixture(scope="session", name="go")
def _go() -> Go:
    """Runs an ablation in a folder, untracked unless reported otherwise."""
    return go


@pytest.fixture(scope="session")
def done(
    tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AblationSummary, Listener, Path]:
    """The tiny ablation after its run; its folder is not to be written to."""
    folder = tmp_path_factory.mktemp("ablation")
    return *go(tree_of(tiny_config), folder), folder


@pytest.fixture
def folder(
    done: tuple[AblationSummary, Listener, Path], tmp_path: Path, copied: Callable[[Path, Path], Path]
) -> Path:
    """A copy of the finished ablation's workspace for this test alone."""
    return copied(done[2], tmp_path / "workspace")
