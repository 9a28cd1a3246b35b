"""The stages of a run, one at a time."""

from __future__ import annotations

import torch

from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared
from painvrl.run.stages import Stages, convert, train_backbone


def stages_of(config: TrainConfig, prepared: Prepared, epochs: dict[str, int] | None = None) -> Stages:
    return Stages(config=config, prepared=prepared, fixed_epochs=epochs)


def test_fixed_epochs_are_trained_to_the_last(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    stages = stages_of(tiny_config, tiny_prepared, {"pretrain": 7})
    train_backbone(stages, "pretrain", torch.ones(10))
    assert stages.state.epochs == {"pretrain": 7}
    assert set(stages.state.seconds) == {"pretrain"}


def test_a_branch_adds_its_columns_after_the_invariant_ones(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    mask = torch.tensor([1.0] * 4 + [0.0] * 6)
    both = convert(stages_of(tiny_config, tiny_prepared), mask)
    assert (both.id_width, both.base_width) == (4, 8)
    assert both.users.shape[1] == both.items.shape[1] == 12
    alone = TrainConfig.model_validate(tiny_config.model_dump() | {"fusion": {"kind": "invariant"}})
    invariant = convert(stages_of(alone, tiny_prepared), mask)
    assert torch.equal(both.users[:, :8], invariant.users)
    assert torch.equal(both.items[:, :8], invariant.items)
