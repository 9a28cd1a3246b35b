from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import validated
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Categorical, FloatRange, IntRange
from painvrl.run.hyperparameters import apply, hyperparameters
from painvrl.study.file.space import Space


def space(**distributions: dict[str, object]) -> Space:
    return Space.model_validate({name.replace("__", "."): value for name, value in distributions.items()})


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        ({"type": "int", "low": 3, "high": 2}, "low must be below high; found low 3 and high 2"),
        ({"type": "float", "low": 1.0, "high": 1.0}, "low must be below high"),
        ({"type": "float", "low": 0.0, "high": 1.0, "log": True}, "a log range must start above 0"),
        ({"type": "int", "low": 0, "high": 8, "log": True}, "a log range must start above 0"),
        ({"type": "int", "low": 1, "high": 8, "log": True, "step": 2}, "a log range has no step"),
        ({"type": "int", "low": 1, "high": 8, "step": 2}, "whole number of steps of 2"),
        ({"type": "float", "low": 0.0, "high": 1.0, "step": 0.3}, "whole number of steps of 0.3"),
        ({"type": "float", "low": 0.0, "high": 1.0, "step": 0.0}, "greater than 0"),
        ({"type": "categorical", "choices": ["a"]}, "at least 2"),
        ({"type": "categorical", "choices": ["a", "b", "a"]}, "must differ"),
        ({"type": "categorical", "choices": [1, True]}, "must differ"),
        ({"type": "uniform", "low": 0, "high": 1}, "is not a known choice"),
        ({"low": 0, "high": 1}, "is missing"),
        ({"type": "float", "low": 0, "high": 1, "setp": 0.1}, "did you mean step?"),
        ({"type": "float", "low": 0, "high": float("inf")}, "finite"),
    ],
)
def test_a_distribution_that_makes_no_sense_is_refused(distribution: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(Space, {"mask.sparsity": distribution}, prefix="space")
    assert words in str(caught.value)
    assert str(caught.value).startswith("space.mask.sparsity")


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        validated(Space, {})


def test_steps_are_counted_in_decimals() -> None:
    steps = FloatRange(type="float", low=0.0, high=0.9, step=0.3)
    assert [value for value in (0.0, 0.1, 0.3, 0.6, 0.9, 1.2) if steps.contains(value)] == [
        0.0,
        0.3,
        0.6,
        0.9,
    ]


DISTRIBUTIONS = [
    {"type": "int", "low": 2, "high": 8},
    {"type": "int", "low": 2, "high": 8, "step": 3},
    {"type": "int", "low": 1, "high": 1000, "log": True},
    {"type": "float", "low": -1.0, "high": 1.0},
    {"type": "float", "low": 0.1, "high": 0.7, "step": 0.2},
    {"type": "float", "low": 1e-5, "high": 10.0, "log": True},
    {"type": "categorical", "choices": ["branch", None, 3, 0.5, False]},
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_suggestion_is_contained_and_so_is_every_probe(distribution: dict[str, object]) -> None:
    hyperparameter = space(hyperparameter=distribution).root["hyperparameter"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        assert hyperparameter.contains(hyperparameter.suggest(study.ask(), "hyperparameter"))  # type: ignore[arg-type]
    assert all(hyperparameter.contains(value) for _, value in hyperparameter.probes())


def test_what_lies_outside_is_not_contained() -> None:
    whole = IntRange(type="int", low=2, high=8, step=3)
    assert [value for value in (1, 2, 3, 5, 8, 11, 5.0, True, "5", None) if whole.contains(value)] == [
        2,
        5,
        8,
    ]  # type: ignore[arg-type]
    real = FloatRange(type="float", low=0.0, high=1.0)
    assert [value for value in (-0.1, 0, 0.5, 1.1, True, "0", None) if real.contains(value)] == [0, 0.5]  # type: ignore[arg-type]
    words = Categorical(type="categorical", choices=("a", "b"))
    assert [value for value in ("a", "c", None) if words.contains(value)] == ["a"]


def test_a_log_range_is_suggested_in_its_logarithm() -> None:
    hyperparameter = space(hyperparameter={"type": "float", "low": 1e-4, "high": 1.0, "log": True}).root[
        "hyperparameter"
    ]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [float(hyperparameter.suggest(study.ask(), "hyperparameter")) for _ in range(200)]  # type: ignore[arg-type]
    assert 0.35 < sum(value < 1e-2 for value in values) / 200 < 0.65


def test_a_point_turns_its_hyperparameters_and_nothing_else(tiny_config: TrainConfig) -> None:
    turned = apply(tiny_config, {"mask.sparsity": 0.25, "backbone.loss.all_pairs_weight": 0.5, "rounds": 3})
    assert (turned.mask.sparsity, turned.rounds) == (0.25, 3)
    assert turned.backbone.loss.all_pairs_weight == 0.5  # type: ignore[union-attr]
    back = {
        path: hyperparameters(tiny_config)[path]
        for path in ("mask.sparsity", "backbone.loss.all_pairs_weight", "rounds")
    }
    assert apply(turned, back) == tiny_config
    assert apply(tiny_config, {}) == tiny_config


@given(st.floats(0.0, 0.99), st.floats(1e-6, 1e6))
@settings(max_examples=30, deadline=None)
def test_a_point_survives_to_the_last_bit(tiny_config: TrainConfig, sparsity: float, weight: float) -> None:
    turned = apply(tiny_config, {"mask.sparsity": sparsity, "mask.irm_weight": weight})
    assert (turned.mask.sparsity, turned.mask.irm_weight) == (sparsity, weight)


def test_hyperparameters_are_the_scalars_that_trials_may_differ_in(tiny_config: TrainConfig) -> None:
    known = hyperparameters(tiny_config)
    for path in ("backbone.id_dropout", "backbone.loss.all_pairs_weight", "mask.irm_weight", "rounds"):
        assert path in known
    assert not [path for path in known if path.split(".")[0] in {"data", "split", "evaluation", "seed"}]
    assert known["environments.count"] == tiny_config.environments.count


def test_the_base_configurations_own_point_leaves_out_what_lies_outside(tiny_config: TrainConfig) -> None:
    config = apply(tiny_config, {"mask.sparsity": 0.5, "environments.count": 2})
    searched: Any = space(
        mask__sparsity={"type": "float", "low": 0.0, "high": 0.9},
        environments__count={"type": "int", "low": 3, "high": 8},
    )
    assert searched.point_of(config) == {"mask.sparsity": 0.5}


LOSS: dict[str, Any] = {
    "backbone.loss.negatives": {
        "type": "int",
        "low": 8,
        "high": 64,
        "when": {"backbone.loss.kind": "sampled"},
    },
    "backbone.loss.kind": {"type": "categorical", "choices": ["gramian", "sampled"]},
    "fusion.variant_weight": {"type": "float", "low": 0.1, "high": 1.0, "when": {"fusion.kind": "branch"}},
    "rounds": {"type": "int", "low": 1, "high": 3},
}


def asked(searched: Space, base: TrainConfig, trials: int = 40) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [searched.suggest(study.ask(), base) for _ in range(trials)]  # type: ignore[arg-type]


def test_a_conditional_hyperparameter_is_suggested_if_and_only_if_its_condition_holds(
    tiny_config: TrainConfig,
) -> None:
    points = asked(Space.model_validate(LOSS), tiny_config)
    kinds = {point["backbone.loss.kind"] for point in points}
    assert kinds == {"gramian", "sampled"}
    for point in points:
        assert ("backbone.loss.negatives" in point) is (point["backbone.loss.kind"] == "sampled")
        assert "fusion.variant_weight" in point, "the base has branch, and no one turns it"
        assert apply(tiny_config, point).backbone.loss.kind == point["backbone.loss.kind"]


def test_a_condition_on_a_key_of_the_config_is_decided_by_it(tiny_config: TrainConfig) -> None:
    searched = Space.model_validate(LOSS)
    other = apply(tiny_config, {"fusion.kind": "invariant"})
    assert not [point for point in asked(searched, other) if "fusion.variant_weight" in point]
    assert "fusion.variant_weight" in searched.searched(tiny_config)
    assert "fusion.variant_weight" not in searched.searched(other)
    planted = space(rounds={"type": "int", "low": 1, "high": 3, "when": {"data.kind": "planted"}})
    assert planted.searched(tiny_config) == ("rounds",)


def test_conditions_form_chains_and_an_inactive_hyperparameter_keeps_the_bases_value(
    tiny_config: TrainConfig,
) -> None:
    base = apply(tiny_config, {"mask.balancer": "fixed", "fusion.kind": "branch"})
    searched = Space.model_validate(
        {
            "mask.irm_weight": {"type": "float", "low": 1, "high": 9, "when": {"mask.balancer": "fixed"}},
            "mask.balancer": {
                "type": "categorical",
                "choices": ["mgda", "fixed"],
                "when": {"fusion.kind": ["branch", "sum"]},
            },
            "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
        }
    )
    assert searched.order() == ("fusion.kind", "mask.balancer", "mask.irm_weight")
    seen = set()
    for point in asked(searched, base):
        balancer = point.get("mask.balancer", "fixed")  # the base's, where it is not searched
        assert ("mask.balancer" in point) is (point["fusion.kind"] == "branch")
        assert ("mask.irm_weight" in point) is (balancer == "fixed")
        seen.add((point["fusion.kind"], balancer))
    assert seen == {("branch", "mgda"), ("branch", "fixed"), ("invariant", "fixed")}


def test_hyperparameters_without_conditions_are_suggested_as_they_stand_in_the_file() -> None:
    names = ["rounds", "mask.sparsity", "backbone.l2", "environments.count"]
    plain = Space.model_validate({name: {"type": "float", "low": 0, "high": 1} for name in names})
    assert plain.order() == tuple(names)


@pytest.mark.parametrize(
    ("whens", "circle"),
    [
        ({"a": {"a": 1}}, "a -> a"),
        ({"a": {"b": 1}, "b": {"c": 1}, "c": {"a": 1}}, "a -> b -> c -> a"),
        ({"x": {"a": 1}, "a": {"b": 1}, "b": {"a": 1}}, "a -> b -> a"),
    ],
)
def test_conditions_that_wait_for_each_other_are_refused(
    whens: dict[str, dict[str, int]], circle: str
) -> None:
    tree = {name: {"type": "int", "low": 1, "high": 3, "when": when} for name, when in whens.items()}
    with pytest.raises(ConfigError) as caught:
        validated(Space, tree)
    assert f"must not wait for each other (found {circle})" in str(caught.value)


def test_the_bases_own_point_leaves_out_what_is_not_searched_there(tiny_config: TrainConfig) -> None:
    searched = Space.model_validate(LOSS)
    base = apply(tiny_config, {"rounds": 1})
    assert set(searched.point_of(base)) == {"backbone.loss.kind", "fusion.variant_weight", "rounds"}
    sampled = apply(base, {"backbone.loss.kind": "sampled", "backbone.loss.negatives": 9})
    assert searched.point_of(sampled)["backbone.loss.negatives"] == 9


def test_a_hyperparameter_that_hangs_on_one_to_be_sampled_is_sampled_too(tiny_config: TrainConfig) -> None:
    searched = Space.model_validate(
        {
            "mask.balancer": {"type": "categorical", "choices": ["erm", "fixed"]},
            "mask.irm_weight": {"type": "float", "low": 1, "high": 9, "when": {"mask.balancer": "fixed"}},
        }
    )
    base = apply(tiny_config, {"mask.balancer": "mgda", "mask.irm_weight": 2.0})
    assert searched.point_of(base) == {}


def test_log_and_step_survive_a_condition(tiny_config: TrainConfig) -> None:
    searched = Space.model_validate(
        {
            "backbone.l2": {"type": "float", "low": 1e-4, "high": 1, "log": True, "when": {"rounds": 1}},
            "mask.sparsity": {"type": "float", "low": 0, "high": 0.9, "step": 0.3, "when": {"rounds": 1}},
            "environments.count": {"type": "int", "low": 2, "high": 8, "step": 3, "when": {"rounds": 1}},
        }
    )
    points = asked(searched, apply(tiny_config, {"rounds": 1}), 200)
    assert 0.35 < sum(point["backbone.l2"] < 1e-2 for point in points) / 200 < 0.65
    assert {round(point["mask.sparsity"], 9) for point in points} == {0.0, 0.3, 0.6, 0.9}
    assert {point["environments.count"] for point in points} == {2, 5, 8}


def test_the_size_counts_points_and_not_products(tiny_config: TrainConfig) -> None:
    loss = Space.model_validate(
        {path: hyperparameter for path, hyperparameter in LOSS.items() if "weight" not in path}
    )
    # gramian: 3 rounds; sampled: 57 negatives x 3 rounds
    assert loss.size(tiny_config) == 3 + 57 * 3
    assert Space.model_validate(LOSS).size(tiny_config) == float("inf")
    # The continuous hyperparameter is never searched over such a base.
    assert Space.model_validate(LOSS).size(apply(tiny_config, {"fusion.kind": "sum"})) == 3 + 57 * 3
    plain = space(rounds={"type": "int", "low": 1, "high": 3}, mask__sparsity={"type": "fixed", "value": 0.5})
    assert plain.size(tiny_config) == 3


def test_the_contexts_of_a_hyperparameter_are_the_ways_to_search_it(tiny_config: TrainConfig) -> None:
    tree = {
        "a": {"type": "categorical", "choices": ["x", "y"]},
        "b": {"type": "categorical", "choices": [1, 2], "when": {"a": "x"}},
        "c": {"type": "fixed", "value": 0, "when": {"b": [1, 2], "rounds": 1}},
        "d": {"type": "fixed", "value": 0, "when": {"b": 1, "a": "y"}},
    }
    made = Space.model_validate(tree)
    assert list(made.contexts("a")) == [{}]
    assert list(made.contexts("c")) == [{"b": 1, "a": "x"}, {"b": 2, "a": "x"}]
    assert list(made.contexts("d")) == []


def test_fixed_hyperparameters_are_those_that_hang_on_no_other_hyperparameter(
    tiny_config: TrainConfig,
) -> None:
    made = Space.model_validate(
        {
            "rounds": {"type": "int", "low": 1, "high": 3},
            "mask.sparsity": {"type": "fixed", "value": 0.25},
            "mask.steps": {"type": "fixed", "value": 9, "when": {"rounds": 2}},
            "mask.sigma": {"type": "fixed", "value": 0.3, "when": {"fusion.kind": "sum"}},
        }
    )
    assert made.fixed(tiny_config) == {"mask.sparsity": 0.25}
    assert made.fixed(apply(tiny_config, {"fusion.kind": "sum"})) == {
        "mask.sparsity": 0.25,
        "mask.sigma": 0.3,
    }
