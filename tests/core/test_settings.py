from __future__ import annotations

import inspect
from typing import Any

import pytest
from pydantic import ValidationError

from painvrl.core.settings import Settings, field_docs
from painvrl.run.config import TrainConfig


class Example(Settings):
    rate: float = 0.5
    count: int = 3


class Described(Settings):
    """Settings with descriptions."""

    rate: float = 0.5
    """How fast,
    in ``1 / s``."""
    part: Example = Example()
    """The example."""
    silent: int = 0


class Inherited(Described):
    rate: float = 0.1
    silent: int = 0
    """Said at last."""
    part: Example = Example(count=2)
    """Another example."""


def descriptions(settings: type[Settings]) -> dict[str, str | None]:
    return {key: one.get("description") for key, one in settings.model_json_schema()["properties"].items()}


def test_the_docstring_below_a_field_describes_its_key() -> None:
    assert descriptions(Described) == {
        "rate": "How fast, in ``1 / s``.",
        "part": "The example.",
        "silent": None,
    }


def test_a_field_has_the_description_of_the_base_until_it_has_its_own() -> None:
    assert descriptions(Inherited) == {
        "rate": "How fast, in ``1 / s``.",
        "part": "Another example.",
        "silent": "Said at last.",
    }


def test_settings_without_a_source_have_no_descriptions() -> None:
    space: dict[str, Any] = {"Settings": Settings, "__name__": "frozen_module"}
    exec('class Frozen(Settings):\n    rate: float = 0.5\n    """How fast."""\n', space)
    assert descriptions(space["Frozen"]) == {"rate": None}
    assert space["Frozen"](rate=0.25).rate == 0.25


def test_no_source_is_read_until_a_schema_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(inspect, "getsource", read.append)
    monkeypatch.setattr(inspect, "findsource", read.append)

    class Fresh(Settings):
        rate: float = 0.5
        """How fast."""

    assert Fresh.model_validate({"rate": 0.25}).model_dump() == {"rate": 0.25}
    assert read == []
    monkeypatch.undo()
    assert field_docs(Fresh) == {"rate": "How fast."}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Example().rate = 0.1  # type: ignore[misc]


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Example.model_validate({"rat": 0.1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_must_be_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Example(rate=value)


def test_a_wrong_default_is_found_when_it_is_used() -> None:
    class Wrong(Settings):
        count: int = "many"  # type: ignore[assignment]

    with pytest.raises(ValidationError, match="integer"):
        Wrong()


def test_equal_settings_are_equal_and_hash_alike() -> None:
    assert Example(rate=0.25) == Example(rate=0.25)
    assert hash(Example(rate=0.25)) == hash(Example(rate=0.25))
    assert Example(rate=0.25) != Example(rate=0.26)


def test_a_fingerprint_depends_on_every_setting_and_on_nothing_else(tiny_settings: dict[str, object]) -> None:
    config = TrainConfig.model_validate(tiny_settings)
    again = TrainConfig.model_validate(dict(reversed(tiny_settings.items())))
    assert config.fingerprint() == again.fingerprint()
    changed = [
        TrainConfig.model_validate(tiny_settings | {"seed": 1}),
        TrainConfig.model_validate(tiny_settings | {"rounds": 2}),
        TrainConfig.model_validate(tiny_settings | {"mask": {"steps": 5, "sparsity": 0.51}}),
        TrainConfig.model_validate(tiny_settings | {"data": {"kind": "planted"}}),
    ]
    assert len({config.fingerprint(), *(other.fingerprint() for other in changed)}) == 5


def test_a_default_that_is_written_out_does_not_change_the_fingerprint(
    tiny_settings: dict[str, object],
) -> None:
    assert (
        TrainConfig.model_validate(tiny_settings).fingerprint()
        == TrainConfig.model_validate(tiny_settings | {"seed": 0}).fingerprint()
    )
