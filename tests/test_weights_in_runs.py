"""The weights of the variant part and of popularity, in a run and after it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError

from painvrl.core.errors import ConfigError
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import reweighed, run

if TYPE_CHECKING:
    from painvrl.run.pipeline import RunResult
    from painvrl.run.prepare import Prepared


def changed(settings: dict[str, Any], **sections: Any) -> TrainConfig:
    merged = dict(settings)
    for key, value in sections.items():
        merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return TrainConfig.model_validate(merged)


def test_scores_are_linear_in_the_variant_weight(tiny_prepared: Prepared, tiny_result: RunResult) -> None:
    def scores(weight: float) -> torch.Tensor:
        result = reweighed(tiny_result, tiny_prepared, variant_weight=weight)
        return result.user_vectors.double() @ result.item_vectors.double().T

    nothing, everything = scores(0.0), scores(1.0)
    assert float((everything - nothing).abs().max()) > 0.01
    for weight in (0.25, 0.5, 0.9):
        torch.testing.assert_close(
            scores(weight), (1 - weight) * nothing + weight * everything, atol=1e-6, rtol=0
        )


def test_variant_weight_zero_is_the_invariant_model(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    zero = reweighed(tiny_result, tiny_prepared, variant_weight=0.0)
    invariant = run(changed(tiny_config.model_dump(), fusion={"kind": "invariant"}), tiny_prepared)
    torch.testing.assert_close(
        zero.user_vectors @ zero.item_vectors.T, invariant.user_vectors @ invariant.item_vectors.T
    )
    assert zero.metrics == pytest.approx(invariant.metrics, abs=1e-9)
    untrained = run(changed(tiny_config.model_dump(), fusion={"variant_weight": 0.0}), tiny_prepared)
    assert untrained.metrics == invariant.metrics
    assert "variant" not in untrained.epochs


def test_weighing_anew_equals_training_with_that_weight(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    anew = reweighed(tiny_result, tiny_prepared, variant_weight=0.8)
    trained = run(changed(tiny_config.model_dump(), fusion={"variant_weight": 0.8}), tiny_prepared)
    torch.testing.assert_close(anew.item_vectors, trained.item_vectors)
    assert anew.metrics == pytest.approx(trained.metrics, abs=1e-9)
    assert anew.config == trained.config


@pytest.mark.parametrize("fusion", [{"variant_weight": 0.7}, {"kind": "invariant"}, {"kind": "sum"}])
def test_the_weight_of_popularity_adds_its_logarithm_to_every_score(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, fusion: dict[str, Any]
) -> None:
    settings = {"mask": {"source": "half"}}
    without = run(changed(tiny_settings, **settings, fusion=fusion), tiny_prepared)
    result = run(
        changed(tiny_settings, **settings, fusion={**fusion, "popularity_weight": -0.3}), tiny_prepared
    )
    degree = torch.bincount(tiny_prepared.train.item, minlength=tiny_prepared.train.n_items)
    expected = without.user_vectors @ without.item_vectors.T - 0.3 * torch.log(1 + degree.float())
    torch.testing.assert_close(result.user_vectors @ result.item_vectors.T, expected, rtol=1e-5, atol=1e-5)
    assert result.epochs == without.epochs, "nothing is trained by it"
    assert result.metrics != without.metrics


WEIGHTS = [
    {"variant_weight": 0.0},
    {"variant_weight": 0.2, "popularity_weight": 0.2},
    {"id_weight": 0.0, "cold_weight": 3.0},
    {"id_weight": 2.5, "variant_weight": 1.0, "popularity_weight": -0.05, "cold_weight": 0.1},
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_other_weights_are_those_of_a_training_with_them_to_the_last_digit(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, weights: dict[str, float]
) -> None:
    def trained(fusion: dict[str, float]) -> RunResult:
        return run(changed(tiny_settings, fusion=fusion), tiny_prepared)

    start = {"variant_weight": 0.7, "popularity_weight": -0.3}
    anew, expected = reweighed(trained(start), tiny_prepared, **weights), trained({**start, **weights})
    assert anew.config == expected.config
    assert torch.equal(anew.user_vectors, expected.user_vectors)
    assert torch.equal(anew.item_vectors, expected.item_vectors)
    assert anew.metrics == expected.metrics


def test_a_branch_may_be_trained_for_weights_to_come(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    nothing = changed(tiny_settings, fusion={"variant_weight": 0.0})
    ready = run(nothing, tiny_prepared, branch=True)
    assert ready.metrics == run(nothing, tiny_prepared).metrics
    expected = run(changed(tiny_settings, fusion={"variant_weight": 0.6}), tiny_prepared)
    assert reweighed(ready, tiny_prepared, variant_weight=0.6).metrics == expected.metrics


def test_only_a_trained_branch_can_be_weighed_anew(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    for fusion in ({"kind": "invariant"}, {"variant_weight": 0.0}, {"kind": "sum"}):
        result = run(changed(tiny_config.model_dump(), fusion=fusion, mask={"source": "half"}), tiny_prepared)
        with pytest.raises(ConfigError, match=r"fusion\.variant_weight"):
            reweighed(result, tiny_prepared, variant_weight=0.5)


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan])
def test_a_weight_that_no_configuration_can_hold_is_refused(
    tiny_prepared: Prepared, tiny_result: RunResult, weight: float
) -> None:
    with pytest.raises((ValidationError, ConfigError), match="variant_weight"):
        reweighed(tiny_result, tiny_prepared, variant_weight=weight)
