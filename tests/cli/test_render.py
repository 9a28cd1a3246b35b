"""How values look in tables and in JSON."""

from __future__ import annotations

import json

import pytest

from painvrl.cli import render


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345678, "0.1235"),
        (0.0, "0.0000"),
        (0.00012345, "0.000123"),
        (940.4321, "940"),
        (-0.5, "-0.5000"),
        (3, "3"),
        (True, "True"),
        ("branch", "branch"),
    ],
)
def test_numbers_are_short_and_keep_their_size(value: object, shown: str) -> None:
    assert render.number(value) == shown


def test_json_is_read_back_equal(capsys: pytest.CaptureFixture[str]) -> None:
    render.json({"title": "Amélie", "score": 0.1})
    assert json.loads(capsys.readouterr().out) == {"title": "Amélie", "score": 0.1}


def test_json_never_holds_a_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        render.json({"score": float("nan")})
