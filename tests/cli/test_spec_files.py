"""What the command line does with a study's file: check it, change it, plan it, and go on with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml, parse_yaml
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.storage import open_study

Call = Callable[..., Any]


@pytest.fixture
def spec(spec_of: Callable[..., StudySpec], tiny_config: TrainConfig, tmp_path: Path) -> Path:
    """The tiny study's file, which sweeps."""
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(spec_of(tiny_config).model_copy(update={"sweep": "auto"})), encoding="utf-8")
    return path


def comments(out: str) -> str:
    return "\n".join(line for line in out.splitlines() if line.startswith("# "))


def test_validate_says_of_every_file_whether_it_is_good(
    cli: Call, spec: Path, tmp_path: Path, repository: Path
) -> None:
    ablation = repository / "studies" / "ablation.yaml"
    good = cli("study", "validate", spec, ablation)
    assert (good.code, good.err) == (0, "")
    is_good = f"{spec}: ok, a study of 1 hyperparameter sampled before each training and 1 swept after it"
    assert good.out.splitlines() == [is_good, f"{ablation}: ok, an ablation"]
    bad = tmp_path / "bad.yaml"
    bad.write_text(spec.read_text().replace("high: 0.8", "high: 1.8", 1))
    answer = cli("study", "validate", bad, spec, tmp_path / "none.yaml")
    assert answer.code == 2
    assert answer.out.splitlines() == [is_good]
    first, second = answer.err.splitlines()
    assert re.match(rf"error: {re.escape(str(bad))}:\d+:\d+: space\.mask\.sparsity\.high: the config", first)
    assert second == f"error: {tmp_path / 'none.yaml'}: no such file"


def test_every_shipped_study_is_good(cli: Call, repository: Path) -> None:
    files = sorted((repository / "studies").glob("*.yaml"))
    answer = cli("study", "validate", *files)
    assert (answer.code, len(answer.out.splitlines())) == (0, len(files))


def test_the_schema_is_printed_as_json(cli: Call, repository: Path) -> None:
    answer = cli("study", "schema")
    assert answer.code == 0
    assert answer.out == (repository / "studies" / "schema.json").read_text(encoding="utf-8")
    assert json.loads(answer.out)["$defs"]["StudySpec"]["additionalProperties"] is False


def test_set_goes_through_the_same_validation(cli: Call, spec: Path, tmp_path: Path) -> None:
    answer = cli("study", "validate", spec, "--set", "config.mask.sparsity=0.25", "--set", "study.trials=9")
    assert answer.code == 0
    wrong = cli("study", "validate", spec, "--set", "config.mask.sparsty=0.25")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err == ("error: --set config.mask.sparsty: is not a known key; did you mean sparsity?\n")
    run = cli("study", "run", spec, "--set", "study.trials=0", "--workspace", tmp_path / "none")
    assert run.code == 2
    assert run.err.startswith("error: --set study.trials: must be greater than or equal to 1 (found 0)")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_set_changes_what_runs(cli: Call, spec: Path, new_workspace: Path) -> None:
    where = ("--workspace", new_workspace, "--device", "cpu")
    answer = cli("study", "run", spec, "--set", "study.trials=1", "--set", "config.rounds=2", *where)
    assert (answer.code, answer.err) == (0, "")
    assert [line[:4] for line in answer.out.splitlines() if line.startswith("[")] == ["[1/1"]
    assert open_study("tiny", Workspace(new_workspace)).config.rounds == 2


def test_a_dry_run_prints_the_file_and_then_the_plan_as_comments(
    cli: Call, spec: Path, tmp_path: Path
) -> None:
    answer = cli(
        *("study", "run", spec, "--dry-run", "--workspace", tmp_path / "none", "--device", "cpu"),
        *("--set", "presets=[erm, irm]", "--set", "study.sampler=auto", "--trials", 20),
    )
    assert (answer.code, answer.err) == (0, "")
    resolved: Any = parse_yaml(answer.out, file="stdout")
    assert resolved["presets"] == ["erm", "irm"]
    assert resolved["study"]["timeout"] is None
    plan = comments(answer.out)
    assert answer.out.endswith(plan + "\n")
    hyperparameters = (
        "# hyperparameters: 1 sampled before each training, 1 swept after it; "
        "size of the sampled space: continuous"
    )
    assert plan.startswith(f"{hyperparameters}\n# sweep: each trained model is scored at up to 32 points; ")
    assert "# sampler: auto (random for 10 start-up trials, then gp if the median of them takes 30 s" in plan
    assert "# trials: 20 (2 presets, 1 default, 17 sampled)\n# device: cpu\n# cost: at most " in plan
    assert "an epoch of the base configuration's pretraining" in plan
    assert not (tmp_path / "none").exists()


def test_a_dry_run_without_the_data_still_prints_the_plan(cli: Call, repository: Path) -> None:
    answer = cli("study", "run", repository / "studies" / "kwai.yaml", "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    plan = comments(answer.out)
    assert "# trials: 40 (4 presets, 1 default, 35 sampled)" in plan
    assert "# cost: unknown: data/kwai: data.path: there is no such folder" in plan


@pytest.mark.slow
def test_presets_are_trained_first_and_stand_in_the_front_and_in_mlflow(
    cli: Call, spec: Path, new_workspace: Path
) -> None:
    where = ("--workspace", new_workspace, "--device", "cpu")
    answer = cli("study", "run", spec, "--set", "presets=[erm, ultragcn]", *where)
    assert (answer.code, answer.err) == (0, "")
    lines = [
        line.split("] ")[1].split("  ")[0].strip() for line in answer.out.splitlines() if line[0:1] == "["
    ]
    assert ["(erm)" in answer.out, "(ultragcn)" in answer.out] == [True, True]
    assert len(lines) == 3
    front = json.loads(cli("study", "front", "--json", *where[:2]).out)
    rows = {row["trial"]: row for row in front["rows"] + front["dominated"]}
    assert [rows[number]["preset"] for number in range(3)] == ["erm", "ultragcn", None]
    assert rows[0]["point"].keys() == {"fusion.variant_weight"}, "it samples nothing, and is swept"
    study = open_study("tiny", Workspace(new_workspace))
    from mlflow.tracking import MlflowClient

    run = MlflowClient(tracking_uri=Workspace(new_workspace).tracking_uri).get_run(rows[0]["run_id"])
    assert (run.data.tags["preset"], run.data.params["preset"]) == ("erm", "erm")
    assert study.config_of(study.trials()[0]).mask.balancer == "erm"
    shown = cli("study", "front", *where[:2]).out
    on_front = {row["preset"] for row in front["rows"]} - {None}
    assert all(name in shown for name in on_front)
    assert ("preset" in shown) is bool(on_front)
    status = cli("study", "status", *where[:2]).out
    assert "sampler: random (study.sampler names it)" in status


@pytest.mark.slow
def test_a_changed_file_is_refused_with_a_diff_and_a_new_version_goes_beside_it(
    cli: Call, workspace: Path, spec: Path
) -> None:
    where = ("--workspace", workspace, "--device", "cpu", "--trials", 1)
    changed = ("--set", "config.rounds=2")
    refused = cli("study", "run", spec, *changed, *where)
    assert (refused.code, refused.out) == (2, "drawing planted data ...\n")
    assert "\n- config.rounds: 1\n+ config.rounds: 2\n" in refused.err
    assert "--new-version" in refused.err
    made = cli("study", "run", spec, *changed, *where, "--new-version")
    assert made.code == 0
    assert "study tiny-v2 starts: 0 of 1 trials are there" in made.out
    again = cli("study", "run", spec, *changed, *where)
    assert "study tiny-v2 continues: 1 of 1 trials are there" in again.out
    back = cli("study", "run", spec, *where)
    assert "study tiny continues: 3 of 1 trials are there" in back.out
    assert "front of tiny-v2" in cli("study", "front", spec, "--workspace", workspace).out
    assert "front of tiny:" in cli("study", "front", "tiny", "--workspace", workspace).out


def test_an_ablation_has_no_versions(cli: Call, repository: Path) -> None:
    answer = cli("study", "run", repository / "studies" / "ablation.yaml", "--new-version")
    assert answer.code == 2
    assert answer.err.startswith("error: --new-version: is for studies")


@pytest.mark.parametrize("command", ["validate", "schema"])
def test_the_help_names_the_command(cli: Call, command: str) -> None:
    assert f" {command} " in cli("study", "--help").out


@pytest.mark.parametrize(
    ("space", "sweep", "said"),
    [
        (["mask.sparsity"], "auto", "a study"),
        (["mask.sparsity", "fusion.cold_weight"], False, "a study"),
        (
            ["mask.sparsity", "fusion.cold_weight", "fusion.variant_weight"],
            "auto",
            "a study of 1 hyperparameter sampled before each training and 2 swept after it",
        ),
    ],
)
def test_a_file_that_is_right_says_what_is_sampled_and_what_is_swept(
    cli: Call, tmp_path: Path, tiny_settings: dict[str, object], space: list[str], sweep: object, said: str
) -> None:
    spec = tmp_path / "toy.yaml"
    tree = {
        "study": {"name": "toy"},
        "presets": [],
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": tiny_settings,
        "space": {path: {"type": "float", "low": 0.1, "high": 0.9} for path in space},
        "sweep": sweep,
    }
    spec.write_text(json.dumps(tree))  # YAML, too
    answer = cli("study", "validate", spec)
    assert (answer.code, answer.out, answer.err) == (0, f"{spec}: ok, {said}\n", "")
