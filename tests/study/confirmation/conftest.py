"""Studies whose trials cost nothing and whose values depend on the seed, with and without a sweep."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from painvrl.core.rng import derive_seed
from painvrl.core.workspace import Workspace
from painvrl.engine.events import TrialFinished
from painvrl.engine.job import DataSummary, Job, OnRung
from painvrl.engine.outcomes import Completed, Failed, Outcome, SweptPoint
from painvrl.run.config import TrainConfig
from painvrl.study.confirmation.confirm import ConfirmationSummary, Step, run_confirmation
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import run_study
from painvrl.study.store.creation import create_study
from painvrl.study.store.storage import StoredStudy, open_study
from painvrl.study.tracking.port import NullTracker

DATA = DataSummary(fingerprint="planted-1", all_seeds="planted", numbers="code")


@dataclass
class Noisy:
    """Sparsity buys OOD with IID; a seed moves everything, and each run by ``noise`` of its own.

    ``failing``: seeds and sparsities whose run fails. ``interrupted``: the run that Ctrl-C stops.
    """

    space: ClassVar[dict[str, dict[str, object]]] = {}
    noise: float = 0.0
    failing: Callable[[int, float], bool] = lambda seed, sparsity: False
    interrupted: int | None = None
    data: DataSummary = field(
        default=DataSummary(fingerprint="planted-1", all_seeds="planted", numbers="code")
    )
    jobs: list[Job] = field(default_factory=list)

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        if len(self.jobs) == self.interrupted:
            raise KeyboardInterrupt
        self.jobs.append(job)
        seed, sparsity = job.config.seed, job.config.mask.sparsity
        if self.failing(seed, sparsity):
            return Failed(reason="diverged", message="too fast")
        own = np.random.default_rng(derive_seed(seed, sparsity)).standard_normal(2) * self.noise
        shared = 0.01 * np.random.default_rng(seed).standard_normal(2)
        # Above 0.5 both fall: those trials are dominated.
        truth = np.array([0.3 * (1 - sparsity), 0.2 * min(sparsity, 1 - sparsity)])
        iid, ood = (truth + own + shared).tolist()
        return Completed(metrics={"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood})

    def asked(self) -> list[tuple[float, int]]:
        """Sparsity and seed of every run, in order."""
        return [(job.config.mask.sparsity, job.config.seed) for job in self.jobs]


WEIGHT = "fusion.popularity_weight"
WEIGHTS = (0.0, -0.11, -0.23, -0.31)


@dataclass
class Curved(Noisy):
    """Weighs popularity after training: the weight buys more OOD with IID.

    A point moves with its training, and half as much on its own.
    """

    space: ClassVar[dict[str, dict[str, object]]] = {WEIGHT: {"type": "float", "low": -0.5, "high": 0.1}}

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        trained = super().__call__(job, on_stage, on_rung)
        if not isinstance(trained, Completed):
            return trained
        assert job.sweep is not None
        points = job.at or [{WEIGHT: weight} for weight in WEIGHTS]
        return replace(
            trained,
            points=tuple(
                SweptPoint(values=point, metrics=self.weighed(job, trained, float(point[WEIGHT])))
                for point in points
            ),
        )

    def weighed(self, job: Job, trained: Completed, weight: float) -> dict[str, float]:
        seed = derive_seed(job.config.seed, job.config.mask.sparsity, weight)
        moves = np.random.default_rng(seed).standard_normal(2) * self.noise / 2 + weight * np.array(
            [0.2, -0.25]
        )
        return {
            name: value + float(move)
            for (name, value), move in zip(trained.metrics.items(), moves, strict=True)
        }


@dataclass
class Ear:
    """Hears of runs and steps."""

    titles: list[str] = field(default_factory=list)
    finished: list[TrialFinished] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def study_started(self, event: object) -> None:
        raise AssertionError("a confirmation starts no study")

    def trial_started(self, event: Any) -> None:
        self.titles.append(event.title)

    def trial_stage(self, number: int, stage: str) -> None:
        pass

    def trial_finished(self, event: TrialFinished) -> None:
        self.finished.append(event)


@pytest.fixture
def noisy() -> type[Noisy]:
    """Makes an objective."""
    return Noisy


@pytest.fixture
def curved() -> type[Curved]:
    """Makes an objective that is swept."""
    return Curved


SPARSITIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.9)


@pytest.fixture(scope="session")
def studies(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory, empty_storage: Path) -> Any:
    """Storages of studies that were run once, by kind of objective, noise and sparsities."""

    @cache
    def run(kind: type[Noisy], noise: float, sparsities: tuple[float, ...]) -> Path:
        tree = {
            "study": {"name": "toy"},
            "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
            "config": {**tiny_config.model_dump(mode="json"), "mask": {"sparsity": sparsities[0]}, "seed": 7},
            "presets": [],
            "pruning": False,
            "space": {"mask.sparsity": {"type": "categorical", "choices": list(sparsities)}, **kind.space},
        }
        spec, objective = StudySpec.model_validate(tree), kind(noise=noise)
        place = Workspace(tmp_path_factory.mktemp("study")).create()
        shutil.copy(empty_storage, place.optuna_db)
        stored, _ = create_study(spec, place, data=objective.data.fingerprint)
        for sparsity in sparsities[1:]:
            stored.study.enqueue_trial({"mask.sparsity": sparsity})
        cpu = torch.device("cpu")
        run_study(spec, place, cpu, trials=len(sparsities), objective=objective, tracker=NullTracker())
        return place.optuna_db

    return run


@pytest.fixture
def study(workspace: Workspace, studies: Callable[..., Path]) -> Callable[..., StoredStudy]:
    """Gives a study of sparsities, run with the noise of an objective, in this test's workspace."""

    def give(objective: Noisy, sparsities: tuple[float, ...] = SPARSITIES) -> StoredStudy:
        # Not by file: what was written last may still stand beside it.
        with closing(sqlite3.connect(studies(type(objective), objective.noise, sparsities))) as source:
            workspace.optuna_db.unlink()
            with closing(sqlite3.connect(workspace.optuna_db)) as target:
                source.backup(target)
        return open_study("toy", workspace)

    return give


@pytest.fixture
def confirm(workspace: Workspace) -> Callable[..., tuple[ConfirmationSummary, Ear]]:
    """Confirms a stored study with an objective."""

    def run(stored: Any, objective: Noisy, **options: Any) -> tuple[ConfirmationSummary, Ear]:
        ear = Ear()
        summary = run_confirmation(
            stored,
            workspace,
            torch.device("cpu"),
            progress=ear,
            on_step=ear.steps.append,
            objective=objective,
            **options,
        )
        return summary, ear

    return run
