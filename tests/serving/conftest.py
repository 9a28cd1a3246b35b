"""A checkpoint with a user whom nobody trained on, in a workspace where it is registered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared
from painvrl.serving.registered_models import RegisteredModel, register_model

UNTRAINED = "4"


@pytest.fixture(scope="session")
def untrained() -> str:
    """The user whom the checkpoint was not trained on."""
    return UNTRAINED


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Workspace:
    """The workspace."""
    workspace = Workspace(tmp_path_factory.mktemp("serving") / "workspace").create()
    shutil.copy(empty_mlflow, workspace.mlflow_db)
    return workspace


@pytest.fixture(scope="session")
def checkpoint(place: Workspace, tiny_result: RunResult, tiny_prepared: Prepared) -> Checkpoint:
    """The checkpoint."""
    users = tiny_result.parts.users.clone()
    users[int(UNTRAINED)] = 0
    result = replace(tiny_result, parts=replace(tiny_result.parts, users=users))
    return load_checkpoint(save_checkpoint(place.checkpoints / "tiny", result, tiny_prepared))


@pytest.fixture(scope="session")
def registered(place: Workspace, checkpoint: Checkpoint) -> RegisteredModel:
    """Its entry in MLflow's registry."""
    return register_model(checkpoint.path, name="tiny", workspace=place, config_yaml="", metrics={})
