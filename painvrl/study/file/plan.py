"""What a study would do, before it does anything: ``painvrl study run --dry-run``."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from painvrl.core.errors import TrialFailure, UserError
from painvrl.core.workspace import Workspace
from painvrl.engine.sweep import SweepConfig
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared, prepare
from painvrl.run.stages import Stages, train_backbone
from painvrl.run.state import RunState
from painvrl.study.file.queued import queue_of
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.samplers import GP_SECONDS, GP_TRIALS, Choice, conditional, whole_grid

_TIMED = "pretrain"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a study may cost at most, from one timed epoch.

    Attributes:
        epoch_seconds: of the base configuration's pretraining on its data.
        trainings: of backbones in a trial of the base configuration, under one seed.
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study would do.

    Attributes:
        knobs: that some trial samples before it trains. size: points of their space; infinite for a
            continuous one.
        swept: knobs that some trial sweeps after it was trained.
        sweep: how; ``None`` where no knob is swept.
        sampler: with the reason.
        trials: by origin: ``preset``, ``base``, ``point``, ``sampled``.
        device: where it would train.
        cost: ``None`` where the data could not be prepared or trained on, and then ``no_cost`` says why.
    """

    knobs: int
    size: float
    sampler: Choice
    trials: Mapping[str, int]
    device: str
    cost: Cost | None
    no_cost: str | None = None
    swept: int = 0
    sweep: SweepConfig | None = None


def plan_of(
    spec: StudySpec, workspace: Workspace, device: torch.device, *, trials: int | None = None
) -> Plan:
    """Plan a study. The data are prepared, in the workspace's cache if there is one; nothing is stored.

    Args:
        spec: a checked study.
        workspace: need not exist.
        device: where the epoch is timed.
        trials: finished trials wanted, instead of ``spec.study.trials``.
    """
    budget = spec.study.trials if trials is None else trials
    swept = swept_in(spec)
    try:
        one, no_cost = cost_of(spec.config, workspace, device, swept), None
        cost = replace(one, seeds=spec.study.seeds)
    except (UserError, TrialFailure) as error:
        cost, no_cost = None, str(error)
    return Plan(
        knobs=len(spec.sampled.searched(spec.config)),
        size=spec.sampled.size(spec.config),
        sampler=_sampler(spec, budget),
        trials=_by_origin(spec, budget),
        device=str(device),
        cost=cost,
        no_cost=no_cost,
        swept=len(swept),
        sweep=_sweep(spec) if swept else None,
    )


def swept_in(spec: StudySpec) -> tuple[str, ...]:
    """The knobs that some trial sweeps."""
    return tuple(path for path in spec.space.searched(spec.config) if path in spec.swept)


def _sweep(spec: StudySpec) -> SweepConfig:
    return spec.sweep if isinstance(spec.sweep, SweepConfig) else SweepConfig()


def _sampler(spec: StudySpec, budget: int) -> Choice:
    """The sampler as far as it is known before the first trial."""
    if spec.study.sampler != "auto":
        return Choice(sampler=spec.study.sampler, reason="study.sampler names it")
    queue = queue_of(spec.config, spec.sampled, spec.presets, spec.points)
    presets = sum(one.origin == "preset" for one in queue)
    if (grid := whole_grid(spec.sampled, spec.config, budget - presets)) is not None:
        return grid
    if hangs := conditional(spec.sampled, spec.config):
        then = f"then tpe, for gp models no conditions (space.{hangs[0]} has one)"
    elif budget > GP_TRIALS:
        then = f"then tpe, for gp is for at most {GP_TRIALS} trials"
    else:
        then = f"then gp if the median of them takes {GP_SECONDS:.0f} s or more, else tpe"
    return Choice(sampler="auto", reason=f"random for {spec.study.startup_trials} start-up trials, {then}")


def _by_origin(spec: StudySpec, budget: int) -> dict[str, int]:
    """How many of the first ``budget`` trials come from where."""
    queue = queue_of(spec.config, spec.sampled, spec.presets, spec.points)[:budget]
    counts = Counter[str](one.origin for one in queue)
    sampled = budget - len(queue)
    size = spec.sampled.size(spec.config)
    if math.isfinite(size):
        # No point is trained twice. Those that are queued take one each, or none where they name a part of
        # the knobs and all such points are taken; a preset seldom is one of the space.
        sampled = max(0, min(sampled, int(size) - counts["base"] - counts["point"]))
    return {**{origin: counts[origin] for origin in ("preset", "base", "point")}, "sampled": sampled}


def cost_of(
    config: TrainConfig, workspace: Workspace, device: torch.device, swept: Container[str] = ()
) -> Cost:
    """Time one epoch of a configuration's pretraining.

    Where a branch's weight is among the knobs ``swept``, the branch is trained whatever its own weight.

    Raises:
        UserError: the data are missing or break a rule.
        TrialFailure: the training diverges in its first two epochs.
    """
    with _cache(workspace) as cache:
        prepared = prepare(config, cache_dir=cache, device=device)
    weight = "fusion.variant_weight"
    branch = config.fusion.kind == "branch" and (config.fusion.variant_weight > 0 or weight in swept)
    return Cost(
        epoch_seconds=timed_epoch(config, prepared),
        trainings=(config.mask.source == "learned") + 1 + branch,
        epochs=config.training.max_epochs,
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


class _Clock:
    """Notes when epochs end; the loss of each has been read from the device by then."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def stage(self, name: str) -> None:
        """Stages are not timed."""

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """An epoch ends."""
        self.ends.append(time.perf_counter())


@contextmanager
def _cache(workspace: Workspace) -> Iterator[Path]:
    if workspace.root.exists():
        yield workspace.cache
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def lines_of(plan: Plan) -> Iterator[str]:
    """The plan in words, a line each."""
    size = "continuous" if math.isinf(plan.size) else f"{int(plan.size)} points"
    if plan.sweep is None:
        yield f"knobs: {plan.knobs}; size of the space: {size}"
    else:
        yield (
            f"knobs: {plan.knobs} sampled before each training, {plan.swept} swept after it; "
            f"size of the sampled space: {size}"
        )
        yield (
            f"sweep: each trained model is scored at up to {plan.sweep.points} points; kept are at most "
            f"{plan.sweep.keep} of its front, the best of each objective and the configuration's own values"
        )
    yield f"sampler: {plan.sampler.sampler} ({plan.sampler.reason})"
    names = {"preset": "presets", "base": "base", "point": "points", "sampled": "sampled"}
    counts = ", ".join(f"{count} {names[origin]}" for origin, count in plan.trials.items() if count)
    yield f"trials: {sum(plan.trials.values())} ({counts})"
    yield f"device: {plan.device}"
    if plan.cost is None:
        yield f"cost: unknown: {plan.no_cost}"
        return
    cost, trials = plan.cost, sum(plan.trials.values())
    yield (
        f"cost: at most {duration(cost.trial_seconds * trials)} for {trials} trials, "
        f"{duration(cost.trial_seconds)} each, one at a time"
    )
    seeds = f"{cost.seeds} seeds x " if cost.seeds > 1 else ""
    yield (
        f"  = {seeds}{cost.trainings} trainings x {cost.epochs} epochs x {cost.epoch_seconds:.4f} s, an "
        "epoch of the base configuration's pretraining, timed once"
    )
    yield (
        "  rough: early stopping, pruning and kept pretrainings make it less; environments, masks and "
        "evaluation come on top; knobs that change the model's size or the loss are not in it"
    )


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
