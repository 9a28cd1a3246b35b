from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from painvrl.run.distributions import Distribution, share_of, value_at

ADAPTER: Any = TypeAdapter(Distribution)
ALMOST_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("given", "shares", "values"),
    [
        ({"type": "float", "low": -1, "high": 3}, [0, 0.25, 0.5], [-1, 0, 1]),
        ({"type": "float", "low": 0.01, "high": 100, "log": True}, [0, 0.25, 0.5], [0.01, 0.1, 1]),
        ({"type": "float", "low": 0, "high": 0.9, "step": 0.3}, [0, 0.24, 0.26, 0.76], [0, 0, 0.3, 0.9]),
        ({"type": "int", "low": 2, "high": 5}, [0, 0.24, 0.26, 0.99], [2, 2, 3, 5]),
        ({"type": "int", "low": 2, "high": 8, "step": 3}, [0, 0.34, 0.67], [2, 5, 8]),
        ({"type": "int", "low": 1, "high": 8, "log": True}, [0, 0.38, 0.4, 0.99], [1, 1, 2, 8]),
        ({"type": "categorical", "choices": ["a", "b"]}, [0, 0.49, 0.5], ["a", "a", "b"]),
    ],
)
def test_a_share_of_a_distribution_is_a_value(
    given: dict[str, object], shares: list[float], values: list[object]
) -> None:
    hyperparameter = ADAPTER.validate_python(given)
    found = [value_at(hyperparameter, share) for share in shares]
    assert found == pytest.approx(values) if "a" not in found else found == values
    assert all(
        hyperparameter.contains(value_at(hyperparameter, share))
        for share in (0.0, 0.123, 0.5, 0.987, ALMOST_ONE)
    )


@pytest.mark.parametrize(
    "given",
    [
        {"type": "float", "low": -1, "high": 3},
        {"type": "float", "low": 0.01, "high": 100, "log": True},
        {"type": "categorical", "choices": ["a", "b", "c"]},
    ],
)
def test_the_share_of_a_value_is_where_the_value_lies(given: dict[str, object]) -> None:
    hyperparameter = ADAPTER.validate_python(given)
    for share in (0.0, 0.123, 0.5, 0.987):
        value = value_at(hyperparameter, share)
        assert value_at(hyperparameter, share_of(hyperparameter, value)) == (
            value if isinstance(value, str) else pytest.approx(value)
        )


def test_a_value_outside_lies_at_the_nearest_end() -> None:
    hyperparameter = ADAPTER.validate_python({"type": "float", "low": 0.5, "high": 3})
    assert [share_of(hyperparameter, value) for value in (-1.0, 0.5, 3.0, 9.0)] == [0.0, 0.0, 1.0, 1.0]
