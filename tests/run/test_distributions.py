from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from pydantic import TypeAdapter

from painvrl.run.distributions import Distribution, Fixed, same

ADAPTER: Any = TypeAdapter(Distribution)

DISCRETE = [
    ({"type": "int", "low": 2, "high": 8}, [2, 3, 4, 5, 6, 7, 8]),
    ({"type": "int", "low": 2, "high": 8, "step": 3}, [2, 5, 8]),
    ({"type": "int", "low": 1, "high": 4, "log": True}, [1, 2, 3, 4]),
    ({"type": "float", "low": 0.0, "high": 0.9, "step": 0.3}, [0.0, 0.3, 0.6, 0.9]),
    ({"type": "categorical", "choices": ["a", None, 3]}, ["a", None, 3]),
    ({"type": "fixed", "value": 0.25}, [0.25]),
]


@pytest.mark.parametrize(("given", "values"), DISCRETE)
def test_the_values_of_a_discrete_hyperparameter_are_all_that_it_contains(
    given: dict[str, object], values: list[object]
) -> None:
    hyperparameter = ADAPTER.validate_python(given)
    listed = list(hyperparameter.values())
    assert listed == pytest.approx(values) if given["type"] == "float" else listed == values
    assert hyperparameter.count() == len(values)
    assert all(hyperparameter.contains(value) for value in listed)
    assert all(hyperparameter.contains(value) for _, value in hyperparameter.probes())


def test_a_continuous_hyperparameter_has_no_end_of_values() -> None:
    hyperparameter = ADAPTER.validate_python({"type": "float", "low": 0.1, "high": 1.0, "log": True})
    assert hyperparameter.count() == math.inf
    assert list(hyperparameter.values()) == []


def test_steps_end_at_the_high_end_in_spite_of_rounding() -> None:
    hyperparameter = ADAPTER.validate_python({"type": "float", "low": 0.1, "high": 0.7, "step": 0.2})
    assert list(hyperparameter.values())[-1] == 0.7  # 0.1 + 3 * 0.2 is above it


@pytest.mark.parametrize("value", [0.25, None, "branch", True])
def test_a_fixed_hyperparameter_is_suggested_as_its_value_by_whatever_sampler(value: Any) -> None:
    hyperparameter = Fixed(type="fixed", value=value)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial: Any = study.ask()
    assert hyperparameter.suggest(trial, "hyperparameter") == value
    assert trial.params == {"hyperparameter": value}
    assert not hyperparameter.contains("other")


def test_truth_is_no_number() -> None:
    assert same(1, 1.0)
    assert not same(1, other=True)
    assert not Fixed(type="fixed", value=1).contains(value=True)


@pytest.mark.parametrize(
    ("when", "conditions"),
    [
        ({"a.b": "x"}, {"a.b": ("x",)}),
        ({"a.b": ["x", None], "c": 3}, {"a.b": ("x", None), "c": (3,)}),
        ({}, {}),
    ],
)
def test_a_condition_is_a_value_or_several(when: dict[str, object], conditions: dict[str, object]) -> None:
    hyperparameter = ADAPTER.validate_python({"type": "fixed", "value": 1, "when": when})
    assert hyperparameter.conditions() == conditions
