"""Who may be on the front: its trials, and trials that noise alone may have kept off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from painvrl.config import TrainConfig
from painvrl.study.confirmation.decision import plausible
from painvrl.study.confirmation.posterior import fit
from painvrl.study.store.records import TrialRecord, feasible, front_of
from painvrl.study.store.storage import StoredStudy

NEAR = 2.0
"""A dominated trial joins within so many standard deviations of a difference."""

FEW = 4
"""So many dominated trials may join a small front; a larger one as many as it has trials."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration that may be on the front.

    Attributes:
        trial: the number of the trial that trained it in the study.
        also: later trials of the same configuration.
        first: ``[M]``, what the study measured.
        preset: see :class:`painvrl.study.store.records.TrialRecord`.
        run_id: the trial's MLflow run.
        source: whether it was on the study's front, or joined as a dominated trial.
    """

    trial: int
    config: TrainConfig
    first: tuple[float, ...]
    preset: str | None = None
    run_id: str | None = None
    also: tuple[int, ...] = ()
    source: Literal["front", "near"] = "front"


def candidates_of(study: StoredStudy) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """The candidates on the study's front, and those that are dominated; both by trial.

    Trials of one configuration are one candidate.
    """
    records = study.trials()
    front = front_of(records)
    members = {record.number for record in front}
    dominated = [record for record in feasible(records) if record.number not in members]
    grouped: dict[str, Candidate] = {}
    for record in (*front, *dominated):
        config = study.config_of(record)
        known = grouped.get(config.model_dump_json())
        grouped[config.model_dump_json()] = (
            _candidate(record, config, record.number in members)
            if known is None
            else replace(known, also=(*known.also, record.number))
        )
    found = tuple(grouped.values())
    return tuple(one for one in found if one.source == "front"), tuple(
        one for one in found if one.source == "near"
    )


def near_the_front(
    front: Sequence[Candidate], runs: NDArray[np.float64], dominated: Sequence[Candidate]
) -> tuple[tuple[Candidate, ...], int]:
    """The dominated candidates that join, nearest first, and how many are near but were left out.

    How far they are is seen on the study's own seed, where all trials have been run; how large the noise is,
    under the fresh seeds. A front of a single candidate shows no difference: its own spread from seed to
    seed, which is larger, stands for it.

    Args:
        front: those on the front that did not fail.
        runs: ``[C, S, M]``, what they came to under the fresh seeds.
        dominated: the others.
    """
    if not dominated:
        return (), 0
    fitted = fit(runs)
    spread = fitted.spread if fitted.freedom > 0 else np.sqrt(2) * runs[0].std(axis=0, ddof=1)
    distance = plausible(
        np.array([one.first for one in front]), np.array([one.first for one in dominated]), spread
    )
    order = [int(place) for place in np.argsort(distance, kind="stable") if distance[place] <= NEAR]
    most = max(FEW, len(front))
    return tuple(dominated[place] for place in order[:most]), max(0, len(order) - most)


def _candidate(record: TrialRecord, config: TrainConfig, on_front: bool) -> Candidate:
    return Candidate(
        trial=record.number,
        config=config,
        first=tuple(record.values or ()),
        preset=record.preset,
        run_id=record.run_id,
        source="front" if on_front else "near",
    )
