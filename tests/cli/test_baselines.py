from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from painvrl.baselines import registry
from painvrl.baselines.offsets import GRID, Offset
from painvrl.baselines.results import BaselinePoint, BaselineReport, ComparisonReport, TrialRun
from painvrl.cli import render
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run.config import TrainConfig

Call = Callable[..., Any]
FEW = ("--baseline", "popularity", "--baseline", "item-knn", "--trials", 4)


@pytest.fixture(autouse=True)
def _ready_store(tmp_path: Path, empty_mlflow: Path) -> None:
    """Making MLflow's tables takes seconds, a copy does not."""
    (tmp_path / "w").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "w")


@pytest.fixture
def config(tmp_path: Path, tiny_config: TrainConfig) -> Path:
    path = tmp_path / "plain.yaml"
    path.write_text(dump_yaml(tiny_config), encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_table_has_each_baselines_front_with_its_best_ends(
    cli: Call, config: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "w"
    arguments = ("baselines", config, *FEW, "--seeds", 2, "--workspace", workspace)
    answer = cli(*arguments, "--quiet")
    assert answer.code == 0
    assert answer.out.startswith("baselines on planted, planted: valid parts, mean of 2 seeds")
    assert "(on OOD, the choice uses the target shift). offset: popularity *" in answer.out
    assert "the same for all. Test parts stay sealed.\nhttp://127.0.0.1:5000/#/experiments/" in answer.out
    reported = json.loads(cli(*arguments, "--json").out)
    popularity, knn = reported["baselines"]
    assert [len(one["points"]) for one in (popularity, knn)] == [len(GRID), 4 * len(GRID)]
    rows = [
        line.split() for line in answer.out.splitlines() if line.startswith((" popularity ", " item-knn "))
    ]
    shown = [[one["name"], name] for one in (popularity, knn) for name in one["front"]]
    assert [row[:2] for row in rows] == shown
    rows = [row for row in rows if row[0] == "item-knn"]
    assert len(knn["front"]) > 1, "or the marks say nothing"
    points = {point["name"]: point for point in knn["points"]}
    for row, name in zip(rows, knn["front"], strict=True):
        point = points[name]
        means = [
            sum(run["metrics"][f"{part}/{metric}_at_20"] for run in point["runs"]) / 2
            for part in ("iid", "ood")
            for metric in ("ndcg", "recall")
        ]
        assert row[-5:-1] == [f"{mean:.4f}" for mean in means]
        assert ("IID" in row) is (name == knn["best"]["iid/ndcg_at_20"])
        for hyperparameter, value in point["offset"].items():
            assert (f"{hyperparameter} {value:.4f}" in " ".join(row)) is (value != 0)
        assert ("OOD" in row) is (name == knn["best"]["ood/ndcg_at_20"])
    assert reported["config"] == str(config)
    assert not (workspace / "test_reads.jsonl").exists()


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_stopped_and_its_trials_are_runs_in_mlflow(
    cli: Call, config: Path, tmp_path: Path
) -> None:
    arguments = ("baselines", config, "--baseline", "item-knn", "--workspace", tmp_path / "w")
    cli(*arguments, "--trials", 2)
    again = cli(*arguments, "--trials", 3, "--workers", 2)
    assert "baselines-planted-planted: 2 of 3 trials are there" in again.err
    assert "[3/3] item-knn trial 2 seed 0" in again.err
    assert again.out.startswith("baselines on planted, planted: ")
    client = MlflowClient(tracking_uri=Workspace(tmp_path / "w").tracking_uri)
    (experiment,) = (one.experiment_id for one in client.search_experiments() if one.name == "painvrl")
    runs = client.search_runs([experiment])
    (parent,) = (run for run in runs if run.data.tags["kind"] == "baselines")
    trials = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.params["baseline"] for run in trials} == {"item-knn"}
    assert len({run.data.params["neighbours"] for run in trials}) > 1
    assert all(run.data.metrics["ood/ndcg_at_20"] > 0 for run in trials)
    names = {run.info.run_name for run in trials}
    assert names == {f"baselines-planted-planted-item-knn-{trial}-seed-0" for trial in range(3)}
    assert {run.data.tags["reported"] for run in trials} == {"0.0", "1.0", "2.0"}


def test_a_rows_seconds_are_what_it_would_take_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {f"{part}/{metric}_at_20": 0.5 for part in ("iid", "ood") for metric in ("ndcg", "recall")}
    runs = (TrialRun(seed=0, metrics=metrics, seconds=2.0),)
    point = BaselinePoint(trial=0, place=0, settings={}, offset=Offset(), runs=runs)
    one = BaselineReport(name="some", summary="", points=(point,), shared_seconds=30.0)
    render.baselines(ComparisonReport(data="d", split="s", seeds=(0,), trials=1, baselines=(one,)))
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(" some "))
    assert row.split()[-1] == "32.0"


def test_the_file_of_a_study_or_an_ablation_gives_its_configuration(
    cli: Call, config: Path, spec: Path, tmp_path: Path, tiny_config: TrainConfig
) -> None:
    ablation = tmp_path / "ablation.yaml"
    content = {"ablation": {"name": "tiny"}, "config": tiny_config.model_dump(mode="json")}
    ablation.write_text(dump_yaml(content), encoding="utf-8")

    def reported(file: Path) -> list[Any]:
        out = cli("baselines", file, *FEW, "--workspace", tmp_path / "w", "--json").out
        return [
            [point["runs"][0]["metrics"] for point in one["points"]] for one in json.loads(out)["baselines"]
        ]

    assert reported(spec) == reported(ablation) == reported(config)


def test_missing_packages_skip_a_baseline_unless_it_is_asked_for(
    cli: Call, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {name: registry.BASELINES.get(name) for name in ("popularity", "ridge")}
    kept["ridge"] = replace(kept["ridge"], modules=("absent",))
    monkeypatch.setattr(registry.BASELINES, "_entries", kept)
    answer = cli("baselines", config, "--workspace", tmp_path / "w")
    assert answer.code == 0
    assert "ridge skipped: needs absent: install the extra `baselines`" in answer.out
    assert any(line.startswith(" popularity ") for line in answer.out.splitlines())
    asked = cli("baselines", config, "--baseline", "ridge", "--workspace", tmp_path / "w")
    assert asked.code == 2
    assert asked.err == "error: --baseline: needs absent: install the extra `baselines` (found 'ridge')\n"


def test_a_failed_trial_is_reported(
    cli: Call, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.core.errors import Diverged

    def never(inputs: Any) -> Any:
        raise Diverged("no start")

    ridge = replace(registry.BASELINES.get("ridge"), start=never)
    monkeypatch.setattr(registry.BASELINES, "_entries", {"ridge": ridge})
    answer = cli("baselines", config, "--trials", 1, "--workspace", tmp_path / "w")
    assert answer.code == 0
    assert answer.out.count("ridge trial 0 failed with seed 0: no start") == 1


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        ("data: {kind: planted}\nsplitt: {}\n", "splitt: is not a known key"),
        ("study: {name: x}\n", "is missing"),
    ],
)
def test_mistakes_in_the_file_are_reported_in_a_line(
    cli: Call, tmp_path: Path, content: str, reported: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    answer = cli("baselines", path, "--workspace", tmp_path / "w")
    assert answer.code == 2
    assert re.match(rf"error: {re.escape(str(path))}:\d+:\d+: ", answer.err)
    assert reported in answer.err


def test_an_unknown_baseline_is_a_mistake_of_the_user(cli: Call, config: Path) -> None:
    answer = cli("baselines", config, "--baseline", "als2")
    assert answer.code == 2
    assert "--baseline: is not a baseline; did you mean als?" in answer.err


@pytest.mark.slow
def test_own_sets_the_files_model_against_every_point_that_is_shown(
    cli: Call, spec: Path, tmp_path: Path
) -> None:
    arguments = ("baselines", spec, *FEW, "--own", "--seeds", 2, "--workspace", tmp_path / "w")
    reported = json.loads(cli(*arguments, "--json").out)
    own, *others = reported["baselines"]
    assert own["name"] == "own"
    assert len(own["points"]) == 4 * len(GRID)
    assert all(
        set(point["settings"]) == {"mask.sparsity", "fusion.variant_weight"} for point in own["points"]
    )
    assert len(reported["comparisons"]) == sum(len(one["front"]) for one in others)
    out = cli(*arguments).out
    table = out[out.index("the reference model against each of them") :]
    rows = [line for line in table.splitlines() if line.startswith((" popularity ", " item-knn "))]
    assert len(rows) == len(reported["comparisons"])
    for row, comparison in zip(rows, reported["comparisons"], strict=True):
        shown = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
        assert shown.format(**comparison["iid"]) in row
        assert shown.format(**comparison["ood"]) in row
        assert row.split()[:3] == [comparison["baseline"], comparison["point"], comparison["own"]]
        assert row.split()[-2:] == [comparison["verdict"], str(len(comparison["beats"]))]
    beaten = len({trial for comparison in reported["comparisons"] for trial in comparison["beats"]})
    assert f"of the {len(own['front'])} own points shown (of 4 trials), {beaten} are beaten" in table
    one_seed = cli("baselines", spec, "--own", "--baseline", "popularity")
    assert (one_seed.code, one_seed.err.startswith("error: --seeds: must be at least 2")) == (2, True)


def test_set_turns_a_value_of_any_file_for_one_call(
    cli: Call, config: Path, spec: Path, tmp_path: Path
) -> None:
    workspace = ("--workspace", tmp_path / "w")
    popularity = ("--baseline", "popularity", "--json")
    for file, key in ((config, "split"), (spec, "config.split")):
        answer = cli("baselines", file, *popularity, *workspace, "--set", f"{key}={{protocol: popularity}}")
        assert json.loads(answer.out)["split"] == "popularity"
    wrong = cli("baselines", config, *popularity, *workspace, "--set", "split.protocol=season")
    assert wrong.code == 2
    assert "--set" in wrong.err
