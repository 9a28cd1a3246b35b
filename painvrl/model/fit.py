"""The training loop: epochs of optimiser steps, early stopping, and the best state.

One epoch of the gramian loss is one full-batch step; one of the others is a permutation of
the training pairs in mini-batches.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from painvrl.core import interrupts
from painvrl.core.compilation import step_function
from painvrl.core.device import to_device
from painvrl.core.errors import ConfigError, Diverged
from painvrl.core.ranks import from_first, n_ranks
from painvrl.core.settings import Settings
from painvrl.data.parts import LOEO, is_scored_name
from painvrl.model.batches import Batch, epoch_of_batches
from painvrl.model.lazy_adam import LazyAdam
from painvrl.model.losses import MiniBatchLoss
from painvrl.model.streamed import StreamedFeatures
from painvrl.model.ultragcn import Backbone, Rows
from painvrl.model.user_blocks import OwnUsers


class TrainingConfig(Settings):
    """How long and how fast."""

    max_epochs: int = Field(default=120, ge=1)
    """Most epochs of a training; one of the ``gramian`` loss is a single step."""
    learning_rate: float = Field(default=0.03, gt=0)
    """Step size of Adam."""
    evaluate_every: int = Field(default=10, ge=1)
    """Epochs between two evaluations."""
    patience: int = Field(default=3, ge=1)
    """Evaluations without a better ``monitor`` before training stops."""
    monitor: str = Field(default="iid/ndcg_at_20", pattern=r"^[^/]+/[^/]+_at_[1-9][0-9]*$")
    """Metric of a valid part that decides which state is best, and when training stops. With ``loeo/...``
    left-out environments choose the epochs of the final model, and the same metric of ``iid`` the others.
    """
    updates: Literal["lazy", "dense"] = "lazy"
    """What a step on a mini-batch changes in embedding tables: the batch's rows (``lazy``), or all by
    their momentum (``dense``, InvRL's code).
    """
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 of the whole tables, as in InvRL's code. The optimiser adds it, so it needs ``dense`` updates."""
    compile: bool = False
    """Run the steps of backbone, mixture and mask through ``torch.compile``; results differ by rounding."""

    @property
    def stops_by_loeo(self) -> bool:
        """Whether the epochs of the final model are chosen by environments that are left out."""
        return self.monitor.startswith(f"{LOEO}/")

    def monitoring(self, part: str) -> TrainingConfig:
        """The same with the monitored metric of another part."""
        monitor = f"{part}/{self.monitor.partition('/')[2]}"
        return self.model_copy(update={"monitor": monitor})

    @field_validator("monitor")
    @classmethod
    def _of_a_valid_part(cls, monitor: str) -> str:
        part = monitor.partition("/")[0]
        if part != LOEO and not is_scored_name(part):
            raise ValueError("must be a metric of a valid part: iid/..., ood/..., ood_NAME/... or loeo/...")
        return monitor


CurveObserver = Callable[[int, Mapping[str, float]], None]
"""Receives a point of a training curve: the epoch (from 1), its loss and metrics."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best evaluation so far: its epoch, the monitored metric, and the model's state then.

    ``state`` is ``None`` before the first one, and where nothing is monitored: the last epoch counts then.
    """

    epoch: int = 0
    value: float = -math.inf
    state: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class FitState:
    """A training between two epochs: all that the next ones depend on.

    Attributes:
        epoch: the last one that was trained.
        best: so far.
        model: its state now.
        optimizers: their states, in the order of :class:`Steps`.
        generator: the state of the generator of batches, negatives and dropout.
    """

    epoch: int
    best: Best
    model: Mapping[str, Tensor]
    optimizers: Sequence[Mapping[str, Any]]
    generator: Tensor

    @property
    def place(self) -> str:
        """How far it is, for people."""
        return f"epoch {self.epoch}"


torch.serialization.add_safe_globals([Best, FitState])  # a file of a run's state may hold them

Evaluate = Callable[[int, Tensor, Tensor], Mapping[str, float]]
"""From an epoch, user vectors and item vectors to what is reported of them."""


def fit(
    model: Backbone,
    config: TrainingConfig,
    generator: torch.Generator,
    *,
    evaluate: Evaluate | None,
    observe: CurveObserver,
    epochs: int | None = None,
    start: Callable[[], FitState | None] | None = None,
    save: Callable[[Callable[[], FitState]], object] | None = None,
) -> int:
    """Train ``model`` in place and leave it in its best state, whose epoch (from 1) is returned.

    Args:
        model: its parameters are trained; its ``base`` is not.
        config: learning rate, length and patience.
        generator: a CPU generator for batches, negatives and dropout.
        evaluate: epoch, user and item vectors to validation metrics; must contain ``config.monitor``.
            ``None`` trains to the end.
        observe: receives loss and metrics at every evaluation.
        epochs: train exactly so many epochs, without early stopping (a refit).
        start: hands over the state from which a training that was killed continues, if it was.
        save: is offered the state after every evaluation but the last, as a function that makes it. It is
            true only until ``save`` returns.

    Raises:
        Diverged: the loss is not finite at an evaluation.
        ConfigError: several processes train, but not by the whole-data loss, or there are too few users.
    """
    steps = _steps(model, config, generator)
    length = config.max_epochs if epochs is None else epochs
    known = None if start is None else start()
    done, best = (0, Best()) if known is None else (known.epoch, known.best)
    if known is not None:
        _restore(known, model, steps, generator)
    del known  # what was copied takes the device's memory
    for epoch in range(done + 1, length + 1):
        interrupts.check()
        losses = _summed(steps.epoch(), model.weight.device)
        if epoch % config.evaluate_every and epoch < length:
            continue
        values = {"loss": _finite_mean(losses, epoch)}  # the only read-back, at evaluation cadence
        steps.share()
        if evaluate is not None:
            with torch.no_grad():
                values |= evaluate(epoch, model.user_vectors(), model.item_vectors())
            values = from_first(values)  # where several processes train, all must stop alike
        observe(epoch, values)
        if evaluate is None or epochs is not None:
            best = Best(epoch=epoch)
        elif values[config.monitor] > best.value:
            best = Best()  # the state before goes first
            best = Best(epoch=epoch, value=values[config.monitor], state=copy.deepcopy(model.state_dict()))
        elif epoch - best.epoch >= config.patience * config.evaluate_every:
            break
        if save is not None and epoch < length:
            save(partial(_state_of, model, steps, generator, epoch, best))
    if best.state is not None:
        model.load_state_dict(best.state)
    return best.epoch


def _summed(losses: Iterator[Tensor], device: torch.device) -> tuple[Tensor, int]:
    """The sum of the steps' losses, on the device, and how many there were."""
    total, count = torch.zeros((), device=device), 0
    for loss in losses:
        total += loss
        count += 1
    return total, count


def _finite_mean(losses: tuple[Tensor, int], epoch: int) -> float:
    total, count = losses
    mean = float(total) / count
    if not math.isfinite(mean):
        raise Diverged(f"the training loss is {mean} in epoch {epoch}; lower training.learning_rate")
    return mean


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How a model is trained.

    Attributes:
        epoch: takes the steps of one epoch and yields the loss of each, detached.
        optimizers: whose moments go on from epoch to epoch.
        share: makes the model whole where each of several processes has trained some of its rows; does
            nothing elsewhere.
    """

    epoch: Callable[[], Iterator[Tensor]]
    optimizers: tuple[torch.optim.Adam | LazyAdam, ...]
    share: Callable[[], object] = bool


def _state_of(model: Backbone, steps: Steps, generator: torch.Generator, epoch: int, best: Best) -> FitState:
    return FitState(
        epoch=epoch,
        best=best,
        model=model.state_dict(),
        optimizers=[optimizer.state_dict() for optimizer in steps.optimizers],
        generator=generator.get_state(),
    )


def _restore(state: FitState, model: Backbone, steps: Steps, generator: torch.Generator) -> None:
    model.load_state_dict(state.model)
    for optimizer, moments in zip(steps.optimizers, state.optimizers, strict=True):
        optimizer.load_state_dict(dict(moments))
    generator.set_state(state.generator.cpu())


def _adam(groups: list[dict[str, object]], config: TrainingConfig, device: torch.device) -> torch.optim.Adam:
    # One pass over the parameters instead of ten; the `meta` device has no such kernel.
    return torch.optim.Adam(groups, lr=config.learning_rate, fused=device.type in {"cpu", "cuda"})


def _batches(model: Backbone, loss: MiniBatchLoss, generator: torch.Generator) -> Iterator[Batch]:
    return epoch_of_batches(
        model.data,
        loss,
        model.config.id_dropout,
        generator,
        model.weight.device,
        neighbours=model.item_neighbours(),
        modalities=model.modality_weights,
        features=model.features if isinstance(model.features, StreamedFeatures) else None,
    )


def _steps(model: Backbone, config: TrainingConfig, generator: torch.Generator) -> Steps:
    loss = model.config.loss
    if n_ranks() > 1 and (isinstance(loss, MiniBatchLoss) or model.environments is not None):
        rule = "several processes train one model by loss.kind gramian and risks.kind mean alone"
        raise ConfigError(rule, key="backbone", value=f"{loss.kind}, {model.config.risks.kind}")
    if not isinstance(loss, MiniBatchLoss):
        return _dense_steps(model, config, generator)
    return (_lazy_steps if config.updates == "lazy" else _dense_steps)(model, config, generator)


def _dense_steps(model: Backbone, config: TrainingConfig, generator: torch.Generator) -> Steps:
    """Every parameter moves in every step."""
    # Risks of environments are no sums over users: those take the full batch.
    in_blocks = (model.data.user_blocks or n_ranks() > 1) and model.environments is None
    own = OwnUsers.of(model) if in_blocks else None
    tables = model.tables() if own is None else [*own.tables, model.item_id]
    optimizer = _adam(
        [
            {"params": tables, "weight_decay": config.weight_decay},
            {"params": model.content_parameters()},
        ],
        config,
        model.weight.device,
    )
    full_loss = step_function(model.full_loss, compiled=config.compile)
    block_loss = step_function(model.block_loss, compiled=config.compile)
    batch_loss = step_function(
        lambda batch: model.batch_loss(batch, model.rows(batch)), compiled=config.compile
    )

    def steps() -> Iterator[Callable[[], Tensor]]:
        """Each adds the gradient of its loss to the parameters."""
        loss = model.config.loss
        if isinstance(loss, MiniBatchLoss):
            for batch in _batches(model, loss, generator):
                yield partial(_differentiated, batch_loss, batch)
            return
        kept, weights = model.kept_items(generator), model.modality_weights(generator)
        weights = None if weights is None else to_device(weights, model.weight.device)
        if own is None:
            yield partial(_differentiated, full_loss, kept, weights)
        else:
            yield partial(own.add_gradients, kept, weights, block_loss)

    def epoch() -> Iterator[Tensor]:
        for step in steps():
            loss = step()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # an evaluation, and what comes after, has their memory
            yield loss

    return Steps(epoch=epoch, optimizers=(optimizer,), share=bool if own is None else own.share)


def _differentiated(loss_of: Callable[..., Tensor], *arguments: object) -> Tensor:
    loss = loss_of(*arguments)
    loss.backward()
    return loss.detach()


def _lazy_steps(model: Backbone, config: TrainingConfig, generator: torch.Generator) -> Steps:
    """Of the embedding tables only the rows of the batch move."""
    loss_config, device = model.config.loss, model.weight.device
    assert isinstance(loss_config, MiniBatchLoss)
    assert config.weight_decay == 0, "a row that is not touched cannot decay"
    content = _adam([{"params": model.content_parameters()}], config, device)
    tables = LazyAdam(model.tables(), config.learning_rate)
    batch_loss = step_function(model.batch_loss, compiled=config.compile)

    def epoch() -> Iterator[Tensor]:
        for batch in _batches(model, loss_config, generator):
            with torch.no_grad():
                touched = model.rows(batch)
            leaves = Rows(*(rows.detach().requires_grad_() for rows in touched))
            content.zero_grad(set_to_none=True)
            loss = batch_loss(batch, leaves)
            loss.backward()
            content.step()
            index = (batch.users, batch.users, batch.items)
            tables.step(
                (places, rows.detach(), torch.zeros_like(rows) if rows.grad is None else rows.grad)
                for places, rows in zip(index, leaves, strict=True)
            )
            yield loss.detach()

    return Steps(epoch=epoch, optimizers=(content, tables))
