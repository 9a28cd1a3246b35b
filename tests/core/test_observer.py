from __future__ import annotations

from collections.abc import Mapping

import torch

from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared


class Listener:
    """Keeps what it hears, and draws random numbers meanwhile."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def stage(self, name: str) -> None:
        self.heard.add(name)
        torch.rand(3)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.heard.add(f"{name}'s curve")
        torch.rand(3)


def test_who_listens_changes_nothing(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    listener = Listener()
    reported = run(tiny_config, tiny_prepared, observer=listener)
    assert {"pretrain", "pretrain's curve", "round 1: mask"} <= listener.heard
    assert reported.metrics == tiny_result.metrics
    assert torch.equal(reported.user_vectors, tiny_result.user_vectors)
    assert torch.equal(reported.item_vectors, tiny_result.item_vectors)
