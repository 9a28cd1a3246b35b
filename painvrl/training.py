"""The training loop: epochs of optimiser steps, early stopping, and the best state.

One epoch of the gramian loss is one full-batch step; one of the sampled loss is a permutation of
the training pairs in mini-batches.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from painvrl.compilation import step_function
from painvrl.data.parts import is_scored_name
from painvrl.errors import Diverged
from painvrl.model.batches import epoch_of_batches
from painvrl.model.lazy_adam import LazyAdam
from painvrl.model.losses import SampledLoss
from painvrl.model.ultragcn import Backbone, Rows
from painvrl.settings import Settings


class TrainingConfig(Settings):
    """How long and how fast.

    ``patience``: evaluations without a better ``watch`` before training stops. ``updates``: what a step of
    the sampled loss updates of the embedding tables, the batch's rows (``lazy``) or all rows by their
    momentum (``dense``, InvRL's code). ``weight_decay``: L2 of the whole tables as InvRL's code has it; the
    optimiser adds it in passing, so it needs dense updates. ``compile``: the steps of the backbone, the
    mixture and the mask go through ``torch.compile``; the results are the same but for rounding.
    """

    max_epochs: int = Field(default=120, ge=1)
    learning_rate: float = Field(default=0.03, gt=0)
    evaluate_every: int = Field(default=10, ge=1)
    patience: int = Field(default=3, ge=1)
    watch: str = Field(default="iid/ndcg_at_20", pattern=r"^[^/]+/[a-z_]+_at_[0-9]+$")
    updates: Literal["lazy", "dense"] = "lazy"
    weight_decay: float = Field(default=0.0, ge=0)
    compile: bool = False

    @field_validator("watch")
    @classmethod
    def _of_a_valid_part(cls, watch: str) -> str:
        if not is_scored_name(watch.partition("/")[0]):
            raise ValueError("must be a metric of a valid part: iid/..., ood/... or ood_NAME/...")
        return watch

    @model_validator(mode="after")
    def _decay_is_dense(self) -> Self:
        if self.weight_decay > 0 and self.updates == "lazy":
            raise ValueError(f"weight_decay needs updates 'dense' (found {self.weight_decay} with 'lazy')")
        return self


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
    epochs_of_steps = _lazy_steps if _is_lazy(model, config) else _dense_steps
    steps_of = epochs_of_steps(model, config, generator)
    length = config.max_epochs if epochs is None else epochs
    best_epoch, best_value, best_state = 0, -float("inf"), None
    for epoch in range(1, length + 1):
        total = torch.zeros((), device=model.weight.device)
        steps = 0
        for loss in steps_of():
            total += loss
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


Epoch = Callable[[], Iterator[Tensor]]
"""Takes the steps of one epoch and yields the loss of each, detached."""


def _is_lazy(model: Backbone, config: TrainingConfig) -> bool:
    return isinstance(model.config.loss, SampledLoss) and config.updates == "lazy"


def _adam(groups: list[dict[str, object]], config: TrainingConfig, device: torch.device) -> torch.optim.Adam:
    # One pass over the parameters instead of ten; the `meta` device has no such kernel.
    return torch.optim.Adam(groups, lr=config.learning_rate, fused=device.type in {"cpu", "cuda"})


def _dense_steps(model: Backbone, config: TrainingConfig, generator: torch.Generator) -> Epoch:
    """Every parameter moves in every step."""
    tables = [model.user_id, model.user_content, model.item_id]
    projection = [model.weight, model.bias]
    optimizer = _adam(
        [{"params": tables, "weight_decay": config.weight_decay}, {"params": projection}],
        config,
        model.weight.device,
    )
    full_loss = step_function(model.full_loss, compiled=config.compile)
    batch_loss = step_function(
        lambda batch: model.batch_loss(batch, model.rows(batch)), compiled=config.compile
    )

    def losses() -> Iterator[Tensor]:
        loss = model.config.loss
        if not isinstance(loss, SampledLoss):
            yield full_loss(model.kept_items(generator))
            return
        device = model.weight.device
        for batch in epoch_of_batches(model.data, loss, model.config.id_dropout, generator, device):
            yield batch_loss(batch)

    def epoch() -> Iterator[Tensor]:
        for loss in losses():
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            yield loss.detach()

    return epoch


def _lazy_steps(model: Backbone, config: TrainingConfig, generator: torch.Generator) -> Epoch:
    """Of the embedding tables only the rows of the batch move."""
    loss_config, device = model.config.loss, model.weight.device
    assert isinstance(loss_config, SampledLoss)
    projection = _adam([{"params": [model.weight, model.bias]}], config, device)
    tables = LazyAdam([model.user_id, model.user_content, model.item_id], config.learning_rate)
    batch_loss = step_function(model.batch_loss, compiled=config.compile)

    def epoch() -> Iterator[Tensor]:
        for batch in epoch_of_batches(model.data, loss_config, model.config.id_dropout, generator, device):
            with torch.no_grad():
                touched = model.rows(batch)
            user_id, user_content, item_id = (
                rows.detach().requires_grad_()
                for rows in (touched.user_id, touched.user_content, touched.item_id)
            )
            projection.zero_grad(set_to_none=True)
            loss = batch_loss(batch, Rows(user_id=user_id, user_content=user_content, item_id=item_id))
            loss.backward()
            projection.step()
            index = (batch.users, batch.users, batch.items)
            tables.step(
                (places, rows.detach(), torch.zeros_like(rows) if rows.grad is None else rows.grad)
                for places, rows in zip(index, (user_id, user_content, item_id), strict=True)
            )
            yield loss.detach()

    return epoch
