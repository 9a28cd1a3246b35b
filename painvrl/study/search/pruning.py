"""Stopping hopeless trials early: asynchronous successive halving over non-dominated ranks.

Optuna prunes studies with one objective only, so the rule is our own. A *rung* is an epoch of one of a
trial's trainings. There the trial is compared with all that came by before it, and the best one in ``eta``
continues. No one waits for anybody, so any number of workers may ask, each at its own time (Li et al., *A
System for Massively Parallel Hyperparameter Tuning*, MLSys 2020; the variant that stops trials and never
resumes them).

Several objectives have no single order. Trials are ordered by non-dominated rank on the plane of IID and
OOD; within a rank by how much hypervolume each adds to what is ahead of it, the largest gain first (our
reading: the order in which a front of so many points would be picked from them).

A trial that is swept has several points at a rung. It continues if one of them would: all points of all
trials stand in one order, and a trial's place is that of its first point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, PositiveInt

from painvrl.core.settings import Settings
from painvrl.run.config import TrainConfig
from painvrl.stats.dominance import hypervolume, ranks


class PruningConfig(Settings):
    """How hard, and when.

    The rungs lie in the first training of a run. That is the pretraining wherever a mask is learned: what
    comes after it costs several times as much, so a rung there would save little.
    """

    eta: float = Field(default=3.0, gt=1)
    """Of the trials at a rung the best one in so many continues."""
    evaluations: tuple[PositiveInt, ...] = Field(default=(2,), min_length=1)
    """Evaluations of the first training that are rungs, counted from 1."""


def rungs_of(config: TrainConfig, settings: PruningConfig) -> frozenset[str]:
    """The rungs of a run, as ``training/epoch``. A training that stops early meets no later rung."""
    first = "pretrain" if config.mask.source == "learned" else config.fusion.learners()[0].name
    every = config.training.evaluate_every
    return frozenset(f"{first}/{evaluation * every}" for evaluation in settings.evaluations)


def ahead_of(curves: Sequence[ArrayLike], own: int) -> int:
    """How many of the trials are ahead of the one at place ``own``.

    Args:
        curves: of each trial its points, ``[P, M]``, larger is better. A point that is not finite is behind
            all that are.
        own: its place.
    """
    tables = [np.asarray(curve, dtype=float) for curve in curves]
    points = np.concatenate(tables)
    trial = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    rank = ranks(points)
    first = rank[trial == own].min()
    ahead = set(trial[rank < first].tolist())
    equals = [int(row) for row in np.flatnonzero(rank == first)]
    if not np.isfinite(points[equals]).all():
        return len(ahead | set(trial[equals].tolist()) - {own})
    chosen: list[int] = []
    while True:  # the earlier one of two that add the same
        best = max(equals, key=lambda row: (hypervolume(points[[*chosen, row]]), -row))
        if trial[best] == own:
            return len(ahead)
        ahead.add(int(trial[best]))
        # What else a trial that is ahead has would only be counted again.
        chosen.append(best)
        equals.remove(best)


def places(count: int, eta: float) -> int:
    """How many of ``count`` trials at a rung go on: one in ``eta``, and at least one."""
    return max(1, math.ceil(count / eta))
