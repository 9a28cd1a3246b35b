from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError
from painvrl.study.space import Categorical, FloatRange, IntRange, Space, apply, knobs
from painvrl.yamlfile import validated


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
    knob = space(knob=distribution).root["knob"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        assert knob.contains(knob.suggest(study.ask(), "knob"))  # type: ignore[arg-type]
    assert all(knob.contains(value) for _, value in knob.probes())


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
    knob = space(knob={"type": "float", "low": 1e-4, "high": 1.0, "log": True}).root["knob"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [float(knob.suggest(study.ask(), "knob")) for _ in range(200)]  # type: ignore[arg-type]
    assert 0.35 < sum(value < 1e-2 for value in values) / 200 < 0.65


def test_a_point_turns_its_knobs_and_nothing_else(tiny_config: TrainConfig) -> None:
    turned = apply(tiny_config, {"mask.sparsity": 0.25, "backbone.loss.all_pairs_weight": 0.5, "rounds": 3})
    assert (turned.mask.sparsity, turned.rounds) == (0.25, 3)
    assert turned.backbone.loss.all_pairs_weight == 0.5  # type: ignore[union-attr]
    back = {
        path: knobs(tiny_config)[path]
        for path in ("mask.sparsity", "backbone.loss.all_pairs_weight", "rounds")
    }
    assert apply(turned, back) == tiny_config
    assert apply(tiny_config, {}) == tiny_config


@given(st.floats(0.0, 0.99), st.floats(1e-6, 1e6))
@settings(max_examples=30, deadline=None)
def test_a_point_survives_to_the_last_bit(tiny_config: TrainConfig, sparsity: float, weight: float) -> None:
    turned = apply(tiny_config, {"mask.sparsity": sparsity, "mask.irm_weight": weight})
    assert (turned.mask.sparsity, turned.mask.irm_weight) == (sparsity, weight)


def test_knobs_are_the_scalars_that_trials_may_differ_in(tiny_config: TrainConfig) -> None:
    known = knobs(tiny_config)
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
