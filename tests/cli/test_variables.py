"""What variables of MLflow's are set outside mixes no runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.cli import ui
from painvrl.core.workspace import Workspace, sqlite_url
from painvrl.study.tracking.mlflow_calls import mlflow_calls
from painvrl.study.tracking.port import IGNORED

Call = Callable[..., Any]


@pytest.mark.slow
def test_variables_that_point_elsewhere_neither_move_nor_mix_runs(
    cli: Call, workspace: Path, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    uri = Workspace(workspace).tracking_uri
    with mlflow_calls(uri):
        client = MlflowClient(tracking_uri=uri)
        experiment = client.create_experiment("somebody else's", artifact_location=(tmp_path / "e").as_uri())
        foreign = client.create_run(experiment).info.run_id
        before = client.get_run(foreign).to_dictionary()
    elsewhere = sqlite_url(tmp_path / "elsewhere.db")
    for name in IGNORED:
        monkeypatch.setenv(name, elsewhere)
    monkeypatch.setenv("MLFLOW_RUN_ID", foreign)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "somebody else's")
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"mixed": "in"}')
    around = {path.name for path in tmp_path.iterdir()}
    for command in (["study", "run", spec, "--trials", "4"], ["study", "report"], ["train", "--best"]):
        answer = cli(*command, "--workspace", workspace)
        assert answer.code == 0, answer.err
        assert "not registered" not in answer.err
    assert os.environ["MLFLOW_RUN_ID"] == foreign  # its owner finds it as it was
    for name in IGNORED:
        monkeypatch.delenv(name)
    assert {path.name for path in tmp_path.iterdir()} == around
    with mlflow_calls(uri):
        assert client.get_run(foreign).to_dictionary() == before
        assert len(client.search_runs([experiment])) == 1
        ours = client.search_runs([client.get_experiment_by_name("painvrl").experiment_id])
        assert len(ours) == 6
        assert not any("mixed" in run.data.tags for run in ours)
        (version,) = client.search_model_versions("name = 'tiny'")
        assert version.run_id in {run.info.run_id for run in ours}


def test_the_ui_s_server_shows_the_workspace_whatever_is_set(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []

    def popen(command: list[str], *, env: dict[str, str], **_: object) -> None:
        started.append(env)
        raise OSError("enough")

    for name in IGNORED:
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setattr(ui.subprocess, "Popen", popen)
    with pytest.raises(OSError, match="enough"), ui._server("sqlite:///x.db", Workspace(workspace), 5001):
        pass
    assert not set(started[0]) & set(IGNORED)
    assert started[0]["MLFLOW_BACKEND_STORE_URI"] == "sqlite:///x.db"
