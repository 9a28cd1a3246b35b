from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import load_checkpoint, save_checkpoint
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared
from painvrl.serving.registered_models import register_model
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker

ASK = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
users = pd.DataFrame({"user": sys.argv[3:]})
print(model.predict(users, params={"k": 3}).to_csv(index=False))
"""


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared) -> Path:
    return save_checkpoint(tmp_path / "checkpoint", tiny_result, tiny_prepared)


@pytest.mark.slow
def test_a_registered_model_answers_in_a_fresh_process_as_its_checkpoint_does(
    checkpoint: Path, tracked: Workspace, tiny_prepared: Prepared, tmp_path: Path
) -> None:
    with mlflow_calls("x"):
        import mlflow

        before = mlflow.get_tracking_uri()
    model = register_model(
        checkpoint,
        name="toy",
        workspace=tracked,
        config_yaml="rounds: 1",
        metrics={"iid_test/ndcg_at_20": 0.25},
    )
    assert (model.name, model.version, model.uri) == ("toy", 1, "models:/toy/1")
    assert mlflow.get_tracking_uri() == before
    users = [str(user) for user in tiny_prepared.dataset.user_ids[:2]]
    command = [sys.executable, "-c", ASK, tracked.tracking_uri, model.uri, *users]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0, done.stderr
    expected = load_checkpoint(checkpoint)
    wanted = [
        (user, str(best.rank), best.item, best.title)
        for user in users
        for best in expected.recommend(user, 3)
    ]
    header, *lines = done.stdout.strip().splitlines()
    assert header == "user,rank,item,title,score,status"
    assert [tuple(line.split(",")[:4]) for line in lines] == wanted


def test_a_model_lies_beside_the_trial_that_it_repeats(
    checkpoint: Path, tracked: Workspace, go: Any, spec: StudySpec, formula: Any
) -> None:
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    study = open_study("toy", tracked)
    source = study.trials()[0].run_id
    versions = [
        register_model(
            checkpoint,
            name="toy",
            workspace=tracked,
            study="toy",
            source_run_id=source,
            config_yaml="rounds: 1",
            metrics={"ood_test/ndcg_at_20": 0.125},
            tags={"trial": "0"},
        )
        for _ in range(2)
    ]
    assert [model.version for model in versions] == [1, 2]
    with mlflow_calls(tracked.tracking_uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=tracked.tracking_uri)
        run = client.get_run(versions[0].run_id)
        registered = client.get_model_version("toy", "1")
    assert run.data.tags["mlflow.parentRunId"] == study.parent_run
    assert (run.data.tags["source_run"], run.data.tags["kind"]) == (source, "final")
    assert (run.data.tags["study"], run.data.tags["trial"]) == ("toy", "0")
    assert run.data.metrics == {"ood_test/ndcg_at_20": 0.125}
    assert run.info.status == "FINISHED"
    assert registered.run_id == versions[0].run_id
    assert run.info.experiment_id == client.get_experiment_by_name(EXPERIMENT).experiment_id


def test_no_pickle_is_stored(checkpoint: Path, tracked: Workspace) -> None:
    register_model(checkpoint, name="toy", workspace=tracked, config_yaml="", metrics={})
    suffixes = {path.suffix for path in tracked.artifacts.rglob("*") if path.is_file()}
    assert suffixes.isdisjoint({".pkl", ".pickle", ".pt", ".pth"})
    assert ".safetensors" in suffixes


def test_a_name_that_mlflow_refuses_is_said_in_one_line(checkpoint: Path, tracked: Workspace) -> None:
    with pytest.raises(StudyError) as caught:
        register_model(checkpoint, name="a/b", workspace=tracked, config_yaml="", metrics={})
    assert "\n" not in str(caught.value)
