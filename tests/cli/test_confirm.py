from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.core.workspace import Workspace
from painvrl.data.guard import GuardedParts
from painvrl.engine import training
from painvrl.run.pipeline import reweighed, run
from painvrl.run.prepare import prepare
from painvrl.study.store.records import named
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.mlflow_calls import mlflow_calls

Call = Callable[..., Any]


@pytest.fixture
def workspace(tmp_path: Path, swept_study: Path, copied: Callable[[Path, Path], Path]) -> Path:
    """A copy of the swept study's workspace: a confirmation is about points."""
    return copied(swept_study, tmp_path / "workspace")


def run_of(workspace: Path, run_id: str) -> Any:
    uri = Workspace(workspace).tracking_uri
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=uri).get_run(run_id)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("this was not to be called")


@pytest.mark.slow
def test_a_confirmation_prints_runs_steps_tables_and_the_front(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedParts, "open", refuse)  # test parts stay sealed
    answer = cli("study", "confirm", "--workspace", workspace, "--device", "cpu", "--seeds-at-most", 3)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    page = json.loads((workspace / "confirmations" / "tiny" / "confirmation.json").read_text("utf-8"))
    runs = [line for line in lines if line.startswith("[")]
    assert len(runs) == page["runs"]
    assert all("trial " in line and " seed " in line and "ood/ndcg_at_20 0." in line for line in runs)
    assert any(line.startswith("after 2 seeds: ") for line in lines)
    assert any(
        line.startswith("tiny: mean and half of its 95% interval, valid parts, seeds 1 to") for line in lines
    )
    for row in page["rows"]:
        iid = row["estimates"]["iid/ndcg_at_20"]
        cell = f"{iid['mean']:z.4f} ± {(iid['high'] - iid['low']) / 2:.4f}"
        assert any(
            line.split()[:3] == [row["name"], f"{row['probability']:.3f}", row["decision"]] and cell in line
            for line in lines
        )
        assert f"{iid['first']:.4f} ({iid['first'] - iid['mean']:+z.4f})" in answer.out
    assert any(line.startswith("confirmed front (P >= 0.9): ") for line in lines)
    assert any(line.startswith("optimism of the first front, iid/ndcg_at_20: ") for line in lines)
    assert any(line.startswith("hypervolume of the first front: ") for line in lines)
    trainings = {row["trial"] for row in page["rows"]}
    assert len(trainings) < len(page["rows"])  # the study is swept
    assert page["runs_for_all"] == 3 * len(trainings)
    assert f"{page['runs']} runs; 3 seeds for every candidate are {page['runs_for_all']}" in lines
    assert lines[-1] == f"table: {workspace / 'confirmations' / 'tiny' / 'table.md'}"


@pytest.mark.slow
def test_the_same_command_trains_nothing_twice_and_json_is_all_that_it_prints(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("study", "confirm", "tiny", "--workspace", workspace, "--device", "cpu", "--seeds-at-most", 2)
    assert cli(*command, "--quiet", "--candidates", "front").out.startswith("tiny: mean")
    monkeypatch.setattr(training, "run", refuse)
    again = cli(*command, "--json", "--candidates", "front")
    assert (again.code, again.err) == (0, "")
    page = json.loads(again.out)
    assert page["first_seeds"] == [0]
    assert page["seeds"] == [1, 2]
    front = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    assert sorted(row["name"] for row in page["rows"]) == sorted(row["name"] for row in front["rows"])


@pytest.mark.slow
def test_a_confirmed_value_is_that_of_a_run_weighed_anew(cli: Call, workspace: Path, tmp_path: Path) -> None:
    command = ("study", "confirm", "tiny", "--workspace", workspace, "--device", "cpu", "--seeds-at-most", 2)
    page = json.loads(cli(*command, "--json").out)
    study = open_study("tiny", Workspace(workspace))
    cpu = torch.device("cpu")
    values: dict[str, list[tuple[float, ...]]] = {}
    for seed in page["seeds"]:
        base = study.config.model_copy(update={"seed": seed})
        prepared = prepare(base, cache_dir=tmp_path / "cache", device=cpu)
        for record in study.trials():
            config = study.config_of(record).model_copy(update={"seed": seed})
            result = run(config, prepared, branch=True)
            for row in page["rows"]:
                if row["trial"] == record.number:
                    point = named(study.trials(), row["name"])
                    weights = {path: point.point[path] for path in study.swept}
                    assert weights
                    fusion = {path.removeprefix("fusion."): value for path, value in weights.items()}
                    metrics = reweighed(result, prepared, **fusion).metrics
                    values.setdefault(row["name"], []).append(tuple(metrics[one] for one in study.objectives))
    assert len({tuple(each) for each in values.values()}) > 2  # the points are not all alike
    for row in page["rows"]:
        found = [row["estimates"][name]["mean"] for name in study.objectives]
        assert found == pytest.approx(np.mean(values[row["name"]], axis=0), abs=1e-12)


@pytest.mark.slow
def test_mlflow_shows_the_confirmation_on_the_studys_runs(cli: Call, workspace: Path) -> None:
    command = ("study", "confirm", "--workspace", workspace, "--device", "cpu", "--seeds-at-most", 2)
    page = json.loads(cli(*command, "--json").out)
    front = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    run_ids = {row["name"]: row["run_id"] for row in (*front["rows"], *front["dominated"])}
    best: dict[str, Any] = {}  # points of one training that have no run of their own share its run
    for row in page["rows"]:
        known = best.setdefault(run_ids[row["name"]], row)
        if row["probability"] > known["probability"]:
            best[run_ids[row["name"]]] = row
    trials = open_study("tiny", Workspace(workspace)).trials()
    for run_id, row in best.items():
        run = run_of(workspace, run_id)
        assert run.data.tags["confirmed"] == row["decision"]
        assert run.data.tags["confirmed.point"] == row["name"]
        assert run.data.metrics["confirmed/p_front"] == row["probability"]
        ood = row["estimates"]["ood/ndcg_at_20"]
        assert run.data.metrics["confirmed/ood/ndcg_at_20"] == ood["mean"]
        measured = named(trials, run.data.tags.get("point", str(row["trial"])))
        assert measured is not None
        assert run.data.metrics["ood/ndcg_at_20"] == measured.metrics["ood/ndcg_at_20"]
    parent = run_of(workspace, run.data.tags["mlflow.parentRunId"])
    assert parent.data.metrics["confirmed/front_size"] == len(page["front"])
    assert parent.info.status == "FINISHED"
    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert json.loads((artifacts / "confirmation.json").read_text("utf-8")) == page
    assert (artifacts / "confirmation.md").read_text("utf-8").startswith("# Confirmation of tiny\n")


def test_without_mlflows_runs_the_result_stands_and_a_warning_says_so(
    cli: Call, workspace: Path, empty_mlflow: Path
) -> None:
    shutil.copy(empty_mlflow, workspace)
    command = ("study", "confirm", "--workspace", workspace, "--device", "cpu", "--seeds-at-most", 2)
    answer = cli(*command, "--json")
    assert answer.code == 0
    assert answer.err.startswith("warning: the confirmation is not in MLflow: ")
    assert json.loads(answer.out)["study"] == "tiny"


def test_ctrl_c_says_that_the_same_command_goes_on_and_it_does(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = training.run, []

    def interrupted(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    command = ("study", "confirm", "--workspace", workspace, "--device", "cpu", "--seeds-at-most", 2)
    with monkeypatch.context() as patch:
        patch.setattr(training, "run", interrupted)
        answer = cli(*command)
    assert answer.code == 130
    assert answer.err.endswith("interrupted; the same command continues\n")
    assert sum(line.startswith("[") for line in answer.out.splitlines()) == 1
    rest = cli(*command)
    page = json.loads((workspace / "confirmations" / "tiny" / "confirmation.json").read_text("utf-8"))
    assert sum(line.startswith("[") for line in rest.out.splitlines()) == page["runs"] - 1


@pytest.mark.slow
def test_workers_come_to_the_same(
    cli: Call, workspace: Path, tmp_path: Path, copied: Callable[[Path, Path], Path]
) -> None:
    other = copied(workspace, tmp_path / "other")
    options = ("--device", "cpu", "--seeds-at-most", 2, "--json")
    alone = cli("study", "confirm", "--workspace", workspace, *options)
    shared = cli("study", "confirm", "--workspace", other, *options, "--workers", 2)
    assert (alone.code, shared.code, shared.err) == (0, 0, "")
    assert json.loads(shared.out) == json.loads(alone.out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sure", "0.4"), "--sure: must lie above 0.5 and below 1 (found 0.4)"),
        (("--candidates", "all"), "--candidates: must be one of front, plausible (found 'all')"),
        (("--seeds-at-most", "1"), "--seeds-at-most"),
        (("tini",), "no such study; there are tiny (found 'tini')"),
    ],
)
def test_mistakes_are_one_line(
    cli: Call, finished_study: tuple[Path, Any], options: tuple[str, ...], message: str
) -> None:
    answer = cli("study", "confirm", "--workspace", finished_study[0], *options)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_a_study_without_a_front_has_nothing_to_confirm(cli: Call, workspace: Path) -> None:
    with sqlite3.connect(workspace / "optuna.db") as storage:
        storage.execute("UPDATE trials SET state = 'RUNNING'")
    storage.close()
    answer = cli("study", "confirm", "--workspace", workspace, "--device", "cpu")
    assert answer.code == 3
    assert answer.err == "error: the study 'tiny' has no complete trial: none has ended yet\n"
