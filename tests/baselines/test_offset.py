from __future__ import annotations

from typing import Any

import pytest
import torch

from painvrl.baselines import offset as module
from painvrl.baselines.offset import OffsetConfig, offset
from painvrl.baselines.port import Inputs
from painvrl.config import TrainConfig
from painvrl.evaluation.ranking import evaluate_scorer
from painvrl.pipeline import RunResult, run
from painvrl.prepare import Prepared


@pytest.fixture
def plain(tiny_settings: dict[str, Any]) -> TrainConfig:
    """The tiny configuration as its plain backbone."""
    return TrainConfig.model_validate(
        tiny_settings | {"mask": {"source": "ones"}, "fusion": {"kind": "invariant"}}
    )


def test_without_an_offset_it_is_the_plain_backbone(
    tiny_config: TrainConfig, tiny_prepared: Prepared, plain: TrainConfig
) -> None:
    scorer = offset(Inputs(tiny_config, tiny_prepared))(OffsetConfig(b=0.0))
    assert evaluate_scorer(tiny_prepared.valid_plan, scorer) == run(plain, tiny_prepared).metrics


def test_the_offset_is_added_to_every_score(
    tiny_config: TrainConfig, tiny_prepared: Prepared, plain: TrainConfig, table: Any
) -> None:
    inputs = Inputs(tiny_config, tiny_prepared)
    result = run(plain, tiny_prepared)
    found = table(offset(inputs)(OffsetConfig(b=-0.3)), inputs)
    degree = torch.bincount(tiny_prepared.train.item, minlength=tiny_prepared.train.n_items)
    expected = result.user_vectors @ result.item_vectors.T - 0.3 * torch.log(1 + degree.float())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_backbone_is_trained_once_for_all_offsets(
    tiny_config: TrainConfig, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def counted(config: TrainConfig, prepared: Prepared) -> RunResult:
        trained.append(config)
        return run(config, prepared)

    monkeypatch.setattr(module, "run", counted)
    fit = offset(Inputs(tiny_config, tiny_prepared))
    for b in (-0.1, 0.0, 0.1):
        fit(OffsetConfig(b=b))
    assert [config.mask.source for config in trained] == ["ones"]
    assert trained[0].backbone == tiny_config.backbone
