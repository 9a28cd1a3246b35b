from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.storage import open_study

Call = Callable[..., Any]


def front(cli: Call, workspace: Path) -> dict[str, Any]:
    """The front of the only study in a workspace."""
    parsed = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    assert isinstance(parsed, dict)
    return parsed


def everything(front: dict[str, Any]) -> list[dict[str, Any]]:
    """Complete trials, on the front or not, by number."""
    return sorted(front["rows"] + front["dominated"], key=lambda row: int(row["trial"]))


def table(out: str) -> dict[str, list[str]]:
    """The metrics table of ``painvrl train``: numbers by metric."""
    lines = [line.split() for line in out.splitlines()]
    return {f"{words[0].lower()}/{words[1]}": words[2:] for words in lines if words[:1] in (["IID"], ["OOD"])}


def mlflow_client(workspace: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=Workspace(workspace).tracking_uri)


def test_the_best_trial_is_repeated_to_the_last_digit_and_its_test_parts_are_read_once(
    cli: Call, workspace: Path
) -> None:
    answer = cli("train", "--best", "--device", "cpu", "--workspace", workspace)
    assert answer.code == 0
    assert "retrained valid metrics repeat the trial's to the last digit (40 metrics)" in answer.out
    assert "test parts read: 1 time, this one included" in answer.out

    checkpoint = load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints))
    chosen = int(answer.out.split()[1])
    row = everything(front(cli, workspace))[chosen]
    assert checkpoint.metrics == row["metrics"]
    shown = table(answer.out)
    assert {len(columns) for columns in shown.values()} == {3}
    for name, (trial, again, _) in shown.items():
        assert trial == again == f"{row['metrics'][name]:.4f}"
    lines = Workspace(workspace).test_reads.read_text().splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["reader"] == checkpoint.path.name


@pytest.mark.slow
def test_every_further_read_is_counted_printed_and_logged(cli: Call, workspace: Path) -> None:
    for reads in (1, 2):
        answer = cli("train", "--best", "--workspace", workspace)
        assert f"test parts read: {reads} time{'s' if reads > 1 else ''}, this one included" in answer.out
        uri = next(line for line in answer.out.splitlines() if line.startswith("registered model: "))
        name, version = uri.removeprefix("registered model: models:/").split("/")
        client = mlflow_client(workspace)
        run = client.get_run(client.get_model_version(name, version).run_id)
        assert run.data.metrics["test_reads"] == reads
        assert {name.split("/")[0] for name in run.data.metrics} >= {"iid", "ood", "iid_test", "ood_test"}
        assert run.data.tags["repeats_trial"] == "true"
    assert len(list(Workspace(workspace).checkpoints.iterdir())) == 1, "the same request, the same folder"


@pytest.mark.slow
def test_the_rule_can_be_chosen(cli: Call, workspace: Path) -> None:
    rows = front(cli, workspace)["rows"]
    for prefer, objective in (("iid", "iid/ndcg_at_20"), ("ood", "ood/ndcg_at_20")):
        best = max(rows, key=lambda row: row["values"][objective])["trial"]
        out = cli("train", "--best", "--prefer", prefer, "--workspace", workspace).out
        assert out.startswith(f"trial {best} of the study: it has the best {objective}")


@pytest.mark.slow
def test_a_tag_in_mlflow_wins_over_the_rule_and_a_number_or_a_run_over_the_tag(
    cli: Call, workspace: Path
) -> None:
    study = front(cli, workspace)
    rows, on_front = everything(study), [row["trial"] for row in study["rows"]]
    mlflow_client(workspace).set_tag(rows[1]["run_id"], "selected", "true")
    tagged = cli("train", "--best", "--prefer", "ood", "--workspace", workspace).out
    beaten = "" if rows[1]["trial"] in on_front else " (another point dominates it)"
    assert tagged.splitlines()[0] == (
        f"trial 1 of the study: run {rows[1]['run_id']} is tagged selected = true in MLflow, "
        f"which wins over the rule 'ood'{beaten}"
    )
    by_number = cli("train", "--best", "--trial", 2, "--workspace", workspace).out
    assert by_number.startswith("trial 2 of the study: ")
    by_run = cli("train", "--best", "--run", rows[0]["run_id"], "--workspace", workspace).out
    assert by_run.startswith("trial 0 of the study: ")
    mlflow_client(workspace).set_tag(rows[2]["run_id"], "selected", "true")
    both = cli("train", "--best", "--workspace", workspace)
    assert both.code == 2
    assert rows[1]["run_id"] in both.err
    assert rows[2]["run_id"] in both.err


@pytest.mark.slow
def test_a_refit_is_trained_on_more_and_keeps_the_valid_metrics_of_the_run_before(
    cli: Call, workspace: Path
) -> None:
    import numpy as np

    cli("train", "--best", "--trial", 0, "--workspace", workspace)
    plain = load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints))
    answer = cli("train", "--best", "--trial", 0, "--refit", "train+valid", "--workspace", workspace)
    assert "repeat the trial's to the last digit" in answer.out
    refitted = load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints))
    assert (plain.trained_on, refitted.trained_on) == ("train", "train+valid")
    assert refitted.path != plain.path
    assert refitted.metrics == plain.metrics
    assert not np.array_equal(refitted.user_vectors, plain.user_vectors)


def test_another_seed_claims_no_repetition(cli: Call, workspace: Path) -> None:
    out = cli("train", "--best", "--seed", 5, "--workspace", workspace).out
    assert "another seed means another split" in out
    assert "to the last digit" not in out
    assert load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints)).settings["seed"] == 5


def test_metrics_that_do_not_repeat_are_reported_as_such(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from painvrl.run import pipeline
    from painvrl.serving import retrain

    def off(*arguments: Any, **options: Any) -> pipeline.RunResult:
        result = pipeline.run(*arguments, **options)
        return replace(result, metrics={**result.metrics, "ood/ndcg_at_20": 2.0})

    monkeypatch.setattr(retrain, "run", off)
    out = cli("train", "--best", "--workspace", workspace).out
    assert "differ from the trial's by at most" in out
    assert "(ood/ndcg_at_20)" in out
    assert "to the last digit" not in out


def test_the_model_can_be_loaded_from_the_registry_and_recommends_as_the_checkpoint(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    out = cli("train", "--best", "--workspace", workspace).out
    uri = re.search(r"^registered model: (.*)$", out, re.MULTILINE)[1]  # type: ignore[index]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Workspace(workspace).tracking_uri)
    model = mlflow.pyfunc.load_model(uri)
    found = model.predict(pd.DataFrame({"user": ["7"]}), params={"k": 4})
    expected = load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints)).recommend("7", k=4)
    assert found["item"].tolist() == [one.item for one in expected]
    assert found["rank"].tolist() == [1, 2, 3, 4]


@pytest.mark.slow
def test_the_printed_lines_of_python_work_where_they_are_pasted(
    cli: Call, workspace: Path, tmp_path: Path
) -> None:
    out = cli("train", "--best", "--workspace", workspace).out
    _, program = out.split("`painvrl serve tiny` serves it over HTTP; in Python:\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-i"], input=program, capture_output=True, text=True, check=False, cwd=elsewhere
    )
    assert "Error" not in done.stderr
    checkpoint = load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints))
    expected = checkpoint.recommend(checkpoint.trained_users[0], k=5)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[3] for row in rows if row[-1] == "ok"] == [one.item for one in expected]
    assert list(elsewhere.iterdir()) == [], "it asks the workspace, and makes no store of its own"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://user:geheim@host/db", False),
        ("postgresql://host/db?password=geheim", False),
        ("http://127.0.0.1:5000", True),
        ("sqlite:////home/me@work/workspace/mlflow.db", True),
    ],
)
def test_the_printed_lines_name_the_store_unless_that_shows_a_password(uri: str, shown: bool) -> None:
    from painvrl.serving.registered_models import _snippet

    lines = _snippet(uri, "models:/tiny/1", "1")
    assert (f"mlflow.set_tracking_uri({uri!r})\n" in lines) is shown
    assert "geheim" not in lines, "the variable MLFLOW_TRACKING_URI names the store already"


def test_a_configuration_alone_keeps_its_test_parts_sealed(
    cli: Call, tmp_path: Path, new_workspace: Path, tiny_config: TrainConfig
) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(dump_yaml(tiny_config))
    workspace = Workspace(new_workspace)
    sealed = cli("train", path, "--workspace", workspace.root)
    assert sealed.code == 0
    assert "test parts stay sealed" in sealed.out
    assert sealed.out.startswith("split")
    parts = [line.split()[0] for line in sealed.out.splitlines()[4:9]]
    assert parts == ["train", "iid_valid", "iid_test", "ood_valid", "ood_test"]
    assert {len(columns) for columns in table(sealed.out).values()} == {1}
    assert not workspace.test_reads.exists()
    opened = cli("train", path, "--test", "--workspace", workspace.root)
    assert "test parts read: 1 time" in opened.out
    assert {len(columns) for columns in table(opened.out).values()} == {2}
    assert len(workspace.test_reads.read_text().splitlines()) == 1


def test_a_configuration_that_diverges_is_a_mistake_of_the_user(
    cli: Call, tmp_path: Path, new_workspace: Path, tiny_config: TrainConfig
) -> None:
    training = tiny_config.training.model_copy(update={"learning_rate": 1e30})
    path = tmp_path / "plain.yaml"
    path.write_text(dump_yaml(tiny_config.model_copy(update={"training": training})))
    answer = cli("train", path, "--workspace", new_workspace)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert "this configuration cannot be trained (diverged)" in answer.err


def test_a_trial_or_run_that_is_not_there_is_a_mistake_of_the_user(cli: Call, workspace: Path) -> None:
    for arguments in (["--trial", 99], ["--run", "0" * 32], ["--study", "other"]):
        answer = cli("train", "--best", *arguments, "--workspace", workspace)
        assert answer.code == 2
        assert answer.err.startswith("error: ")
    assert not Workspace(workspace).test_reads.exists()


def test_the_trial_that_is_trained_is_the_one_that_is_stored(cli: Call, workspace: Path) -> None:
    cli("train", "--best", "--trial", 1, "--workspace", workspace)
    study = open_study(None, Workspace(workspace))
    stored = study.config_of(study.trials()[1])
    trained = load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints))
    assert TrainConfig.model_validate(trained.settings) == stored
    assert trained.fingerprint == stored.fingerprint()


def test_a_store_that_does_not_answer_is_said_before_the_test_parts_are_read(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.serving import retrain

    def down(*_: object) -> None:
        raise StudyError("MLflow does not answer as it should: it is down")

    monkeypatch.setattr(retrain, "mlflow_tracker", down)
    answer = cli("train", "--best", "--workspace", workspace)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: MLflow does not answer as it should: it is down\n"
    assert not Workspace(workspace).test_reads.exists()


def test_a_file_whose_name_is_no_model_name_is_refused_before_the_test_parts_are_read(
    cli: Call, tmp_path: Path, new_workspace: Path, tiny_config: TrainConfig
) -> None:
    path = tmp_path / "a:b.yaml"
    path.write_text(dump_yaml(tiny_config))
    answer = cli("train", path, "--test", "--workspace", new_workspace)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith("so it must not be blank or hold / or : (found 'a:b')\n")
    assert not Workspace(new_workspace).test_reads.exists()


def test_a_registry_that_fails_costs_neither_the_test_metrics_nor_the_checkpoint(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.serving import retrain

    def refuses(*_: object, **__: object) -> None:
        raise StudyError("MLflow refuses")

    monkeypatch.setattr(retrain, "register_model", refuses)
    answer = cli("train", "--best", "--workspace", workspace)
    assert answer.code == 0
    assert answer.err == "warning: the model is not registered: MLflow refuses\n"
    assert "registered model" not in answer.out
    assert {len(columns) for columns in table(answer.out).values()} == {3}, "the test column is there"
    assert len(Workspace(workspace).test_reads.read_text().splitlines()) == 1
    assert latest_checkpoint(Workspace(workspace).checkpoints).is_dir()


def test_a_study_in_another_storage_is_reached_by_its_file(
    cli: Call, tmp_path: Path, workspace: Path, tiny_config: TrainConfig, spec_of: Callable[..., StudySpec]
) -> None:
    elsewhere = Workspace(workspace).optuna_db.rename(tmp_path / "elsewhere.db")
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(spec_of(tiny_config, storage=f"sqlite:///{elsewhere}")))
    assert cli("train", "--best", "--study", "tiny", "--workspace", workspace).code == 2
    answer = cli("train", "--best", "--study", path, "--workspace", workspace)
    assert answer.code == 0
    assert "repeat the trial's to the last digit" in answer.out


@pytest.mark.slow
def test_processes_of_torchrun_train_what_one_process_does(
    cli: Call, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(dump_yaml(tiny_config.model_dump(mode="json")))
    alone = cli("train", file, "--device", "cpu", "--json", "--workspace", tmp_path / "one")
    assert alone.code == 0
    command = f"train {file} --refit train+valid --device cpu --json --workspace {tmp_path / 'two'}"
    launcher = "torch.distributed.run --standalone --nproc-per-node 2 -m painvrl.cli"
    together = subprocess.run(
        [sys.executable, "-m", *launcher.split(), *command.split()],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert together.returncode == 0, together.stderr
    expected, found = json.loads(alone.out), json.loads(together.stdout)  # one report, of the first process
    assert found["metrics"] == pytest.approx(expected["metrics"], abs=0.05)
    assert found["trained_on"] == "train+valid"
    one, two = (load_checkpoint(Path(report["checkpoint"])) for report in (expected, found))
    assert one.item_vectors.shape == two.item_vectors.shape
    assert len(list(Workspace(tmp_path / "two").checkpoints.iterdir())) == 1
    versions = mlflow_client(tmp_path / "two").search_model_versions("name = 'small'")
    assert len(versions) == 1


def test_torchrun_trains_a_file_and_no_trial_of_a_front(cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    answer = cli("train", "--best")
    assert (answer.code, answer.err) == (2, "error: --best: torchrun trains a configuration file\n")
