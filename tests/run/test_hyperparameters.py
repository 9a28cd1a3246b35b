from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from painvrl.model.losses import SampledLoss
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import all_hyperparameters, apply, hyperparameters, leaves
from painvrl.run.presets import PRESETS


@pytest.fixture
def sampled(tiny_settings: dict[str, Any]) -> TrainConfig:
    tiny_settings["backbone"]["loss"] = {"kind": "sampled", "negatives": 30}
    return TrainConfig.model_validate(tiny_settings)


def test_all_hyperparameters_are_those_of_every_variant(
    tiny_config: TrainConfig, sampled: TrainConfig
) -> None:
    variants = [hyperparameters(apply(tiny_config, {"backbone.loss.kind": "softmax"}))]
    for risks in ("mean", "vrex", "group_dro"):
        settings = tiny_config.model_dump(mode="json")
        settings["backbone"]["risks"] = {"kind": risks}
        settings["environments"] |= {"assignment": "column", "column": {"column": "popularity", "bins": 2}}
        variants.append(hyperparameters(TrainConfig.model_validate(settings)))
    assert {*hyperparameters(tiny_config), *hyperparameters(sampled)}.union(*variants) == set(
        all_hyperparameters()
    )
    assert len(all_hyperparameters()) == len(set(all_hyperparameters()))
    assert set(hyperparameters(tiny_config)) < set(all_hyperparameters())


def test_another_variant_begins_with_its_own_defaults(tiny_config: TrainConfig, sampled: TrainConfig) -> None:
    turned = apply(tiny_config, {"backbone.loss.kind": "sampled"})
    assert turned.backbone.loss == SampledLoss()
    for point in (
        {"backbone.loss.kind": "sampled", "backbone.loss.negatives": 7},
        {"backbone.loss.negatives": 7, "backbone.loss.kind": "sampled"},
    ):
        assert apply(tiny_config, point).backbone.loss == SampledLoss(negatives=7)
    assert turned.model_copy(update={"backbone": tiny_config.backbone}) == tiny_config


def test_the_variant_that_the_base_has_keeps_its_settings(sampled: TrainConfig) -> None:
    assert apply(sampled, {"backbone.loss.kind": "sampled"}) == sampled


def test_a_hyperparameter_of_a_variant_that_is_not_chosen_is_refused(tiny_config: TrainConfig) -> None:
    with pytest.raises(ValidationError):
        apply(tiny_config, {"backbone.loss.negatives": 7})


def test_a_word_that_chooses_no_variant_leaves_its_section_alone(tiny_config: TrainConfig) -> None:
    turned = apply(tiny_config, {"fusion.kind": "invariant", "mask.sparsity": 0.25})
    assert turned.fusion.variant_weight == tiny_config.fusion.variant_weight
    for preset in PRESETS.values():
        assert apply(tiny_config, preset).mask.steps == tiny_config.mask.steps


def test_leaves_are_the_hyperparameters_and_what_all_trials_share(tiny_config: TrainConfig) -> None:
    everything = leaves(tiny_config)
    assert {path: everything[path] for path in hyperparameters(tiny_config)} == hyperparameters(tiny_config)
    assert everything["data.kind"] == "planted"
    assert everything["seed"] == 0
