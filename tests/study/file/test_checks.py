"""What a file is refused for because of two of its keys together."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import dump_yaml
from painvrl.study.file.spec import load_spec
from painvrl.study.search.samplers import MAX_GRID

Tree = dict[str, Any]
WEIGHT = {"type": "float", "low": 0.1, "high": 1.0, "when": {"fusion.kind": "branch"}}
NEGATIVES = {"type": "int", "low": 8, "high": 64, "when": {"backbone.loss.kind": "sampled"}}


@pytest.fixture
def load(spec_tree: Tree, tmp_path: Path) -> Callable[[], Any]:
    def loader() -> Any:
        path = tmp_path / "study.yaml"
        path.write_text(dump_yaml(spec_tree), encoding="utf-8")
        return load_spec(path)

    return loader


def refusal(load: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load()
    first = str(caught.value.each[0])
    assert "\n" not in first
    return re.split(r"study\.yaml(?::\d+:\d+)?: ", first, maxsplit=1)[1]


@pytest.mark.parametrize(
    ("hyperparameter", "when", "said"),
    [
        (
            "mask.sparsity",
            {"fusion.knd": "branch"},
            "space.mask.sparsity.when.fusion.knd: is neither a hyperparameter of the space nor a key",
        ),
        (
            "mask.sparsity",
            {"fusion.kind": ["branch", "sum"]},
            "space.mask.sparsity.when.fusion.kind: is not a value of space.fusion.kind, so the condition",
        ),
        (
            "mask.sparsity",
            {"mask.source": "lerned"},
            "space.mask.sparsity.when.mask.source: is not a value that config.mask.source may have (found",
        ),
        (
            "fusion.kind",
            {"mask.sparsity": 0.123456},
            "space.fusion.kind.when.mask.sparsity: is one value of a continuous hyperparameter, so the",
        ),
        (
            "fusion.kind",
            {"mask.sparsity": [0.5, 2.0]},
            "space.fusion.kind.when.mask.sparsity: is not a value of space.mask.sparsity, so the condition",
        ),
        ("mask.sparsity", {"mask.sparsity": 0.5}, "space: conditions must not wait for each other"),
        ("mask.sparsity", {"mask.source": []}, "space.mask.sparsity: when.mask.source must name a value"),
    ],
)
def test_a_condition_that_never_holds_is_refused(
    spec_tree: Tree, load: Callable[[], Any], hyperparameter: str, when: dict[str, Any], said: str
) -> None:
    spec_tree["space"][hyperparameter]["when"] = when
    assert refusal(load).startswith(said)


def test_a_condition_on_a_step_can_hold(spec_tree: Tree, load: Callable[[], Any]) -> None:
    spec_tree["space"]["mask.sparsity"]["step"] = 0.1
    spec_tree["space"]["fusion.kind"]["when"] = {"mask.sparsity": 0.3}
    assert "fusion.kind" in load().space.searched(load().config)


def test_conditions_that_exclude_each_other_are_refused(spec_tree: Tree, load: Callable[[], Any]) -> None:
    spec_tree["space"]["fusion.variant_weight"] = {**WEIGHT, "step": 0.1}
    spec_tree["space"]["mask.steps"] = {
        "type": "fixed",
        "value": 5,
        "when": {"fusion.variant_weight": 0.5, "fusion.kind": "invariant"},
    }
    assert refusal(load).startswith("space.mask.steps.when: can never hold")


def test_a_hyperparameter_of_another_variant_needs_the_condition_that_makes_it(
    spec_tree: Tree, load: Callable[[], Any]
) -> None:
    spec_tree["space"]["backbone.loss.kind"] = {"type": "categorical", "choices": ["gramian", "sampled"]}
    spec_tree["space"]["backbone.loss.negatives"] = {**NEGATIVES}
    load()
    del spec_tree["space"]["backbone.loss.negatives"]["when"]
    assert refusal(load).startswith(
        "space.backbone.loss.negatives: the config as it is has no such hyperparameter: "
        "it belongs to another kind of backbone.loss"
    )


def test_the_values_of_a_conditional_hyperparameter_are_tried_where_it_is_searched(
    spec_tree: Tree, load: Callable[[], Any]
) -> None:
    spec_tree["space"]["backbone.loss.kind"] = {"type": "categorical", "choices": ["gramian", "sampled"]}
    spec_tree["space"]["backbone.loss.negatives"] = {**NEGATIVES, "low": 0}
    assert refusal(load).startswith(
        "space.backbone.loss.negatives.low: the config refuses it: must be greater"
    )


def test_a_hyperparameter_that_the_config_rules_out_is_no_mistake(
    spec_tree: Tree, load: Callable[[], Any]
) -> None:
    spec_tree["space"] = {"fusion.variant_weight": WEIGHT, "rounds": {"type": "int", "low": 1, "high": 2}}
    spec_tree["config"]["fusion"] = {"kind": "sum"}
    assert load().space.searched(load().config) == ("rounds",)
    del spec_tree["space"]["rounds"]
    assert refusal(load) == "space: has no hyperparameter whose condition can hold"


def test_what_the_config_does_not_name_cannot_be_searched(spec_tree: Tree, load: Callable[[], Any]) -> None:
    spec_tree["space"]["features.scales.text"] = {"type": "float", "low": 0.0, "high": 2.0}
    assert refusal(load).startswith("space.features.scales.text: config.features.scales does not name text")
    spec_tree["config"]["features"] = {"scales": {"text": 1.0}}
    load()


def test_a_fixed_value_is_checked_by_the_configs_rules(spec_tree: Tree, load: Callable[[], Any]) -> None:
    spec_tree["space"]["mask.sparsity"] = {"type": "fixed", "value": 1.5}
    assert refusal(load).startswith("space.mask.sparsity.value: the config refuses it: must be less than")


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (
            {"mask.sparsty": 0.5},
            "points.0.mask.sparsty: is not a hyperparameter of the space; did you mean mask.sparsity",
        ),
        ({"mask.sparsity": 0.95}, "points.0.mask.sparsity: lies outside the space (found 0.95)"),
        ({"environments.count": 2.5}, "points.0.environments.count: lies outside the space"),
        (
            {"fusion.variant_weight": 0.5},
            "points.0.fusion.variant_weight: is only searched where fusion.kind is branch, which the",
        ),
        (
            {"fusion.variant_weight": 0.5, "fusion.kind": "invariant"},
            "points.0.fusion.variant_weight: is only",
        ),
        ({}, "points.0: "),
    ],
)
def test_a_point_outside_the_space_is_refused(
    spec_tree: Tree, load: Callable[[], Any], point: dict[str, Any], said: str
) -> None:
    spec_tree["space"]["fusion.variant_weight"] = WEIGHT
    spec_tree["points"] = [point]
    assert refusal(load).startswith(said)


def test_a_point_may_leave_hyperparameters_out_and_name_what_a_condition_asks_for(
    spec_tree: Tree, load: Callable[[], Any]
) -> None:
    spec_tree["space"]["fusion.variant_weight"] = WEIGHT
    spec_tree["points"] = [{"fusion.kind": "branch", "fusion.variant_weight": 0.5}, {"mask.sparsity": 0}]
    assert len(load().points) == 2
    spec_tree["points"] *= 2
    assert refusal(load).startswith("points.2: stands twice")


@pytest.mark.parametrize(
    ("presets", "said"),
    [(["irm", "irm"], "presets must not name one twice"), (["irn"], "presets.0: must be")],
)
def test_presets_are_named_once_and_known(
    spec_tree: Tree, load: Callable[[], Any], presets: list[str], said: str
) -> None:
    spec_tree["presets"] = presets
    assert said in refusal(load)


def test_a_gaussian_process_takes_no_conditions_and_says_so(spec_tree: Tree, load: Callable[[], Any]) -> None:
    spec_tree["study"]["sampler"] = "gp"
    spec_tree["sweep"] = False
    load()
    spec_tree["space"]["fusion.variant_weight"] = {**WEIGHT}
    said = refusal(load)
    assert said.startswith(
        "study.sampler: gp models no hyperparameter with a condition (space.fusion.variant_weight ha"
    )
    del spec_tree["space"]["fusion.kind"]  # now the config decides the condition
    load()


def test_a_grid_takes_steps_and_no_conditions(spec_tree: Tree, load: Callable[[], Any]) -> None:
    spec_tree["study"]["sampler"] = "grid"
    assert "space.mask.sparsity is continuous: give it a step" in refusal(load)
    spec_tree["space"] = {
        "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.1},
        "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
        "mask.steps": {"type": "fixed", "value": 5},
    }
    load()
    spec_tree["space"]["mask.steps"]["when"] = {"fusion.kind": "branch"}
    assert "a grid has no conditions (space.mask.steps hangs on fusion.kind)" in refusal(load)
    spec_tree["space"] = {
        "backbone.loss.all_pairs_weight": {"type": "float", "low": 1, "high": 9, "step": 1e-5}
    }
    assert f"the grid has 800001 points; it may have {MAX_GRID} at most" in refusal(load)


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        (
            [{"metric": "iid/ndcg_at_7", "min": 0.1}],
            "constraints.0.metric: its K must be one of config.evalu",
        ),
        ([{"metric": "ood_far/ndcg_at_20", "min": 0.1}], "constraints.0.metric: the split has no such part"),
        (
            [{"metric": "time", "max": 5}, {"metric": "time", "max": 6}],
            "constraints.1: bounds time/max a second",
        ),
        (
            [{"metric": "time", "max": 5}, {"metric": "time", "min": 6}],
            "constraints.1: leaves nothing: time cannot be at least 6.0 and at most 5.0",
        ),
    ],
)
def test_constraints_are_on_what_trials_measure(
    spec_tree: Tree, load: Callable[[], Any], constraints: list[Any], said: str
) -> None:
    spec_tree["constraints"] = constraints
    assert refusal(load).startswith(said)
    spec_tree["constraints"] = [{"metric": "time", "max": 6}, {"metric": "time", "min": 5}]
    load()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("timeout", 0, "study.timeout: must be greater than 0"),
        ("trial_timeout", -1, "study.trial_timeout: must be greater than 0"),
        ("stall", {"trials": 0}, "study.stall.trials: must be greater"),
        ("stall", {"improvement": -0.1}, "study.stall.improvement: must be greater"),
    ],
)
def test_budgets_are_checked(
    spec_tree: Tree, load: Callable[[], Any], key: str, value: Any, said: str
) -> None:
    spec_tree["study"][key] = value
    assert refusal(load).startswith(said)


def test_pruning_is_a_switch_or_settings(spec_tree: Tree, load: Callable[[], Any]) -> None:
    assert load().pruning is False
    del spec_tree["pruning"]
    assert load().pruning is True
    spec_tree["pruning"] = {"eta": 2}
    assert load().pruning.eta == 2
    spec_tree["pruning"] = {"eat": 2}
    assert refusal(load).startswith("pruning.eat: is not a known key; did you mean eta?")
