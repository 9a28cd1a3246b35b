from __future__ import annotations

from typing import Any

import pytest

from painvrl.baselines.plain_backbone import PlainBackboneConfig, plain_backbone
from painvrl.baselines.port import Inputs
from painvrl.evaluation.ranking import evaluate_scorer
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run
from painvrl.run.prepare import Prepared


@pytest.fixture
def plain(tiny_settings: dict[str, Any]) -> TrainConfig:
    """The tiny configuration as its plain backbone."""
    return TrainConfig.model_validate(
        tiny_settings | {"mask": {"source": "ones"}, "fusion": {"kind": "invariant"}}
    )


def test_it_is_the_backbone_without_mask_branch_and_offset(
    tiny_config: TrainConfig, tiny_prepared: Prepared, plain: TrainConfig
) -> None:
    fusion = tiny_config.fusion.model_copy(update={"popularity_weight": -0.3, "cold_weight": 2.0})
    config = tiny_config.model_copy(update={"fusion": fusion})
    scorer = plain_backbone(Inputs(config, tiny_prepared))(PlainBackboneConfig())
    assert evaluate_scorer(tiny_prepared.valid_plan, scorer) == run(plain, tiny_prepared).metrics
