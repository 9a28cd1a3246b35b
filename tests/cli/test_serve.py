from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared
from painvrl.serving.registered_models import find_model, register_model

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, tiny_result: RunResult, tiny_prepared: Prepared
) -> Checkpoint:
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    return load_checkpoint(save_checkpoint(folder, tiny_result, tiny_prepared))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path, checkpoint: Checkpoint) -> Workspace:
    """A workspace with three versions of two models."""
    workspace = Workspace(tmp_path_factory.mktemp("models") / "workspace").create()
    shutil.copy(empty_mlflow, workspace.mlflow_db)
    for name, alias in (("one", "mine"), ("two", None), ("one", None)):
        register_model(
            checkpoint.path, name=name, workspace=workspace, config_yaml="", metrics={}, alias=alias
        )
    return workspace


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("model", "uri"),
    [
        (None, "models:/one/2"),
        ("one", "models:/one/2"),
        ("one/1", "models:/one/1"),
        ("one@mine", "models:/one/1"),
        ("models:/two/1", "models:/two/1"),
    ],
)
def test_a_model_is_found_by_name_version_or_alias(place: Workspace, model: str | None, uri: str) -> None:
    assert find_model(model, place) == uri


@pytest.mark.parametrize("model", ["three", "one/7", "one@yours", "one/x", "it's"])
def test_a_model_that_is_not_there_is_a_mistake_of_the_user(place: Workspace, model: str) -> None:
    with pytest.raises(StudyError) as caught:
        find_model(model, place)
    assert "\n" not in str(caught.value)


def test_a_workspace_without_models_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="painvrl train --best"):
        find_model(None, Workspace(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_port_that_is_taken_is_a_mistake_of_the_user(cli: Call, place: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = cli("serve", "--port", taken.getsockname()[1], "--workspace", place.root)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: --port: cannot be used")


@pytest.mark.slow
def test_the_model_answers_until_ctrl_c(place: Workspace, checkpoint: Checkpoint, port: int) -> None:
    command = [sys.executable, "-m", "painvrl.cli", "serve", "two", "--port", str(port)]
    command += ["--workspace", str(place.root)]
    with subprocess.Popen(
        # What a shell has whose environment is not active: MLflow would not find its server there.
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PATH": os.defpath},
    ) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        address = f"http://127.0.0.1:{port}/invocations"
        assert first == f"serving models:/two/1: {address} (Ctrl-C ends it)\n"
        assert second.startswith(f"curl {address} ")
        printed = json.loads(shlex.split(second)[-1])
        ((known,),) = printed["dataframe_split"]["data"]
        assert known in checkpoint.trained_users, "whoever pastes it gets an answer of their own"
        body = json.dumps({"dataframe_records": [{"user": 7}], "params": {"k": 4}}).encode()
        request = urllib.request.Request(address, body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            found = json.load(response)["predictions"]
        expected = checkpoint.recommend("7", k=4)
        assert [(row["item"], row["score"]) for row in found] == [(one.item, one.score) for one in expected]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    deadline = time.monotonic() + 15
    while listening(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not listening(port), "the server outlived the command"
