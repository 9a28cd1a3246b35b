"""The stages of a run, one at a time."""

from __future__ import annotations

import pytest
import torch

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError
from painvrl.prepare import Prepared
from painvrl.progress import NullObserver
from painvrl.stages import Stages, _true_labels, convert, learn_invariance, train_backbone


def stages_of(config: TrainConfig, prepared: Prepared, epochs: dict[str, int] | None = None) -> Stages:
    return Stages(config=config, prepared=prepared, observer=NullObserver(), fixed_epochs=epochs)


def with_mask(config: TrainConfig, source: str) -> TrainConfig:
    return TrainConfig.model_validate(config.model_dump() | {"mask": {"source": source}})


@pytest.mark.parametrize(("source", "value"), [("ones", 1.0), ("half", 0.5)])
def test_a_constant_mask_needs_no_rounds(
    tiny_config: TrainConfig, tiny_prepared: Prepared, source: str, value: float
) -> None:
    invariance = learn_invariance(stages_of(with_mask(tiny_config, source), tiny_prepared), None)
    assert invariance.mask.tolist() == [value] * 10
    assert invariance.rounds == ()
    assert invariance.environments is None


def test_the_given_mask_is_the_planted_one(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    invariance = learn_invariance(stages_of(with_mask(tiny_config, "given"), tiny_prepared), None)
    assert invariance.mask.tolist() == [1.0] * 4 + [0.0] * 6


def test_true_labels_follow_the_pairs_not_the_rows(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    labels = _true_labels(stages_of(tiny_config, tiny_prepared))
    truth = tiny_prepared.dataset.truth
    assert truth is not None
    everything = tiny_prepared.dataset.interactions
    known = {
        (int(u), int(i)): int(e)
        for u, i, e in zip(everything.user, everything.item, truth.environment, strict=True)
    }
    pairs = tiny_prepared.training.pairs
    expected = [known[int(u), int(i)] for u, i in zip(pairs.user, pairs.item, strict=True)]
    assert labels.tolist() == expected
    assert set(expected) == {0, 1}


def test_ood_rows_have_no_true_label(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    from dataclasses import replace

    ood = replace(tiny_prepared, train=tiny_prepared.split.ood_valid.interactions)
    with pytest.raises(ConfigError, match="OOD rows have no training environment"):
        _true_labels(stages_of(tiny_config, ood))


def test_fixed_epochs_are_trained_to_the_last(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    stages = stages_of(tiny_config, tiny_prepared, {"pretrain": 7})
    train_backbone(stages, "pretrain", torch.ones(10))
    assert stages.epochs == {"pretrain": 7}
    assert set(stages.seconds) == {"pretrain"}


def test_a_branch_adds_its_columns_after_the_invariant_ones(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    mask = torch.tensor([1.0] * 4 + [0.0] * 6)
    users, items, base_width = convert(stages_of(tiny_config, tiny_prepared), mask)
    assert base_width == 8  # 4 ID and 4 content columns
    assert users.shape[1] == items.shape[1] == 12
    alone = TrainConfig.model_validate(tiny_config.model_dump() | {"fusion": {"kind": "invariant"}})
    invariant_users, invariant_items, _ = convert(stages_of(alone, tiny_prepared), mask)
    assert torch.equal(users[:, :8], invariant_users)
    assert torch.equal(items[:, :8], invariant_items)
