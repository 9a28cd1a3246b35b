from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.yamlfile import dump_yaml
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec

Call = Callable[..., Any]


@pytest.fixture
def warm(tmp_path: Path, tiny_config: TrainConfig, spec_of: Callable[..., StudySpec]) -> Path:
    """The file of a study like the finished one, with one hyperparameter more."""
    tree = spec_of(tiny_config, name="warm", trials=1).model_dump(mode="json")
    tree["space"]["environments.count"] = {"type": "int", "low": 2, "high": 5}
    path = tmp_path / "warm.yaml"
    path.write_text(dump_yaml(StudySpec.model_validate(tree)), encoding="utf-8")
    return path


def run(cli: Call, file: Path, workspace: Path, *more: str) -> Any:
    return cli("study", "run", file, "--workspace", workspace, "--device", "cpu", *more)


@pytest.mark.slow
def test_a_study_goes_on_from_another_one_whose_trials_are_trained_and_compared_as_its_own(
    cli: Call, workspace: Path, warm: Path, tiny_config: TrainConfig
) -> None:
    answer = run(cli, warm, workspace, "--warm-start", "tiny")
    assert (answer.code, answer.err) == (0, "")
    assert "taken over: 3 trials of tiny" in answer.out
    assert "study warm starts: 0 of 1 trials are there" in answer.out
    trials = [line for line in answer.out.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in trials] == ["[1/1"]

    again = run(cli, warm, workspace, "--warm-start", "tiny")
    assert again.code == 0
    assert "study warm continues: 1 of 1 trials are there" in again.out
    now = cli("study", "status", "warm", "--workspace", workspace).out
    assert "study warm: 4 complete; 1 requested" in now
    assert "of these taken over: 3 trials of tiny" in now

    front = json.loads(cli("study", "front", "warm", "--json", "--workspace", workspace).out)
    rows = [row for row in front["rows"] + front["dominated"] if row["taken_from"] is not None]
    assert sorted(row["taken_from"]["trial"] for row in rows) == [0, 1, 2]
    assert {row["point"]["environments.count"] for row in rows} == {tiny_config.environments.count}

    number = rows[0]["trial"]
    kept = workspace / "users" / "warm" / f"{number}.npz"
    origin = workspace / "users" / "tiny" / f"{rows[0]['taken_from']['trial']}.npz"
    assert kept.read_bytes() == origin.read_bytes()
    train = ("train", "--best", "--study", "warm", "--trial", number, "--json")
    report = json.loads(cli(*train, "--workspace", workspace, "--device", "cpu").out)
    assert report["repetition"]["largest_difference"] == 0.0
    assert report["metrics"].items() >= rows[0]["values"].items()


def test_a_warm_start_from_nothing_is_refused_before_anything_is_made(
    cli: Call, workspace: Path, warm: Path
) -> None:
    answer = run(cli, warm, workspace, "--warm-start", "tini")
    assert (answer.code, answer.out) == (2, "drawing planted data ...\n")
    assert "--warm-start: no such study; did you mean tiny? (found 'tini')" in answer.err
    assert "'warm'" in cli("study", "status", "warm", "--workspace", workspace).err
    answer = run(cli, warm, workspace, "--warm-start", "tiny", "--dry-run")
    assert answer.code == 2
    assert "--warm-start: is not planned" in answer.err
