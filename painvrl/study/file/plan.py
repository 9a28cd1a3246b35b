"""What a study would do, before it does anything: ``painvrl study run --dry-run``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from painvrl.core.errors import TrialFailure, UserError
from painvrl.core.tables import duration
from painvrl.core.workspace import Workspace
from painvrl.engine.sweep import SweepConfig
from painvrl.run.cost import Cost, cost_of
from painvrl.study.file.queued import queue_of
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.port import SAMPLERS, Choice


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study would do.

    Attributes:
        hyperparameters: that some trial samples before it trains. size: points of their space; infinite for a
            continuous one.
        swept: hyperparameters that some trial sweeps after it was trained.
        sweep: how; ``None`` where no hyperparameter is swept.
        sampler: with the reason.
        trials: by origin: ``preset``, ``base``, ``point``, ``sampled``.
        device: where it would train.
        cost: ``None`` where the data could not be prepared or trained on, and then ``no_cost`` says why.
    """

    hyperparameters: int
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
        trials: finished trials requested, instead of ``spec.study.trials``.
    """
    budget = spec.study.trials if trials is None else trials
    swept = swept_in(spec)
    try:
        cost, no_cost = cost_of(spec.config, workspace, device, swept, spec.study.seeds), None
    except (UserError, TrialFailure) as error:
        cost, no_cost = None, str(error)
    return Plan(
        hyperparameters=len(spec.sampled.searched(spec.config)),
        size=spec.sampled.size(spec.config),
        sampler=SAMPLERS.get(spec.study.sampler).foreseen(spec, budget),
        trials=by_origin(spec, budget),
        device=str(device),
        cost=cost,
        no_cost=no_cost,
        swept=len(swept),
        sweep=spec.sweeping if swept else None,
    )


def swept_in(spec: StudySpec) -> tuple[str, ...]:
    """The hyperparameters that some trial sweeps."""
    return tuple(path for path in spec.space.searched(spec.config) if path in spec.swept)


def _sweep(spec: StudySpec) -> SweepConfig:
    return spec.sweep if isinstance(spec.sweep, SweepConfig) else SweepConfig()


def by_origin(spec: StudySpec, budget: int) -> dict[str, int]:
    """How many of the first ``budget`` trials come from where."""
    queue = queue_of(spec.config, spec.sampled, spec.presets, spec.points)[:budget]
    counts = Counter[str](one.origin for one in queue)
    sampled = budget - len(queue)
    size = spec.sampled.size(spec.config)
    if math.isfinite(size):
        # No point is trained twice. Those that are queued take one each, or none where they name a part of
        # the hyperparameters and all such points are taken; a preset seldom is one of the space.
        sampled = max(0, min(sampled, int(size) - counts["base"] - counts["point"]))
    return {**{origin: counts[origin] for origin in ("preset", "base", "point")}, "sampled": sampled}


def in_words(trials: Mapping[str, int]) -> str:
    """Trials by origin: ``5 presets, 1 default, 34 sampled``."""
    names = {"preset": "preset", "base": "default", "point": "point", "sampled": "sampled"}
    return ", ".join(
        f"{count} {names[origin]}{'s' * (count > 1 and origin in {'preset', 'point'})}"
        for origin, count in trials.items()
        if count
    )


def lines_of(plan: Plan) -> Iterator[str]:
    """The plan in words, a line each."""
    size = "continuous" if math.isinf(plan.size) else f"{int(plan.size)} points"
    if plan.sweep is None:
        yield f"hyperparameters: {plan.hyperparameters}; size of the space: {size}"
    else:
        yield (
            f"hyperparameters: {plan.hyperparameters} sampled before each training, "
            f"{plan.swept} swept after it; size of the sampled space: {size}"
        )
        yield (
            f"sweep: each trained model is scored at up to {plan.sweep.points} points; kept are at most "
            f"{plan.sweep.keep} of its front, the best of each objective and the configuration's own values"
        )
    yield f"sampler: {plan.sampler.sampler} ({plan.sampler.reason})"
    yield f"trials: {sum(plan.trials.values())} ({in_words(plan.trials)})"
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
        "evaluation come on top; hyperparameters that change the model's size or the loss are not in it"
    )
