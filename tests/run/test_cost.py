from __future__ import annotations

from typing import Any

import pytest
import torch

from painvrl.core.workspace import Workspace
from painvrl.run import cost as module
from painvrl.run.config import TrainConfig
from painvrl.run.cost import cost_of, timed_epoch
from painvrl.run.hyperparameters import apply
from painvrl.run.pipeline import run as run_pipeline
from painvrl.run.prepare import Prepared
from painvrl.run.presets import PRESETS

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("preset", "kind", "weight", "trainings"),
    [
        ("painvrl", "branch", 0.5, {"pretrain", "invariant", "variant"}),
        ("painvrl", "branch", 0.0, {"pretrain", "invariant"}),
        ("painvrl", "sum", 0.5, {"pretrain", "sum"}),
        ("invrl", "invariant", 0.5, {"pretrain", "invariant"}),
        ("ultragcn", "invariant", 0.5, {"invariant"}),
    ],
)
def test_the_trainings_are_those_of_the_pipeline(
    tiny_config: TrainConfig,
    tiny_prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    preset: Any,
    kind: str,
    weight: float,
    trainings: set[str],
) -> None:
    config = apply(tiny_config, {**PRESETS[preset], "fusion.kind": kind, "fusion.variant_weight": weight})
    monkeypatch.setattr(module, "prepare", lambda *_, **__: tiny_prepared)
    assert cost_of(config, Workspace(tmp_path / "none"), CPU).trainings == len(trainings)
    assert set(run_pipeline(config, tiny_prepared).epochs) == trainings


def test_the_epoch_that_is_timed_is_the_second(
    tiny_config: TrainConfig, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([0.0, 0.0, 10.0, 10.5, 99.0, 99.0, 99.0])
    started: list[float] = []

    def clock() -> float:
        started.append(next(ticks))
        return started[-1]

    monkeypatch.setattr(module.time, "perf_counter", clock)  # one clock for stages and epochs
    # The stage's start, the ends of the two epochs, the stage's end.
    assert timed_epoch(tiny_config, tiny_prepared) == 10.0
    assert len(started) == 4


@pytest.mark.parametrize(("swept", "trainings"), [((), 2), (("fusion.variant_weight",), 3)])
def test_a_branch_whose_weight_is_swept_is_trained_whatever_its_own_weight(
    tiny_config: TrainConfig,
    tiny_prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    swept: tuple[str, ...],
    trainings: int,
) -> None:
    config = apply(tiny_config, {"fusion.kind": "branch", "fusion.variant_weight": 0.0})
    monkeypatch.setattr(module, "prepare", lambda *_, **__: tiny_prepared)
    assert cost_of(config, Workspace(tmp_path / "none"), CPU, swept).trainings == trainings
