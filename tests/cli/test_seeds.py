"""A study whose trainings are repeated under several seeds, from its file to the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.yamlfile import dump_yaml
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec

Call = Callable[..., Any]
SEEDS = 2


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    cli: Call,
    tiny_config: TrainConfig,
    spec_of: Callable[..., StudySpec],
    empty_mlflow: Path,
) -> Path:
    """A workspace with such a study, and its file beside it; swept, as a new file is."""
    folder = tmp_path_factory.mktemp("seeds")
    shutil.copy(empty_mlflow, folder)
    spec = spec_of(tiny_config, trials=2)
    study = spec.study.model_copy(update={"seeds": SEEDS})
    spec = spec.model_copy(update={"study": study, "sweep": "auto"})
    (folder / "tiny.yaml").write_text(dump_yaml(spec), encoding="utf-8")
    answer = cli("study", "run", folder / "tiny.yaml", "--workspace", folder, "--device", "cpu")
    assert answer.code == 0, answer.err
    return folder


@pytest.mark.slow
def test_training_the_best_repeats_what_it_had_under_the_first_seed(cli: Call, place: Path) -> None:
    shown = cli("train", "--best", "--workspace", place, "--device", "cpu")
    assert "the study shows means over several seeds" in shown.out
    assert "repeat the trial's under seed 0 to the last digit" in shown.out
    rows = [line.split() for line in shown.out.splitlines() if line.split()[:1] in (["IID"], ["OOD"])]
    assert rows
    assert all(row[2] == row[3] for row in rows)
    answer = cli("train", "--best", "--json", "--workspace", place, "--device", "cpu")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    assert report["repetition"]["largest_difference"] == 0.0
    assert report["repetition"]["compared"] > 20
    front = json.loads(cli("study", "front", "--json", "--workspace", place).out)
    (chosen,) = [row for row in front["rows"] if row["name"] == report["pick"]["name"]]
    assert chosen["metrics"] != report["metrics"], "the front shows the mean over the seeds"


def test_fresh_seeds_come_after_all_that_the_study_has_seen(cli: Call, place: Path) -> None:
    answer = cli("study", "confirm", "--json", "--seeds-at-most", 2, "--workspace", place, "--device", "cpu")
    assert answer.code == 0, answer.err
    page = json.loads(answer.out)
    assert (page["first_seeds"], page["seeds"]) == ([0, 1], [2, 3])


@pytest.mark.slow
def test_a_study_goes_on_with_the_seeds_that_it_began_with(cli: Call, place: Path) -> None:
    run = ("study", "run", place / "tiny.yaml", "--workspace", place, "--device", "cpu")
    refused = cli(*run, "--set", "study.seeds=3")
    assert refused.code == 2
    assert "- seeds: 2" in refused.err
    assert "+ seeds: 3" in refused.err
    assert cli(*run).code == 0


def test_the_report_asks_the_users_of_all_seeds_how_lucky_the_front_is(cli: Call, place: Path) -> None:
    luck = json.loads(cli("study", "report", "--json", "--workspace", place).out)["luck"]
    assert luck["note"] is None
    assert "means over 2 seeds" in cli("study", "front", "--workspace", place).out
    assert 0 < luck["fresh"] < luck["chosen"]


@pytest.mark.slow
def test_the_plan_counts_all_seeds(cli: Call, place: Path, tmp_path: Path) -> None:
    run = ("study", "run", place / "tiny.yaml", "--workspace", tmp_path, "--device", "cpu", "--dry-run")
    assert f"= {SEEDS} seeds x " in cli(*run).out
    assert "seeds x" not in cli(*run, "--set", "study.seeds=1").out
