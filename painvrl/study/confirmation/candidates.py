"""Who may be on the front: its points, and points that noise alone may have kept off it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from painvrl.engine.outcomes import Completed, point_name
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import Point
from painvrl.stats.seed_effects import fit
from painvrl.study.confirmation.decision import plausible
from painvrl.study.store.records import TrialRecord, feasible, front_of
from painvrl.study.store.storage import StoredStudy

NEAR = 2.0
"""A dominated point joins within so many standard deviations of a difference."""

FEW = 4
"""So many dominated points may join a small front; a larger one as many as it has trainings."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A point that may be on the front.

    Attributes:
        trial: the number of the trial that trained it in the study.
        config: what that trial trained.
        first: ``[M]``, what the study measured.
        place: among the points of its trial; ``None`` if that was not swept.
        at: all points of its trial, candidates or not. Under each seed the training is scored at all of
            them: whoever joins later finds its values there.
        preset: see :class:`painvrl.study.store.records.TrialRecord`.
        run_id: the point's MLflow run, which may be that of its trial.
        also: names of later points of the same configuration.
        source: whether it was on the study's front, or joined as a dominated point.
    """

    trial: int
    config: TrainConfig
    first: tuple[float, ...]
    place: int | None = None
    at: tuple[Point, ...] = ()
    preset: str | None = None
    run_id: str | None = None
    also: tuple[str, ...] = ()
    source: Literal["front", "near"] = "front"

    @property
    def name(self) -> str:
        """What people call it, and what tells it from all other candidates."""
        return point_name(self.trial, self.place)

    def metrics_in(self, run: Completed) -> Mapping[str, float]:
        """What the point came to in a run of its training."""
        return run.metrics if self.place is None else run.points[self.place].metrics


def candidates_of(study: StoredStudy) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """The candidates on the study's front, and those that are dominated; both by trial and place.

    Points of one configuration are one candidate.
    """
    records = study.trials()
    front = front_of(records)
    members = {record.name for record in front}
    dominated = [record for record in feasible(records) if record.name not in members]
    grouped: dict[str, Candidate] = {}
    for record in (*front, *dominated):
        config = study.config_of(record).model_dump_json()
        known = grouped.get(config)
        grouped[config] = (
            _candidate(study, record, records[record.number], record.name in members)
            if known is None
            else replace(known, also=(*known.also, record.name))
        )
    found = tuple(grouped.values())
    return tuple(one for one in found if one.source == "front"), tuple(
        one for one in found if one.source == "near"
    )


def near_the_front(
    front: Sequence[Candidate], runs: NDArray[np.float64], dominated: Sequence[Candidate]
) -> tuple[tuple[Candidate, ...], int]:
    """The dominated candidates that join, and how many are near but were left out.

    How far they are is seen on the study's own seeds, where all trials have been run; how large the noise of
    one seed is, under the fresh ones. A study of several seeds has less noise, so more join than need to. A
    front of a single training shows no difference between trainings: the spread of its points from seed to
    seed, which is larger, stands for it.

    Points of one training are alike, and each may be near. So the nearest of every training come first, then
    the second nearest of each; and a front's size is that of its trainings.

    Args:
        front: those on the front that did not fail.
        runs: ``[C, S, M]``, what they came to under the fresh seeds.
        dominated: the others.
    """
    if not dominated:
        return (), 0
    trainings = len({one.trial for one in front})
    spread = fit(runs).spread if trainings > 1 else np.sqrt(2 * runs.var(axis=1, ddof=1).mean(axis=0))
    distance = plausible(
        np.array([one.first for one in front]), np.array([one.first for one in dominated]), spread
    )
    near: list[tuple[int, Candidate]] = []
    before = Counter[int]()
    for place in np.argsort(distance, kind="stable"):
        if distance[place] <= NEAR:
            one = dominated[place]
            near.append((before[one.trial], one))
            before[one.trial] += 1
    near.sort(key=lambda ranked: ranked[0])  # stable, so the nearest of equal ones stay first
    most = max(FEW, trainings)
    return tuple(one for _, one in near[:most]), max(0, len(near) - most)


def _candidate(study: StoredStudy, record: TrialRecord, trial: TrialRecord, on_front: bool) -> Candidate:
    swept = trial.outcome.points if isinstance(trial.outcome, Completed) else ()
    return Candidate(
        trial=trial.number,
        config=study.config_of(trial),
        first=tuple(record.values or ()),
        place=record.place,
        at=tuple(point.values for point in swept),
        preset=record.preset,
        run_id=record.run_id,
        source="front" if on_front else "near",
    )
