"""A workspace continues wherever it lies, whatever its path is called, and writes nowhere else."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace

Call = Callable[..., Any]

ODD = "100% sure?#é日本 'q' \"x\" {y}@a:b"
"""Characters that mean something to URLs, SQL, format strings and shells."""


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file below ``folder``, and its folders."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def artifacts(workspace: Path) -> dict[str, str]:
    """What MLflow reads of each run's configuration or study file, by the run's name."""
    from mlflow.tracking import MlflowClient

    from painvrl.study.tracking.mlflow_calls import mlflow_calls

    uri = Workspace(workspace).tracking_uri
    with mlflow_calls(uri):
        client = MlflowClient(tracking_uri=uri)
        found = {}
        for run in client.search_runs([client.get_experiment_by_name("painvrl").experiment_id]):
            file = "study.yaml" if run.data.tags["kind"] == "study" else "config.yaml"
            found[run.info.run_name] = Path(client.download_artifacts(run.info.run_id, file)).read_text()
        return found


def best_of(workspace: Path, version: int, folder: Path) -> str:
    """The first item that a version of the registered model has for a user."""
    import mlflow
    import pandas as pd

    from painvrl.serving.registered_models import _global_uri
    from painvrl.study.tracking.mlflow_calls import mlflow_calls

    uri = Workspace(workspace).tracking_uri
    with mlflow_calls(uri), _global_uri(uri):
        model = mlflow.pyfunc.load_model(f"models:/tiny/{version}", dst_path=str(folder))
        return str(model.predict(pd.DataFrame({"user": ["0"]}))["item"][0])


def go_on(cli: Call, spec: Path, workspace: Path) -> None:
    """Every command that writes, and some that read."""
    for command in (
        ["study", "run", spec, "--trials", "4", "--quiet", "--device", "cpu"],
        ["study", "front", "--json"],
        ["study", "pick", "--ood"],
        ["study", "report"],
        ["train", "--best", "--device", "cpu"],
        ["recommend", "--user", "0", "--json"],
    ):
        answer = cli(*command, "--workspace", workspace)
        assert (answer.code, answer.out == "") == (0, False), (command, answer.err)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elsewhere", ODD, "a%20b"])
def test_a_moved_workspace_goes_on_in_its_new_place(
    cli: Call, workspace: Path, spec: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert cli("train", "--best", "--device", "cpu", "--workspace", workspace).code == 0
    before = artifacts(workspace)
    place = workspace.rename(tmp_path / name)
    around = {path.name for path in tmp_path.iterdir()}
    caplog.clear()
    go_on(cli, spec, place)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [f"note: the workspace was at {workspace}; MLflow finds its artifacts in {place} now"]
    assert {path.name for path in tmp_path.iterdir()} == around  # not the old place, nor one of a like name
    after = artifacts(place)
    assert len(before) == 5
    assert len(after) == 6
    assert before.items() <= after.items()
    (tmp_path / "model").mkdir()
    assert best_of(place, 1, tmp_path / "model")
    assert best_of(place, 2, tmp_path / "model")


@pytest.mark.slow
def test_copies_go_on_each_for_itself_and_leave_their_original_alone(
    cli: Call, finished_study: tuple[Path, Any], spec: Path, tmp_path: Path
) -> None:
    original = finished_study[0]
    before = contents(original)
    copies = [Path(shutil.copytree(original, tmp_path / name)) for name in ("one", "two")]
    for copy, other in (copies, reversed(copies)):
        others = contents(other)
        go_on(cli, spec, copy)
        assert contents(other) == others
        assert len(artifacts(copy)) == 6
    assert contents(original) == before


@pytest.mark.slow
def test_a_link_to_a_workspace_is_the_same_place(
    cli: Call, workspace: Path, spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go_on(cli, spec, workspace)
    link = tmp_path / "link"
    link.symlink_to(workspace)
    caplog.clear()
    assert cli("study", "report", "--workspace", link).code == 0
    assert caplog.messages == []


@pytest.mark.slow
def test_a_new_workspace_with_an_odd_path_in_a_folder_with_an_odd_path_writes_nothing_outside(
    cli: Call, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    monkeypatch.chdir(folder)
    around = {path.name for path in tmp_path.iterdir()}
    go_on(cli, spec, Path(ODD))
    assert {path.name for path in tmp_path.iterdir()} == around
    assert [path.name for path in folder.iterdir()] == [ODD]
    assert len(artifacts(folder / ODD)) == 6
