from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from pydantic import Field

from painvrl.baselines.port import Baseline
from painvrl.baselines.registry import BASELINES
from painvrl.baselines.search import RandomSuggester, settings_to_try
from painvrl.core.settings import Settings
from painvrl.run.distributions import Categorical, FloatRange, IntRange


class Knobs(Settings):
    count: int = Field(default=7, ge=1)
    rate: float = 0.5
    kind: str = "a"


def baseline(**space: Any) -> Baseline[Knobs]:
    return Baseline(
        name="some",
        summary="",
        settings=Knobs,
        space=space,
        start=lambda inputs: pytest.fail("not asked for"),
    )


MIXED = baseline(
    count=IntRange(type="int", low=2, high=50, log=True),
    rate=FloatRange(type="float", low=0.01, high=10.0, log=True),
    kind=Categorical(type="categorical", choices=("a", "b")),
)
CHOICES = baseline(
    count=Categorical(type="categorical", choices=(7, 8, 9)),
    kind=Categorical(type="categorical", choices=("a", "b")),
)


def test_the_defaults_are_the_first_trial() -> None:
    assert settings_to_try(MIXED, 1, 0) == (Knobs(),)
    assert settings_to_try(CHOICES, 4, 0)[0] == Knobs()


def test_all_settings_lie_in_the_space_and_differ() -> None:
    tried = settings_to_try(MIXED, 30, 0)
    assert len(set(tried)) == 30
    for one in tried[1:]:
        for name, distribution in MIXED.space.items():
            assert distribution.contains(getattr(one, name))


def test_the_seed_decides_and_more_trials_begin_with_the_same_ones() -> None:
    for one in (MIXED, CHOICES):
        assert settings_to_try(one, 5, 3) == settings_to_try(one, 6, 3)[:5]
        assert settings_to_try(one, 5, 3) != settings_to_try(one, 5, 4)


def test_two_baselines_share_no_draws() -> None:
    other = replace(MIXED, name="other")
    assert not set(settings_to_try(MIXED, 5, 3)[1:]) & set(settings_to_try(other, 5, 3)[1:])


def test_choices_alone_are_gone_through_once_each() -> None:
    tried = settings_to_try(CHOICES, 100, 0)
    assert len(tried) == 6
    assert {(one.count, one.kind) for one in tried} == {(c, k) for c in (7, 8, 9) for k in ("a", "b")}
    assert all(one.rate == 0.5 for one in tried)


def test_nothing_to_set_is_one_trial() -> None:
    assert settings_to_try(baseline(), 20, 0) == (Knobs(),)


def test_a_range_in_the_logarithm_is_drawn_uniformly_in_it() -> None:
    suggester = RandomSuggester(random.Random(0))
    floats = [suggester.suggest_float("x", 0.01, 100.0, log=True) for _ in range(4000)]
    assert sum(value < 1 for value in floats) / 4000 == pytest.approx(0.5, abs=0.03)
    ints = [suggester.suggest_int("x", 1, 64, log=True) for _ in range(4000)]
    below = math.log(8.5 / 0.5) / math.log(64.5 / 0.5)
    assert sum(value <= 8 for value in ints) / 4000 == pytest.approx(below, abs=0.03)
    assert (min(ints), max(ints)) == (1, 64)


def test_other_ranges_are_drawn_uniformly() -> None:
    suggester = RandomSuggester(random.Random(0))
    assert {suggester.suggest_int("x", 2, 8, step=3) for _ in range(50)} == {2, 5, 8}
    assert {suggester.suggest_float("x", 1.0, 2.0, step=0.5) for _ in range(50)} == {1.0, 1.5, 2.0}
    floats = [suggester.suggest_float("x", -2.0, 2.0) for _ in range(2000)]
    assert sum(value < 1 for value in floats) / 2000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("one", BASELINES.entries().values(), ids=lambda one: one.name)
def test_every_baseline_can_be_set_to_all_of_its_space(one: Baseline[Any]) -> None:
    assert set(one.space) <= set(one.settings.model_fields)
    for name, distribution in one.space.items():
        assert distribution.contains(getattr(one.settings(), name)), "the defaults are not in the space"
        for end, value in distribution.probes():
            if end in {"low", "high", "choices"}:
                one.settings.model_validate({name: value})
