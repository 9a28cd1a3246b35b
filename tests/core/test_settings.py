from __future__ import annotations

import pytest
from pydantic import ValidationError

from painvrl.core.settings import Settings
from painvrl.run.config import TrainConfig


class Example(Settings):
    rate: float = 0.5
    count: int = 3


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
