"""The two sides of a comparison: a study each, what is on its front, its ends and its knee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.core.errors import NothingFeasible
from painvrl.stats.dominance import hypervolume
from painvrl.study.choice.rules import KNEE
from painvrl.study.choice.selection import Placed, candidates_of, placed
from painvrl.study.report import Best
from painvrl.study.store.records import FINISHED, TrialRecord, front_of, trained
from painvrl.study.store.storage import StoredStudy
from painvrl.study.trial.user_values import UserStore


@dataclass(frozen=True, kw_only=True)
class ComparedStudy:
    """A study to compare, what its users got, and where it lies (for people)."""

    study: StoredStudy
    users: UserStore
    where: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two studies, all its trials counted.

    Attributes:
        where: its workspace or storage.
        finished, complete: trials. taken_over: those of them that another study has trained.
        front: the best first objective first.
        ends: the front's best of each objective.
        knee: the trial that the rule ``knee`` picks.
        hypervolume: between the front and zero.
    """

    study: str
    where: str
    finished: int
    complete: int
    front: tuple[Placed, ...]
    ends: tuple[Best, ...]
    knee: Placed
    hypervolume: float
    taken_over: int = 0


def side_of(one: ComparedStudy, records: Sequence[TrialRecord]) -> Side:
    """What a study has found.

    Args:
        one: where it lies.
        records: its trials. Nothing is read anew: a trial that lands meanwhile may move the knee off this
            front.

    Raises:
        NothingFeasible: no trial is feasible.
    """
    study = one.study
    on_front = front_of(records)
    if not on_front:
        raise NothingFeasible(f"the study {study.name!r} ({one.where}) has no feasible trial to compare")
    front = [placed(study.objectives, record) for record in on_front]
    first = study.objectives[0]
    knee = KNEE.choose(candidates_of(on_front, study.objectives))
    best = {name: max(front, key=lambda point: point.values[name]) for name in study.objectives}
    return Side(
        study=study.name,
        where=one.where,
        finished=sum(record.state in FINISHED for record in records),
        complete=len(trained(records)),
        front=tuple(sorted(front, key=lambda point: -point.values[first])),
        ends=tuple(
            Best(objective=name, trial=end.trial, name=end.name, value=end.values[name])
            for name, end in best.items()
        ),
        knee=front[knee.place],
        hypervolume=hypervolume([list(point.values.values()) for point in front]),
        taken_over=sum(record.taken_from is not None for record in records),
    )


def table_of(objectives: Sequence[str], front: Sequence[Placed]) -> NDArray[np.float64]:
    """``[T, M]``, the columns in the order of ``objectives``."""
    return np.array([[point.values[name] for name in objectives] for point in front])
