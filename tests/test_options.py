"""Every option of the method is one search-space choice away, and trains from pipeline to metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import pytest

from painvrl.config import TrainConfig
from painvrl.invariance.environments import EnvironmentConfig
from painvrl.invariance.mask import MaskConfig
from painvrl.model.fusion import FusionConfig
from painvrl.pipeline import run
from painvrl.study.file.space import apply
from painvrl.study.file.spec import StudySpec, check_spec
from painvrl.yamlfile import validated

if TYPE_CHECKING:
    from painvrl.prepare import Prepared

OPTIONS = {
    f"{section}.{name}": get_args(owner.model_fields[name].annotation)
    for section, owner, names in (
        ("environments", EnvironmentConfig, ("assignment", "sees")),
        ("mask", MaskConfig, ("penalty", "balancer", "contrasts", "source")),
        ("fusion", FusionConfig, ("kind",)),
    )
    for name in names
}
CHOICES = [(path, choice) for path, choices in OPTIONS.items() for choice in choices]


def needs_the_extra(choice: str) -> None:
    if choice == "upgrad":
        pytest.importorskip("torchjd")


@pytest.mark.parametrize("path", OPTIONS)
def test_all_choices_of_an_option_are_a_search_space(tiny_config: TrainConfig, path: str) -> None:
    for choice in OPTIONS[path]:
        needs_the_extra(choice)
    assert len(OPTIONS[path]) > 1
    spec = {
        "study": {"name": "options", "trials": 3},
        "objectives": ["iid/ndcg_at_20"],
        "config": tiny_config.model_dump(mode="json"),
        "space": {path: {"type": "categorical", "choices": list(OPTIONS[path])}},
    }
    check_spec(validated(StudySpec, spec))


@pytest.mark.parametrize(("path", "choice"), CHOICES)
def test_every_choice_trains_from_pretraining_to_metrics(
    tiny_config: TrainConfig, tiny_prepared: Prepared, path: str, choice: str
) -> None:
    needs_the_extra(choice)
    config = apply(tiny_config, {path: choice, "environments.hard_em.max_rounds": 3, "rounds": 2})
    result = run(config, tiny_prepared)
    assert result.config == config
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert max(result.metrics.values()) > 0
    if path.startswith("environments"):
        assert len(result.rounds) == 2
        assert sum(result.rounds[-1].environment_sizes) == len(tiny_prepared.train)
