"""A study that moves loses nothing, and goes on in its new place as it would have in the old one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import painvrl
from painvrl.core.workspace import Workspace
from painvrl.study.choice.picks import stored_picks
from painvrl.study.store.lock import study_lock
from painvrl.study.store.storage import StoredStudy, open_study
from painvrl.study.tracking.mlflow_calls import mlflow_calls
from painvrl.study.tracking.port import PARENT

Call = Callable[..., Any]
CPU = ("--device", "cpu")


def runs(workspace: Path, parent: str | None) -> dict[str, object]:
    """What MLflow has of a study's runs, artifacts included, by id; without what names the place."""
    uri = Workspace(workspace).tracking_uri
    with mlflow_calls(uri):
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("painvrl")
        assert experiment is not None
        found: dict[str, object] = {}
        for run in client.search_runs([experiment.experiment_id]):
            if parent not in {run.info.run_id, run.data.tags.get(PARENT)}:
                continue
            files = {}
            for file in client.list_artifacts(run.info.run_id):
                if not file.is_dir:
                    text = Path(client.download_artifacts(run.info.run_id, file.path)).read_bytes()
                    files[file.path] = text
            inputs = [each.dataset.digest for each in run.inputs.dataset_inputs]
            times = (run.info.start_time, run.info.end_time, run.info.status)
            found[run.info.run_id] = (run.data.to_dictionary(), files, inputs, times)
        return found


def study_of(workspace: Path, storage: str | None = None) -> StoredStudy:
    return open_study("tiny", Workspace(workspace), storage=storage)


@pytest.mark.slow
def test_a_study_moves_to_another_workspace_with_everything_and_goes_on_as_here(
    cli: Call, workspace: Path, spec: Path, tmp_path: Path
) -> None:
    assert cli("study", "pick", "--ood", "--workspace", workspace).code == 0
    trained = cli("train", "--best", "--json", *CPU, "--workspace", workspace)
    there = tmp_path / "elsewhere" / "workspace"
    answer = cli("study", "move", "tiny", "--to", there, "--workspace", workspace)
    assert answer.code == 0, answer.err
    assert f"tiny: 3 trials are in {there}" in answer.out
    assert f"left in the old place: the study itself, in {workspace / 'optuna.db'}" in answer.out

    here, now = study_of(workspace), study_of(there)
    assert now.trials() == here.trials()
    assert now.study.user_attrs == here.study.user_attrs
    assert stored_picks(now) == stored_picks(here)
    assert [one.datetime_start for one in now.study.trials] == [
        one.datetime_start for one in here.study.trials
    ]
    before = runs(workspace, here.parent_run)
    assert len(before) == 5  # of the study, its trials and the final model
    assert runs(there, now.parent_run) == before
    for name in ("users", "checkpoints"):
        old, new = (sorted(path.name for path in (one / name).rglob("*")) for one in (workspace, there))
        assert new == old
        assert old
    assert cli("recommend", "--user", "0", "--json", "--workspace", there).code == 0

    repeated = cli("train", "--best", "--json", *CPU, "--workspace", there)
    assert json.loads(repeated.out)["metrics"] == json.loads(trained.out)["metrics"]
    for place in (workspace, there):
        assert cli("study", "run", spec, "--trials", "4", "--quiet", *CPU, "--workspace", place).code == 0
    values = [[each.values for each in study_of(place).trials()] for place in (workspace, there)]
    assert values[0] == values[1]
    assert len(values[0]) == 4


@pytest.mark.slow
def test_a_study_moves_to_another_database_and_back_no_more(
    cli: Call, workspace: Path, spec: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/studies/other.db"
    before = study_of(workspace).trials()
    answer = cli("study", "move", "tiny", "--to", url, "--delete", "--workspace", workspace)
    assert answer.code == 0, answer.err
    assert "MLflow's runs and the files stay where they are" in answer.out
    assert study_of(workspace, url).trials() == before
    assert cli("study", "front", "--workspace", workspace).code == 2
    going_on = ["study", "run", spec, "--trials", "4", "--quiet", *CPU, "--workspace", workspace]
    assert cli(*going_on, "--set", f"study.storage={url}").code == 0
    moved = study_of(workspace, url)
    assert moved.trials()[:3] == before
    assert len(runs(workspace, moved.parent_run)) == 5


LOOKS = [
    ("study", "front", "tiny", "--json"),
    ("study", "status", "tiny"),
    ("study", "pick", "tiny", "--knee"),
    ("study", "pick", "--list"),
    ("study", "report", "tiny"),
    ("study", "compare", "tiny", "tiny"),
    ("study", "confirm", "tiny", "--seeds-at-most", "2", "--candidates", "front", *CPU),
    ("train", "--best", "--study", "tiny", "--pick", "knee", *CPU),
]


@pytest.mark.slow  # it trains
def test_a_study_in_another_database_needs_no_file_to_be_looked_at_chosen_from_and_trained(
    cli: Call, workspace: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/studies/other.db"
    assert cli("study", "move", "tiny", "--to", url, "--delete", "--workspace", workspace).code == 0
    for command in LOOKS:
        refused = cli(*command, "--workspace", workspace)
        assert (refused.code, "holds no study yet" in refused.err) == (2, True), command
        answer = cli(*command, "--storage", url, "--workspace", workspace)
        assert answer.code == 0, (command, answer.err)


@pytest.mark.parametrize("command", LOOKS)
def test_a_database_that_is_not_there_is_named_and_not_made(
    cli: Call, workspace: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    answer = cli(*command, "--storage", f"sqlite:///{tmp_path}/none.db", "--workspace", workspace)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "none.db: is no file; `painvrl study run SPEC.yaml` makes one" in answer.err
    assert not (tmp_path / "none.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "database"])
def test_a_study_does_not_move_onto_itself_or_another(
    cli: Call, workspace: Path, tmp_path: Path, kind: str
) -> None:
    to = tmp_path / "there" if kind == "folder" else f"sqlite:///{tmp_path}/there.db"
    same = workspace if kind == "folder" else Workspace(workspace).storage_url
    answer = cli("study", "move", "tiny", "--to", same, "--workspace", workspace)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "is where the study is" in answer.err
    assert cli("study", "move", "tiny", "--to", to, "--workspace", workspace).code == 0
    answer = cli("study", "move", "tiny", "--to", to, "--workspace", workspace)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "there is a study 'tiny' already" in answer.err


def test_a_study_that_is_run_does_not_move(cli: Call, workspace: Path, tmp_path: Path) -> None:
    with study_lock(Workspace(workspace).lock_path("tiny"), "tiny"):
        answer = cli("study", "move", "tiny", "--to", tmp_path / "there", "--workspace", workspace)
    assert answer.code == 2
    assert "is being run by another process" in answer.err


def test_studies_and_trials_note_which_painvrl_and_code_they_are_of(workspace: Path) -> None:
    study = study_of(workspace).study
    noted = study.user_attrs["painvrl:made_by"]
    assert noted["painvrl"] == painvrl.__version__
    assert noted["code"]
    assert [trial.user_attrs["code"] for trial in study.trials] == [noted] * 3


@pytest.mark.parametrize("what", ["workspace", "study"])
def test_a_workspace_or_a_study_of_a_newer_painvrl_is_refused_in_one_line(
    cli: Call, workspace: Path, spec: Path, what: str
) -> None:
    if what == "workspace":
        Workspace(workspace).stamp_version("97.1.0")
    else:
        study_of(workspace).study.set_user_attr("painvrl:made_by", {"painvrl": "97.1.0", "code": ""})
    for command in (["study", "front"], ["study", "run", spec, *CPU, "--quiet"]):
        answer = cli(*command, "--workspace", workspace)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert f"painvrl 97.1.0, and this is {painvrl.__version__}: update painvrl" in answer.err


@pytest.mark.slow
def test_notes_reach_standard_error_while_a_study_runs(
    cli: Call, new_workspace: Path, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    answer = cli("study", "run", spec, "--trials", "1", *CPU, "--workspace", new_workspace)
    assert answer.code == 0
    lost, kept = (line for line in answer.err.splitlines() if line.startswith("note: "))
    assert "MLflow's server cannot be reached: nobody answers; the study goes on" in lost
    assert "MLflow is still to get what trials came to (1 of them)" in kept
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert cli("workspace", "sync", "--workspace", new_workspace).code == 0
    assert len(runs(new_workspace, study_of(new_workspace).parent_run)) == 2
