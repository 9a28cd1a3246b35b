"""The training loop: epochs of optimiser steps, early stopping, and the best state.

One epoch of the gramian loss is one full-batch step; one of the sampled loss is a permutation of
the training pairs in mini-batches.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import Field
from torch import Tensor

from painvrl.errors import Diverged
from painvrl.model.losses import SampledLoss
from painvrl.model.ultragcn import Backbone
from painvrl.settings import Settings


class TrainingConfig(Settings):
    """``patience``: evaluations without a better ``watch`` before training stops."""

    max_epochs: int = Field(default=120, ge=1)
    learning_rate: float = Field(default=0.03, gt=0)
    evaluate_every: int = Field(default=10, ge=1)
    patience: int = Field(default=3, ge=1)
    watch: str = Field(default="iid/ndcg_at_20", pattern=r"^(iid|ood)/[a-z_]+_at_[0-9]+$")


class CurveObserver(Protocol):
    """Receives points of a training curve."""

    def __call__(self, epoch: int, values: Mapping[str, float]) -> None:
        """A point: the epoch (from 1), its loss and metrics."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """``best_epoch`` is the epoch (from 1) whose state the model was left in."""

    best_epoch: int


Evaluate = Callable[[Tensor, Tensor], Mapping[str, float]]


def fit(
    model: Backbone,
    config: TrainingConfig,
    generator: torch.Generator,
    *,
    evaluate: Evaluate | None,
    observe: CurveObserver,
    epochs: int | None = None,
) -> FitResult:
    """Train ``model`` in place and leave it in its best state.

    Args:
        model: its parameters are trained; its ``base`` is not.
        config: learning rate, length and patience.
        generator: a CPU generator for batches, negatives and dropout.
        evaluate: user and item vectors to validation metrics; must contain ``config.watch``.
            ``None`` trains to the end.
        observe: receives loss and metrics at every evaluation.
        epochs: train exactly so many epochs, without early stopping (a refit).

    Raises:
        Diverged: the loss is not finite at an evaluation.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    length = config.max_epochs if epochs is None else epochs
    best_epoch, best_value, best_state = 0, -float("inf"), None
    for epoch in range(1, length + 1):
        total = torch.zeros((), device=model.weight.device)
        steps = 0
        for loss in _losses(model, generator):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            steps += 1
        if epoch % config.evaluate_every and epoch < length:
            continue
        mean_loss = float(total) / steps  # the only read-back, at evaluation cadence
        if not math.isfinite(mean_loss):
            raise Diverged(f"the training loss is {mean_loss} in epoch {epoch}; lower training.learning_rate")
        values = {"loss": mean_loss}
        if evaluate is not None:
            with torch.no_grad():
                values |= evaluate(model.user_vectors(), model.item_vectors())
        observe(epoch, values)
        if evaluate is None or epochs is not None:
            best_epoch = epoch
            continue
        if values[config.watch] > best_value:
            best_epoch, best_value = epoch, values[config.watch]
            best_state = copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= config.patience * config.evaluate_every:
            break
    if best_state is not None:
        model.load_state_dict(best_state)
    return FitResult(best_epoch=best_epoch)


def _losses(model: Backbone, generator: torch.Generator) -> Iterator[Tensor]:
    """The loss of each step of one epoch."""
    loss = model.config.loss
    if not isinstance(loss, SampledLoss):
        yield model.full_loss(model.kept_items(generator))
        return
    device = model.weight.device
    warm_items = model.data.warm_items  # cold items must be invisible in training, also as negatives
    order = torch.randperm(model.data.n_pairs, generator=generator)
    for rows in order.split(loss.batch_size):
        draw = torch.randint(warm_items.shape[0], (loss.negatives,), generator=generator)
        yield model.batch_loss(
            rows.to(device, non_blocking=True),
            warm_items[draw.to(device, non_blocking=True)],
            model.kept_items(generator),
        )
