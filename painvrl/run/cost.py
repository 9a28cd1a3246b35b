"""What training a configuration costs at most, from one timed epoch."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from painvrl.core.observer import NullObserver
from painvrl.core.workspace import Workspace
from painvrl.run.config import TrainConfig
from painvrl.run.known import groups_of
from painvrl.run.prepare import Prepared, prepare
from painvrl.run.stages import Stages, train_backbone
from painvrl.run.state import RunState

_TIMED = "pretrain"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What trials of a configuration may cost at most, each.

    Attributes:
        epoch_seconds: of its pretraining on its data.
        trainings: of backbones in a trial, under one seed.
        seeds: that a trial is trained under.
        epochs: that each of them may take, ``training.max_epochs``.
    """

    epoch_seconds: float
    trainings: int
    epochs: int
    seeds: int = 1

    @property
    def trial_seconds(self) -> float:
        """The trainings of one trial, at their full length."""
        return self.epoch_seconds * self.trainings * self.epochs * self.seeds


def cost_of(
    config: TrainConfig,
    workspace: Workspace,
    device: torch.device,
    swept: Container[str] = (),
    seeds: int = 1,
) -> Cost:
    """Time one epoch of a configuration's pretraining, for trials under so many ``seeds``.

    Where a branch's weight is among the hyperparameters ``swept``, the branch is trained whatever its own
    weight.

    Raises:
        UserError: the data are missing or break a rule.
        TrialFailure: the training diverges in its first two epochs.
    """
    kept = nullcontext(workspace.cache) if workspace.root.exists() else TemporaryDirectory()
    with kept as folder:
        prepared = prepare(config, cache_dir=Path(folder), device=device)
    learners = config.fusion.learners(branch="fusion.variant_weight" in swept)
    finals = 1
    if config.evaluation.loeo:  # once without each environment, and once more where it chooses the epochs
        groups = groups_of(config, prepared.dataset, prepared.train)
        finals += len(groups.names) * (1 + config.training.stops_by_loeo)
    return Cost(
        epoch_seconds=timed_epoch(config, prepared),
        trainings=(config.mask.source == "learned") + len(learners) * finals,
        epochs=config.training.max_epochs,
        seeds=seeds,
    )


def timed_epoch(config: TrainConfig, prepared: Prepared) -> float:
    """Seconds of the second epoch of the pretraining: the first one also warms the device up."""
    clock = _Clock()
    training = config.training.model_copy(update={"evaluate_every": 1})
    stages = Stages(
        config=config.model_copy(update={"training": training}),
        prepared=prepared,
        fixed_epochs={_TIMED: 2},
        state=RunState(clock),
    )
    train_backbone(stages, _TIMED, torch.ones(prepared.features.shape[1], device=prepared.device))
    first, second = clock.ends
    return second - first


class _Clock(NullObserver):
    """Notes when epochs end; the loss of each has been read from the device by then."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """An epoch ends."""
        self.ends.append(time.perf_counter())
