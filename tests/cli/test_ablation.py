from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml, parse_yaml, validated
from painvrl.run.config import TrainConfig
from painvrl.study.ablation.spec import AblationSpec
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls

Call = Callable[..., Any]
Finished = tuple[Path, Any]


def content(config: TrainConfig) -> dict[str, Any]:
    return {
        "ablation": {"name": "tiny", "seeds": [0, 1], "presets": ["ultragcn", "painvrl"], "draws": 200},
        "config": config.model_dump(mode="json"),
        "variants": {"summed": {"preset": "painvrl", "fusion.kind": "scalar"}},
    }


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: TrainConfig, empty_mlflow: Path, cli: Call
) -> Finished:
    """The workspace of the tiny ablation after its run, not to be written to, and what it answered."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "ablation.yaml").write_text(dump_yaml(content(tiny_config)), encoding="utf-8")
    workspace = folder / "workspace"
    workspace.mkdir()
    shutil.copy(empty_mlflow, workspace)
    command = ("study", "run", folder / "ablation.yaml", "--workspace", workspace, "--device", "cpu")
    return workspace, cli(*command)


@pytest.fixture
def spec(tmp_path: Path, tiny_config: TrainConfig) -> Path:
    path = tmp_path / "ablation.yaml"
    path.write_text(dump_yaml(content(tiny_config)), encoding="utf-8")
    return path


@pytest.fixture
def workspace(tmp_path: Path, finished: Finished, copied: Callable[[Path, Path], Path]) -> Path:
    return copied(finished[0], tmp_path / "workspace")


def table(workspace: Path) -> dict[str, Any]:
    found = json.loads((workspace / "ablations" / "tiny" / "table.json").read_text(encoding="utf-8"))
    return dict(found)


def mlflow_runs(workspace: Path) -> list[Any]:
    uri = Workspace(workspace).tracking_uri
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_a_run_prints_a_line_a_run_the_tables_and_last_the_link(finished: Finished) -> None:
    workspace, answer = finished
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    trained = [line.split() for line in lines if line.startswith("[")]
    assert [words[:4] for words in trained] == [
        [f"[{place + 1}/6]", row, "seed", str(seed)]
        for place, (seed, row) in enumerate((s, r) for s in (0, 1) for r in ("ultragcn", "painvrl", "summed"))
    ]
    for metric in ("recall", "ndcg"):
        assert any(line.startswith(f"{metric}@20 of the valid parts") for line in lines)
    assert lines[-2] == f"table: {workspace / 'ablations' / 'tiny' / 'table.md'}"
    assert lines[-1].startswith("http://127.0.0.1:5000/#/experiments/")
    assert "tags.`mlflow.parentRunId` = '" in unquote(lines[-1])
    assert "pareto" not in lines[-1]


def test_the_printed_table_is_that_of_the_files(finished: Finished) -> None:
    workspace, answer = finished
    markdown = (workspace / "ablations" / "tiny" / "table.md").read_text(encoding="utf-8")
    for row in table(workspace)["rows"]:
        for metric in ("recall", "ndcg"):
            ood = row["figures"][metric]["ood"]
            cell = f"{ood['mean']:.4f} ± {ood['spread']:.4f}"
            assert cell in answer.out
            assert cell in markdown


def test_the_figures_are_those_of_the_runs_in_mlflow(finished: Finished) -> None:
    workspace, _ = finished
    children = [run for run in mlflow_runs(workspace) if run.data.tags.get("kind") == "trial"]
    assert len(children) == 6
    for row in table(workspace)["rows"]:
        mine = [run for run in children if run.data.params["variant"] == row["name"]]
        assert {run.data.params["seed"] for run in mine} == {"0", "1"}
        for metric in ("recall", "ndcg"):
            iid, ood = (
                np.array([run.data.metrics[f"{part}/{metric}_at_20"] for run in mine])
                for part in ("iid", "ood")
            )
            measures = {"iid": iid, "ood": ood, "harmonic_mean": 2 / (1 / iid + 1 / ood), "drop": iid - ood}
            for measure, values in measures.items():
                found = row["figures"][metric][measure]
                assert found["mean"] == pytest.approx(values.mean(), abs=1e-12)
                assert found["spread"] == pytest.approx(values.std(ddof=1), abs=1e-12)
                if row["name"] == "painvrl":
                    assert found["difference"] is None
                else:
                    assert found["difference"]["low"] <= found["difference"]["high"]


def test_the_parent_run_holds_the_tables_and_the_file(finished: Finished) -> None:
    workspace, _ = finished
    (parent,) = (run for run in mlflow_runs(workspace) if run.data.tags.get("kind") == "ablation")
    assert parent.info.status == "FINISHED"
    artifacts = Workspace(workspace).artifacts / EXPERIMENT / parent.info.run_id / "artifacts"
    for name in ("table.md", "table.json"):
        kept = (workspace / "ablations" / "tiny" / name).read_text(encoding="utf-8")
        assert (artifacts / name).read_text(encoding="utf-8") == kept
    spec = validated(AblationSpec, parse_yaml((artifacts / "ablation.yaml").read_text(encoding="utf-8")))
    assert spec.ablation.seeds == (0, 1)


def test_the_same_command_goes_on_and_trains_nothing_twice(
    cli: Call, workspace: Path, spec: Path, finished: Finished
) -> None:
    before, known = table(workspace), {run.info.run_id for run in mlflow_runs(workspace)}
    again = cli("study", "run", spec, "--workspace", workspace)
    assert again.code == 0
    assert "study tiny continues: 6 of 6 trials are there" in again.out
    assert not any(line.startswith("[") for line in again.out.splitlines())
    assert table(workspace) == before
    assert {run.info.run_id for run in mlflow_runs(workspace)} == known
    victim = min((workspace / "ablations" / "tiny" / "runs").glob("*.npz"))
    victim.unlink()
    more = cli("study", "run", spec, "--workspace", workspace)
    assert [line.split("]")[0] for line in more.out.splitlines() if line.startswith("[")] == ["[6/6"]
    assert table(workspace) == before
    assert len(mlflow_runs(workspace)) == len(known) + 1
    # The tracker is a mirror: what it lost is written again, and no second parent is made.
    assert sum(run.data.tags.get("kind") == "ablation" for run in mlflow_runs(workspace)) == 1


def test_runs_that_mlflow_lost_are_written_anew_once(
    cli: Call, workspace: Path, spec: Path, empty_mlflow: Path
) -> None:
    shutil.copy(empty_mlflow, workspace)
    for _ in range(2):
        assert cli("study", "run", spec, "--workspace", workspace).code == 0
        kinds = [run.data.tags.get("kind") for run in mlflow_runs(workspace)]
        assert (kinds.count("ablation"), kinds.count("trial")) == (1, 6)


def test_quiet_prints_the_result_only(cli: Call, workspace: Path, spec: Path) -> None:
    answer = cli("study", "run", spec, "--workspace", workspace, "--quiet")
    assert answer.out.startswith("recall@20 of the valid parts")


def test_a_dry_run_prints_the_expanded_file_and_what_each_row_turns(cli: Call, spec: Path) -> None:
    answer = cli("study", "run", spec, "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    printed = validated(AblationSpec, parse_yaml(answer.out))
    assert printed == validated(AblationSpec, parse_yaml(spec.read_text(encoding="utf-8")))
    assert "# row ultragcn = config with mask.source: ones, fusion.kind: invariant" in answer.out.splitlines()


def test_an_ablation_takes_no_number_of_trials_and_has_no_front(
    cli: Call, workspace: Path, spec: Path
) -> None:
    answer = cli("study", "run", spec, "--workspace", workspace, "--trials", 3)
    assert answer.code == 2
    assert answer.err.startswith("error: --trials: is for studies")
    answer = cli("study", "front", spec, "--workspace", workspace)
    assert answer.code == 2
    assert "ablation: an ablation has a table and no front" in answer.err


@pytest.mark.slow
def test_train_takes_a_preset_and_prints_it_expanded(
    cli: Call, new_workspace: Path, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(dump_yaml({"preset": "ultragcn", **tiny_settings}), encoding="utf-8")
    answer = cli("train", file, "--dry-run", "--workspace", new_workspace)
    assert (answer.code, answer.err) == (0, "")
    printed = TrainConfig.model_validate(parse_yaml(answer.out))
    assert printed == TrainConfig.model_validate({"preset": "ultragcn", **tiny_settings})
    assert (printed.mask.source, printed.fusion.kind) == ("ones", "invariant")
    assert "preset" not in answer.out
    assert not Workspace(new_workspace).checkpoints.exists()
    trained = cli("train", file, "--workspace", new_workspace, "--device", "cpu")
    assert trained.code == 0
    assert "pretrain" not in trained.out  # no mask, hence no pretraining


def test_a_dry_run_of_a_trial_is_a_mistake(cli: Call, new_workspace: Path) -> None:
    answer = cli("train", "--best", "--dry-run", "--workspace", new_workspace)
    assert answer.code == 2
    assert answer.err == "error: --dry-run: only works with a configuration file\n"
