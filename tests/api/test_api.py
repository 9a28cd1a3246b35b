"""The public names of painvrl: what they are called, take and give."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import painvrl
from painvrl.cli import app
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml, validated
from painvrl.study.file.spec import StudySpec

if TYPE_CHECKING:
    from pathlib import Path

    from painvrl.run.config import TrainConfig

SIGNATURES = {
    "train": "config, seed, refit, test, workspace, device",
    "run_study": "spec, values, trials, workers, workspace, device",
    "open_study": "name, workspace, storage",
    "load_model": "checkpoint, workspace",
    "Study.trials": "self",
    "Study.points": "self",
    "Study.front": "self",
    "Study.plot_front": "self",
    "Study.pick": "self, rule, max_ood_with_iid, max_iid_with_loeo, weights, reference, trial, alias",
    "Study.confirm": "self, candidates, seeds_at_most, sure, workers, device",
    "Study.train": "self, trial, pick, prefer, refit, seed, device",
    "Model.recommend": "self, users, k, explain",
    "Model.encode_items": "self, features",
    "Model.export": "self, path",
}
"""Of the public functions; a change here is a change that users must be told of."""


def spec_of(config: TrainConfig) -> StudySpec:
    """A study of four trainings, swept over one hyperparameter."""
    return validated(
        StudySpec,
        {
            "study": {"name": "tiny", "trials": 4, "sampler": "random"},
            "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
            "config": config.model_dump(mode="json"),
            "presets": [],
            "pruning": False,
            "space": {
                "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8},
                "fusion.variant_weight": {"type": "float", "low": 0.1, "high": 1.0},
            },
        },
    )


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: TrainConfig, empty_mlflow: Path
) -> painvrl.Study:
    """A small study that was swept, run from Python."""
    workspace = Workspace(tmp_path_factory.mktemp("api") / "workspace").create()
    shutil.copy(empty_mlflow, workspace.mlflow_db)
    return painvrl.run_study(spec_of(tiny_config), workspace=workspace, device="cpu")


@pytest.fixture(scope="module")
def trained(study: painvrl.Study) -> Any:
    """The report of the knee of its front, trained again."""
    return study.train(prefer="knee", device="cpu")


def test_the_public_names_keep_their_arguments() -> None:
    def of(path: str) -> object:
        found: object = painvrl
        for name in path.split("."):
            found = getattr(found, name)
        return found

    assert {path: ", ".join(inspect.signature(of(path)).parameters) for path in SIGNATURES} == SIGNATURES  # type: ignore[arg-type]
    assert {path.split(".")[0] for path in SIGNATURES} <= set(painvrl.__all__) <= set(dir(painvrl))


def test_defaults_are_those_of_the_command_line() -> None:
    from painvrl.cli.options import DEFAULT_WORKSPACE
    from painvrl.cli.study.confirm import confirm

    ours, theirs = inspect.signature(painvrl.Study.confirm), inspect.signature(confirm)
    for name in ("candidates", "seeds_at_most", "sure", "workers", "device"):
        assert ours.parameters[name].default == theirs.parameters[name].default, name
    for function in (painvrl.train, painvrl.run_study, painvrl.open_study, painvrl.load_model):
        assert inspect.signature(function).parameters["workspace"].default == str(DEFAULT_WORKSPACE)


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        painvrl.nothing  # noqa: B018
    assert not hasattr(painvrl, "nothing")


def test_looking_at_studies_and_models_needs_no_torch(study: painvrl.Study, trained: Any) -> None:
    program = (
        "import painvrl, sys; "
        f"model = painvrl.load_model(workspace={str(study.workspace.root)!r}); "
        "model.recommend(model.user_ids[:2], k=3); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_frames_say_what_the_command_line_says(study: painvrl.Study) -> None:
    answer = CliRunner().invoke(app, ["study", "front", "--json", "--workspace", str(study.workspace.root)])
    rows = {row["name"]: row for row in json.loads(answer.stdout)["rows"]}
    front = study.front()
    assert set(front.index) == set(rows)
    for name, row in rows.items():
        assert {metric: front.loc[name, metric] for metric in study.objectives} == {
            metric: row["metrics"][metric] for metric in study.objectives
        }
        assert all(front.loc[name, path] == value for path, value in row["point"].items())
    assert set(front.index) <= set(study.points().index)
    trials = study.trials()
    assert list(trials.index) == [str(number) for number in range(len(trials))]
    assert set(trials["state"]) == {"complete"}


def test_the_front_is_drawn_with_every_point_of_it(study: painvrl.Study) -> None:
    figure, front = study.plot_front(), study.front()
    shown = {(x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=False)}
    points = zip(front["iid/ndcg_at_20"], front["ood/ndcg_at_20"], strict=True)
    assert {(round(iid, 12), round(ood, 12)) for iid, ood in points} <= shown


def test_a_pick_is_kept_for_whoever_trains_it(study: painvrl.Study) -> None:
    best = study.front()["ood/ndcg_at_20"]
    pick = study.pick("ood", alias="widest")
    assert best[pick.name] == best.max()
    assert painvrl.open_study(study.name, workspace=study.workspace).front().equals(study.front())
    with pytest.raises(painvrl.UserError, match="exactly one rule"):
        study.pick("knee", trial="0.0")
    with pytest.raises(painvrl.UserError, match="exactly one rule"):
        study.pick()


def test_a_point_is_trained_to_the_last_digit(study: painvrl.Study, trained: Any) -> None:
    assert trained.repetition.exact
    with pytest.raises(painvrl.UserError, match="only one of"):
        study.train(prefer="knee", trial="0.0")


def test_a_model_ranks_by_its_vectors(study: painvrl.Study, trained: Any) -> None:
    model = painvrl.load_model(trained.checkpoint)
    user = model.user_ids[0]
    best = model.recommend(user, k=3)
    items = [model.item_ids.index(item) for item in best["item"]]
    np.testing.assert_allclose(best["score"], model.item_vectors[items] @ model.user_vectors[0], rtol=1e-5)
    both = model.recommend(model.user_ids[:2], k=3)
    assert list(both["user"].unique()) == list(model.user_ids[:2])
    assert both[both["user"] == user].reset_index(drop=True).equals(best)
    with pytest.raises(painvrl.UserError, match="no such user"):
        model.recommend("nobody's id")
    explained = model.recommend(user, k=3, explain=True)
    assert explained[best.columns].equals(best)
    parts = explained.drop(columns=best.columns)
    assert list(parts) == list(model.checkpoint.parts)
    np.testing.assert_allclose(parts.sum(axis=1), best["score"], rtol=1e-4)


def test_a_model_of_a_studys_point_says_so(study: painvrl.Study, trained: Any) -> None:
    model = painvrl.load_model(trained.checkpoint)
    assert model.checkpoint.origin == {"study": study.name, "trial": trained.pick.name}


@pytest.mark.parametrize("form", ["file", "mapping", "settings"])
def test_a_configuration_is_trained_in_every_form(
    form: str, tiny_config: TrainConfig, tmp_path: Path, empty_mlflow: Path
) -> None:
    workspace = Workspace(tmp_path / "workspace").create()
    shutil.copy(empty_mlflow, workspace.mlflow_db)
    file = tmp_path / "tiny.yaml"
    file.write_text(dump_yaml(tiny_config), encoding="utf-8")
    forms = {"file": file, "mapping": tiny_config.model_dump(mode="json"), "settings": tiny_config}
    report = painvrl.train(forms[form], workspace=workspace, device="cpu")  # type: ignore[arg-type]
    assert report.config == tiny_config
    assert report.test is None
    assert report.checkpoint.is_dir()


def test_values_stand_in_the_place_of_the_files(tiny_config: TrainConfig, tmp_path: Path) -> None:
    from painvrl.api.inputs import spec_of as read

    spec = spec_of(tiny_config)
    file = tmp_path / "tiny.yaml"
    file.write_text(dump_yaml(spec), encoding="utf-8")
    for given in (file, spec, spec.model_dump(mode="json")):
        assert read(given, {"study.seed": 7, "study.name": "other"}).study.seed == 7
    with pytest.raises(painvrl.UserError, match=r"study\.seeed"):
        read(spec, {"study.seeed": 7})


@pytest.mark.slow
def test_the_documents_example_runs_as_it_stands(
    tiny_config: TrainConfig,
    tmp_path: Path,
    empty_mlflow: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (repository / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for folder in ("studies", "workspace"):
        (tmp_path / folder).mkdir()
    shutil.copy(empty_mlflow, tmp_path / "workspace" / "mlflow.db")
    file = tmp_path / "studies" / "movielens.yaml"
    file.write_text(dump_yaml(spec_of(tiny_config)), encoding="utf-8")
    names: dict[str, Any] = {}
    exec(example.replace("trials=10", "trials=4"), names)
    assert names["pick"].name in names["study"].front().index
    assert len(names["model"].recommend(["1", "2"], k=5)) == 10
