"""What a trial comes to: it completes, it is pruned, or it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from painvrl.core.shown import redacted
from painvrl.run.distributions import Value

WORKER_DIED = "worker_died"
"""The reason of a trial whose process died."""

BLAMELESS = frozenset({"unexpected"})
"""Reasons that say nothing about the configuration: a fault of the program, or of the machine."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Metrics of one training at one epoch."""

    curve: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class SweptPoint:
    """One of the points of a training.

    Attributes:
        values: of the hyperparameters that act after training, by path.
        metrics: of the valid parts under them; of a training under several seeds the means.
        first: of such a training the metrics under its first seed; else empty.
    """

    values: Mapping[str, Value]
    metrics: Mapping[str, float]
    first: Mapping[str, float] = field(default_factory=dict)


def point_name(trial: int, place: int | None = None) -> str:
    """What a point is called: ``12`` of a trial that has one only, ``12.3`` of one that was swept.

    >>> point_name(12), point_name(12, 3)
    ('12', '12.3')
    """
    return str(trial) if place is None else f"{trial}.{place}"


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A trained configuration.

    Attributes:
        metrics: of the valid parts, all finite; of a swept training those of the point that stands for it.
            Of a training under several seeds they are the means, and what follows is of its first seed, but
            for the points, the seconds and the memory.
        first: of a training under several seeds the metrics under the first; else empty.
        points: of a swept training, the configuration's own values first; else none.
        rounds: for each round the sizes of its environments and the state of the mask.
        mask_trace: how the mask was learned, at most a score of points a round: ``round`` and ``step``
            (the last of the stretch that a point stands for), ``epsilon``, ``cosine``, ``risk``, ``penalty``.
        curves: loss and metrics by epoch.
        seconds: wall time by stage.
        epochs: the epoch that early stopping chose, by training.
        peak_memory_mib: on CUDA what the trial's tensors took of the device at most; elsewhere the
            largest resident set meanwhile of the process that trained it, data and libraries included (on
            systems other than Linux the largest since the process began: of its earlier trials, too).
        mixed: of a training that a second process went on with, what was another there, such as its
            ``processor``; the last bits may differ then.
    """

    metrics: Mapping[str, float]
    first: Mapping[str, float] = field(default_factory=dict)
    points: tuple[SweptPoint, ...] = ()
    rounds: tuple[Mapping[str, float], ...] = ()
    mask_trace: tuple[Mapping[str, float], ...] = ()
    curves: tuple[CurvePoint, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    mixed: tuple[str, ...] = ()

    @property
    def total_seconds(self) -> float:
        """Wall time of all stages."""
        return sum(self.seconds.values())

    @property
    def measured(self) -> dict[str, float]:
        """The metrics, and the costs by the names that constraints give them."""
        memory = {} if self.peak_memory_mib is None else {"peak_memory": self.peak_memory_mib}
        return {**self.metrics, "time": self.total_seconds, **memory}


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A configuration that could not be trained.

    Attributes:
        reason: one machine-readable word: ``diverged``, ``empty_environment``, ``refused``,
            ``not_finite``, ``out_of_memory``, ``out_of_time``, ``unexpected``, ``worker_died`` or
            ``taken_over``; earlier versions had ``interrupted``, too.
        message: one sentence for people.
        log: the traceback, for the trial's log.
    """

    reason: str
    message: str
    log: str | None = None

    def __post_init__(self) -> None:
        """Both are stored, tracked and shown: no secret gets that far."""
        object.__setattr__(self, "message", redacted(self.message))
        object.__setattr__(self, "log", None if self.log is None else redacted(self.log))

    def __str__(self) -> str:
        """For people."""
        return f"{self.reason}: {self.message}"

    @property
    def teaches(self) -> bool:
        """Whether the configuration is to blame, so that a search had better keep away from it."""
        return self.reason not in BLAMELESS


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A training that was stopped early, because others were better at the same rung.

    Attributes:
        rung: where it was stopped, such as ``pretrain/20``: a training and its epoch (``training/epoch``).
        message: one sentence for people.
        metrics: of the valid parts at that rung; those of an unfinished training.
        curves: loss and metrics by epoch, so far.
        seconds: wall time by stage, so far.
    """

    rung: str
    message: str
    metrics: Mapping[str, float]
    curves: tuple[CurvePoint, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


Outcome: TypeAlias = Completed | Pruned | Failed


def completed(outcome: Completed) -> Outcome:
    """``outcome``, or its failure if a metric is not finite (Optuna would take ``inf`` for the best)."""
    bad = [name for name, value in outcome.metrics.items() if not math.isfinite(value)]
    if not bad:
        return outcome
    others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return Failed(reason="not_finite", message=f"{bad[0]} is {outcome.metrics[bad[0]]}{others}")
