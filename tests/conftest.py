"""What every test relies on: one thread, an empty environment, and a tiny trained recommender."""

from __future__ import annotations

import copy
import os
import signal

# Before anything imports torch, mlflow or a tokenizer; subprocesses inherit it.
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
)
for _name in ("PAINVRL_WORKSPACE", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
    os.environ.pop(_name, None)

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from painvrl.config import TrainConfig
    from painvrl.pipeline import RunResult
    from painvrl.prepare import Prepared

torch.set_num_threads(1)
# A suite that a script starts in the background inherits an ignored SIGINT, and so would every
# process that a Ctrl-C test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the repository: the current directory is the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


TINY = {
    "data": {
        "kind": "planted",
        "n_users": 60,
        "n_items": 80,
        "n_invariant": 4,
        "n_spurious": 4,
        "n_noise": 2,
        "interactions_per_environment": 6,
    },
    "split": {"protocol": "planted"},
    "backbone": {"id_dim": 4, "content_dim": 4},
    "training": {"max_epochs": 12, "evaluate_every": 3, "patience": 2},
    "environments": {"count": 2, "restarts": 1, "steps": 5},
    "mask": {"steps": 5},
    "rounds": 1,
}
"""A configuration that trains in a fraction of a second, as a YAML file would hold it."""


@pytest.fixture
def tiny_settings() -> dict[str, object]:
    """The tiny configuration as plain values; each test gets its own copy."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with tables and nothing in them; making the tables takes seconds, a copy does not."""
    from painvrl.study.mlflow_tracker import mlflow_calls

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with mlflow_calls("sqlite"):
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """The tiny configuration."""
    from painvrl.config import TrainConfig

    return TrainConfig.model_validate(TINY)


@pytest.fixture(scope="session")
def tiny_prepared(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The tiny configuration's data, on the CPU."""
    from painvrl.prepare import prepare

    return prepare(tiny_config, cache_dir=tmp_path_factory.mktemp("cache"), device=torch.device("cpu"))


@pytest.fixture(scope="session")
def tiny_result(tiny_config: TrainConfig, tiny_prepared: Prepared) -> RunResult:
    """The tiny configuration, trained."""
    from painvrl.pipeline import run

    return run(tiny_config, tiny_prepared)
