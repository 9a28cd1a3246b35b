"""A swept study from the command line: runs of its points and trainings, tagged, picked, trained again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.sweep import SweepConfig
from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.records import TrialRecord, complete, front_of
from painvrl.study.store.storage import open_study

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def swept_study(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: TrainConfig,
    spec_of: Callable[..., StudySpec],
    empty_mlflow: Path,
    cli: Call,
) -> Path:
    """The workspace of a study of two swept trainings, not to be written to."""
    folder = tmp_path_factory.mktemp("swept")
    spec = spec_of(tiny_config, trials=2).model_copy(update={"sweep": SweepConfig(points=8)})
    (folder / "tiny.yaml").write_text(dump_yaml(spec), encoding="utf-8")
    workspace = folder / "workspace"
    workspace.mkdir()
    shutil.copy(empty_mlflow, workspace)
    answer = cli("study", "run", folder / "tiny.yaml", "--workspace", workspace, "--device", "cpu")
    assert answer.code == 0, answer.err
    return workspace


@pytest.fixture
def workspace(tmp_path: Path, swept_study: Path, copied: Callable[[Path, Path], Path]) -> Path:
    """A copy of it for this test alone."""
    return copied(swept_study, tmp_path / "workspace")


def mlflow_client(workspace: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=Workspace(workspace).tracking_uri)


def trials(workspace: Path) -> tuple[TrialRecord, ...]:
    return open_study(None, Workspace(workspace)).trials()


@pytest.mark.slow
def test_the_tagged_run_of_a_point_is_trained_again_and_its_model_names_that_run(
    cli: Call, workspace: Path
) -> None:
    records = trials(workspace)
    point = next(one for one in front_of(records) if one.place != 0)
    assert point.run_id != records[point.number].run_id
    client = mlflow_client(workspace)
    client.set_tag(point.run_id, "selected", "true")
    answer = cli("train", "--best", "--device", "cpu", "--workspace", workspace)
    assert answer.code == 0, answer.err
    said = f"trial {point.name} of the study: run {point.run_id} is tagged selected = true"
    assert answer.out.startswith(said)
    assert load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints)).metrics == point.metrics
    final = client.get_run(client.get_model_version("tiny", "1").run_id).data.tags
    assert (final["source_run"], final["trial"]) == (point.run_id, point.name)
    assert final["mlflow.parentRunId"] == open_study(None, Workspace(workspace)).parent_run


def test_the_run_of_a_swept_training_is_refused_and_its_points_are_named(cli: Call, workspace: Path) -> None:
    records = trials(workspace)
    named = [point.name for point in front_of(records) if point.number == records[0].number]
    assert named
    by_run = cli("train", "--best", "--run", records[0].run_id, "--workspace", workspace)
    mlflow_client(workspace).set_tag(records[0].run_id, "selected", "true")
    by_tag = cli("train", "--best", "--workspace", workspace)
    for answer in (by_run, by_tag):
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert f"on the front are {', '.join(named)} (found '0')" in answer.err


@pytest.mark.slow
def test_a_pick_is_tagged_on_the_points_run_or_on_its_trainings(cli: Call, workspace: Path) -> None:
    records = trials(workspace)
    front = front_of(records)
    beaten = next(point for point in complete(records) if point not in front)
    for point, run_id in ((front[-1], front[-1].run_id), (beaten, records[beaten.number].run_id)):
        asked = ("--trial", point.name, "--as", "mine", "--json")
        answer = cli("study", "pick", *asked, "--workspace", workspace)
        assert (answer.code, json.loads(answer.out)["run_id"]) == (0, run_id)
        client = mlflow_client(workspace)
        experiment = client.get_run(run_id).info.experiment_id
        tagged = client.search_runs([experiment], "tags.`pick.mine` LIKE '%'")
        assert [run.info.run_id for run in tagged] == [run_id]
    assert len({point.run_id for point in front}) == len(front), "each has its own"
