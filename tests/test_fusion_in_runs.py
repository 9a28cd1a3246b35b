"""Which features a run's mask leaves to which part of the model, fusion by fusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from painvrl.model.mixing import Sum
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run
from painvrl.run.stages import Stages, train_backbone

if TYPE_CHECKING:
    from painvrl.run.pipeline import RunResult
    from painvrl.run.prepare import Prepared


class Diary:
    """Writes down the stages of a run."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Of no interest."""


def changed(settings: dict[str, Any], **sections: Any) -> TrainConfig:
    merged = dict(settings)
    for key, value in sections.items():
        merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return TrainConfig.model_validate(merged)


@pytest.mark.parametrize(("source", "value"), [("ones", 1.0), ("half", 0.5)])
def test_a_fixed_mask_needs_no_environments(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, source: str, value: float
) -> None:
    diary = Diary()
    result = run(
        changed(tiny_settings, mask={"source": source}, fusion={"kind": "invariant"}),
        tiny_prepared,
        observer=diary,
    )
    assert result.mask.tolist() == [value] * 10
    assert result.environments is None
    assert result.rounds == ()
    assert diary.stages == ["invariant", "evaluate"]


def test_the_given_mask_is_the_planted_truth(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    result = run(changed(tiny_settings, mask={"source": "given"}), tiny_prepared)
    assert result.mask.tolist() == [1.0] * 4 + [0.0] * 6


def test_a_closed_feature_reaches_the_branch_alone(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    features = tiny_prepared.features.clone()
    features[:, 4:] = torch.randn(features[:, 4:].shape, generator=torch.Generator().manual_seed(0))
    other = replace(tiny_prepared, features=features)
    config = changed(tiny_settings, mask={"source": "given"})
    epochs = {"invariant": 5, "variant": 5}
    first, second = (run(config, prepared, epochs=epochs) for prepared in (tiny_prepared, other))
    width = first.parts.base_width
    assert torch.equal(first.parts.items[:, :width], second.parts.items[:, :width])
    assert not torch.equal(first.parts.items[:, width:], second.parts.items[:, width:])


def test_an_open_feature_reaches_the_invariant_model_alone(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    # The branch's item vectors are a linear map of the closed features, whatever its base scores.
    features = tiny_prepared.features
    result = run(changed(tiny_settings, mask={"source": "given"}), tiny_prepared)
    branch = result.parts.items[:, result.parts.base_width :]
    centred, closed = branch - branch.mean(0), features[:, 4:] - features[:, 4:].mean(0)
    fitted = closed @ torch.linalg.lstsq(closed, centred).solution
    torch.testing.assert_close(fitted, centred, atol=1e-4, rtol=0)


def test_a_branch_adds_columns_behind_the_invariant_model(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    invariant = run(changed(tiny_config.model_dump(), fusion={"kind": "invariant"}), tiny_prepared)
    width = invariant.user_vectors.shape[1]
    assert tiny_result.parts.base_width == invariant.parts.base_width == width == 8
    assert tiny_result.user_vectors.shape[1] == width + 4  # the branch has a content part alone
    assert torch.equal(tiny_result.user_vectors[:, :width], invariant.user_vectors)
    assert torch.equal(tiny_result.item_vectors[:, :width], invariant.item_vectors)


def test_a_sum_trains_one_model_on_both_parts(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    diary = Diary()
    config = changed(tiny_settings, mask={"source": "given"}, fusion={"kind": "sum"})
    result = run(config, tiny_prepared, observer=diary)
    assert diary.stages == ["sum", "evaluate"]
    assert result.parts.base_width == result.user_vectors.shape[1] == 8


@pytest.mark.parametrize("kind", ["sum", "scalar"])
def test_a_sum_sees_all_features_whatever_the_mask(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, kind: str
) -> None:
    result = run(changed(tiny_settings, mask={"source": "given"}, fusion={"kind": kind}), tiny_prepared)
    content = result.item_vectors[:, 4:]
    for columns, explains in ((slice(0, 4), False), (slice(4, 10), False), (slice(0, 10), True)):
        features = tiny_prepared.features[:, columns]
        features = features - features.mean(0)
        centred = content - content.mean(0)
        left = centred - features @ torch.linalg.lstsq(features, centred).solution
        assert (float(left.abs().max()) < 1e-4) == explains


@pytest.mark.parametrize("loss", ["gramian", "sampled"])
@pytest.mark.parametrize("kind", ["scalar", "item"])
def test_a_learned_fusion_is_one_training_on_both_parts(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, kind: str, loss: str
) -> None:
    backbone = {"id_dim": 4, "content_dim": 4, "loss": {"kind": loss}}
    config = changed(tiny_settings, mask={"source": "given"}, fusion={"kind": kind}, backbone=backbone)
    diary = Diary()
    result = run(config, tiny_prepared, observer=diary)
    assert diary.stages == [kind, "evaluate"]
    assert set(result.epochs) == {kind}
    assert result.parts.base_width == result.user_vectors.shape[1] == 8
    again = run(config, tiny_prepared, epochs=result.epochs)
    assert torch.equal(again.item_vectors, result.item_vectors)
    stages = Stages(config=config, prepared=tiny_prepared)
    both = torch.cat([result.mask, 1 - result.mask])
    (learner,) = config.fusion.learners()
    for mixing, same in ((Sum, False), (learner.mixing, True)):
        model = train_backbone(stages, kind, both, mixing=mixing)
        assert torch.equal(model.item_vectors(), result.item_vectors) is same
