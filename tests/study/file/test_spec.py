from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core import shown
from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.study.file.checks import check_measured
from painvrl.study.file.space import Space
from painvrl.study.file.spec import StudySpec, load_spec, pretraining_comes_back
from painvrl.study.runner import run_study

Tree = dict[str, dict[str, object]]
Write = Callable[[], Path]


@pytest.fixture
def tree(spec_tree: Tree) -> Tree:
    return spec_tree


@pytest.fixture
def write(tree: Tree, tmp_path: Path) -> Write:
    def writer() -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(dump_yaml(tree), encoding="utf-8")
        return path

    return writer


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_spec(path)
    said = str(caught.value.each[0])
    assert "\n" not in said
    place = re.match(rf"{re.escape(str(path))}(:\d+:\d+)?: ", said)
    assert place is not None
    return said[place.end() :]


def test_a_good_file_is_read_with_its_defaults(tree: Tree, write: Write) -> None:
    tree["study"] = {"name": "good"}
    spec = load_spec(write())
    assert (spec.study.trials, spec.study.sampler, spec.study.seed) == (40, "auto", 0)
    assert spec.objectives == tuple(tree["objectives"])
    assert set(spec.space.root) == set(tree["space"])


def test_a_file_written_out_with_its_defaults_reads_the_same(write: Write, tmp_path: Path) -> None:
    spec = load_spec(write())
    again = tmp_path / "again.yaml"
    again.write_text(dump_yaml(spec), encoding="utf-8")
    assert load_spec(again) == spec


def test_the_example_of_the_repository_is_good(repository: Path) -> None:
    spec = load_spec(repository / "studies" / "movielens.yaml")
    four = {f"{part}/{metric}_at_20" for part in ("iid", "ood") for metric in ("recall", "ndcg")}
    assert set(spec.objectives) == four
    assert {"environments.count", "mask.sparsity", "mask.irm_weight"} <= set(spec.space.root)
    assert spec.study.trials >= 30


@pytest.mark.parametrize("part", ["iid_test", "ood_test", "ood_far_test"])
def test_test_metrics_are_sealed(tree: Tree, write: Write, part: str) -> None:
    tree["objectives"] = ["iid/ndcg_at_20", f"{part}/ndcg_at_20"]  # type: ignore[assignment]
    said = refusal(write())
    assert said.startswith("objectives.1: is sealed")
    assert f"use {part.removesuffix('_test')}/ndcg_at_20" in said


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        ([], "objectives: "),
        (["iid/ndcg_at_20", "iid/ndcg_at_20"], "objectives.1: must not stand twice (found 'iid/ndcg_at_20')"),
        (["iid/ndcg_at_7"], "objectives.0: its K must be one of config.evaluation.ks, [5, 10, 20, 50]"),
        (["iid/mrr_at_20"], "objectives.0: is not a metric"),
        (["ndcg_at_20"], "objectives.0: is not a metric"),
        (["train/ndcg_at_20"], "objectives.0: is not a metric"),
        (["iid/ndcg_at_020"], "objectives.0: is not a metric"),
        (["ood_valid/ndcg_at_20"], "objectives.0: is not a metric"),
        (
            ["iid/ndcg_at_20", "ood_far/ndcg_at_20"],
            "objectives.1: the split has no such part; it has iid, ood (found 'ood_far/ndcg_at_20')",
        ),
    ],
)
def test_objectives_are_metrics_that_trials_measure(
    tree: Tree, write: Write, objectives: list[str], said: str
) -> None:
    tree["objectives"] = objectives  # type: ignore[assignment]
    assert refusal(write()).startswith(said)


def test_graded_parts_are_objectives_and_their_mean_is_one(tree: Tree, write: Write) -> None:
    tree["config"]["split"] = {"protocol": "popularity", "gamma": [0.5, 1.0]}
    names = [f"{part}/ndcg_at_20" for part in ("iid", "ood", "ood_gamma_0.5", "ood_gamma_1")]
    tree["objectives"] = names  # type: ignore[assignment]
    assert list(load_spec(write()).objectives) == names
    tree["objectives"] = ["ood_gamma_2/ndcg_at_20"]  # type: ignore[assignment]
    assert "it has iid, ood_gamma_0.5, ood_gamma_1, ood (found" in refusal(write())


def test_parts_that_only_the_data_know_are_checked_against_them(tree: Tree, write: Write) -> None:
    tree["config"]["split"] = {"protocol": "given"}
    tree["objectives"] = ["iid/ndcg_at_20", "ood_far/ndcg_at_20"]  # type: ignore[assignment]
    spec = load_spec(write())
    check_measured(spec, ("iid", "ood_far", "ood"))
    with pytest.raises(ConfigError, match=r"objectives\.1: the split has no such part; it has iid, ood \("):
        check_measured(spec, ("iid", "ood"))


@pytest.mark.parametrize(
    ("path", "distribution", "said"),
    [
        (
            "mask.sparsty",
            {"type": "float", "low": 0, "high": 0.9},
            "space.mask.sparsty: is not a hyperparameter of the config; did you mean mask.sparsity",
        ),
        (
            "mask.sparsity",
            {"type": "float", "low": 0.9, "high": 0.1},
            "space.mask.sparsity: low must be below high; found low 0.9 and high 0.1",
        ),
        (
            "mask.irm_weight",
            {"type": "float", "low": 0, "high": 10, "log": True},
            "space.mask.irm_weight: a log range must start above 0",
        ),
        (
            "mask.sparsity",
            {"type": "float", "low": 0.0, "high": 1.5},
            "space.mask.sparsity.high: the config refuses it: must be less than",
        ),
        (
            "fusion.variant_weight",
            {"type": "float", "low": -0.5, "high": 1.0},
            "space.fusion.variant_weight.low: the config refuses it: ",
        ),
        (
            "fusion.kind",
            {"type": "categorical", "choices": ["branch", "brunch"]},
            "space.fusion.kind.choices: the config refuses it: ",
        ),
        (
            "environments.count",
            {"type": "float", "low": 2.0, "high": 8.0},
            "space.environments.count.type: the config refuses it: ",
        ),
        (
            "environments.count",
            {"type": "float", "low": 2.0, "high": 8.0, "step": 1.5},
            "space.environments.count.step: the config refuses it: ",
        ),
        (
            "backbone.loss",
            {"type": "categorical", "choices": ["gramian", "sampled"]},
            "space.backbone.loss: is a section; name one of its hyperparameters: ",
        ),
        ("split.protocol", {"type": "categorical", "choices": ["a", "b"]}, "space.split.protocol: cannot be"),
        ("data.n_users", {"type": "int", "low": 10, "high": 20}, "space.data.n_users: cannot be searched"),
        ("seed", {"type": "int", "low": 0, "high": 9}, "space.seed: cannot be searched"),
    ],
)
def test_a_hyperparameter_that_cannot_be_searched_so_is_refused_at_load(
    tree: Tree, write: Write, path: str, distribution: dict[str, object], said: str
) -> None:
    tree["space"] = {path: distribution}
    assert refusal(write()).startswith(said)


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("study", "name", "has/slash", "study.name: "),
        ("study", "name", "it's", "study.name: "),
        ("study", "trials", 0, "study.trials: must be greater than or equal to 1 (found 0)"),
        (
            "study",
            "sampler",
            "cmaes",
            "study.sampler: must be 'auto', 'tpe', 'gp', 'nsga2', 'nsga3', 'random', 'qmc' or 'grid'",
        ),
        ("study", "trails", 3, "study.trails: is not a known key; did you mean trials?"),
        ("config", "rounds", 0, "config.rounds: must be greater than or equal to 1 (found 0)"),
        ("config", "mask", {"sparsity": 2}, "config.mask.sparsity: "),
    ],
)
def test_a_wrong_key_or_value_is_named(
    tree: Tree, write: Write, section: str, key: str, value: object, said: str
) -> None:
    tree[section][key] = value
    assert refusal(write()).startswith(said)


def test_a_specification_made_in_python_is_checked_before_it_runs(tree: Tree, tmp_path: Path) -> None:
    import torch

    tree["space"] = {"mask.sparsity": {"type": "float", "low": 0.0, "high": 1.5}}
    spec = StudySpec.model_validate(tree)
    with pytest.raises(ConfigError, match=r"space\.mask\.sparsity\.high"):
        run_study(spec, Workspace(tmp_path / "w"), torch.device("cpu"))
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("hyperparameters", "comes_back"),
    [
        ({"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9}}, True),
        ({"fusion.variant_weight": {"type": "float", "low": 0.1, "high": 1.0}}, True),
        ({"environments.count": {"type": "int", "low": 2, "high": 9}}, True),
        ({"rounds": {"type": "int", "low": 1, "high": 9}}, True),
        ({"backbone.l2": {"type": "float", "low": 0.1, "high": 1.0}}, False),
        ({"training.learning_rate": {"type": "float", "low": 0.01, "high": 0.1, "log": True}}, False),
        ({"backbone.l2": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25}}, True),
        ({"backbone.l2": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.001}}, False),
        ({"backbone.l2": {"type": "categorical", "choices": [0.1, 0.3]}}, True),
        ({"backbone.id_dim": {"type": "int", "low": 1, "high": 64}}, True),
        ({"backbone.id_dim": {"type": "int", "low": 1, "high": 65}}, False),
        ({"backbone.id_dim": {"type": "int", "low": 8, "high": 512, "step": 8}}, True),
        (
            {
                "backbone.id_dim": {"type": "int", "low": 1, "high": 33},
                "features.standardise": {"type": "categorical", "choices": [True, False]},
            },
            False,
        ),
    ],
)
def test_pretrainings_are_kept_only_where_the_space_has_few(
    hyperparameters: dict[str, dict[str, object]], comes_back: bool
) -> None:
    assert pretraining_comes_back(Space.model_validate(hyperparameters)) is comes_back


def test_the_password_of_a_storage_is_known_before_anything_is_said_of_it(
    spec_tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "_known", set())
    spec_tree["study"]["storage"] = "postgresql://me:#hunter2@host/studies"
    StudySpec.model_validate(spec_tree)
    assert shown.redacted("no #hunter2") == "no ***"
