"""What a study remembers of its trials, in painvrl's own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from painvrl.engine.outcomes import Completed, Failed, Outcome, point_name
from painvrl.run.hyperparameters import Point
from painvrl.stats.dominance import non_dominated


class TrialState(StrEnum):
    """``INTERRUPTED`` trials were stopped or killed; their points are tried again.

    ``REPEATED`` ones were asked for, and not trained: an earlier trial had trained the same.
    """

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    REPEATED = "repeated"
    RUNNING = "running"
    WAITING = "waiting"


FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
"""States that count towards the number of trials that was asked for, unless they were taken over."""


@dataclass(frozen=True, kw_only=True)
class TakenFrom:
    """Where a trial was trained that a study took over: study and number there, and its MLflow run."""

    study: str
    trial: int
    run_id: str | None = None

    def __str__(self) -> str:
        """For people."""
        return f"trial {self.trial} of {self.study}"


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial, or one of the points of a trial that was swept.

    Attributes:
        number: from 0, in the order in which trials were started.
        state: see :class:`TrialState`.
        point: values of the hyperparameters (of a waiting or killed trial perhaps not all).
        values: of the objectives, in the study's order; only of complete trials.
        outcome: what the trial came to; ``None`` unless finished. Its curves are not kept.
        run_id: its MLflow run.
        seconds: wall time, tracking included.
        deaths: how many processes died over this point before.
        preset: the preset that it trained instead of a point of the space.
        violated: what of the study's constraints it breaks, a phrase each; such a trial is complete, but
            never on the front.
        repeats: the trial that had trained the same; of ``REPEATED`` ones.
        place: of a point among those of its trial; ``None`` of a trial.
        points: of a swept trial, the configuration's own values first.
        taken_from: where it was trained, if not by this study.
    """

    number: int
    state: TrialState
    point: Point
    values: tuple[float, ...] | None = None
    outcome: Outcome | None = None
    run_id: str | None = None
    seconds: float | None = None
    deaths: int = 0
    preset: str | None = None
    violated: tuple[str, ...] = ()
    repeats: int | None = None
    place: int | None = None
    points: tuple[TrialRecord, ...] = ()
    taken_from: TakenFrom | None = None

    @property
    def name(self) -> str:
        """What people call it, and what tells it from all others of its study."""
        return point_name(self.number, self.place)

    @property
    def metrics(self) -> Mapping[str, float]:
        """All metrics of the valid parts; empty unless complete."""
        return self.outcome.metrics if isinstance(self.outcome, Completed) else {}

    @property
    def first(self) -> Mapping[str, float]:
        """The metrics under the study's first seed: :attr:`metrics`, unless these are means over several."""
        first = self.outcome.first if isinstance(self.outcome, Completed) else {}
        return first or self.metrics

    @property
    def reason(self) -> str | None:
        """Why the trial failed, in a word."""
        return self.outcome.reason if isinstance(self.outcome, Failed) else None

    @property
    def message(self) -> str | None:
        """Why the trial failed, in a sentence."""
        return self.outcome.message if isinstance(self.outcome, Failed) else None


def finished_here(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials that count towards the number that was asked for: what the study itself has finished."""
    return [record for record in records if record.state in FINISHED and record.taken_from is None]


def named(records: Sequence[TrialRecord], name: str) -> TrialRecord | None:
    """The trial ``12`` or the point ``12.3`` among a study's records, if it is there."""
    number = name.partition(".")[0]
    if not (number.isascii() and number.isdecimal()) or int(number) >= len(records):
        return None
    record = records[int(number)]
    return next((one for one in (record, *record.points) if one.name == name), None)


def trained(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials. What an earlier version of painvrl trained twice counts once."""
    found: dict[object, TrialRecord] = {}
    for record in records:
        if record.values is not None:
            found.setdefault((record.preset, frozenset(record.point.items())), record)
    return list(found.values())


def complete(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The points of the complete trials: what may be chosen, each with values of its own."""
    return [point for record in trained(records) for point in record.points or (record,)]


def feasible(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete records that keep to the study's constraints."""
    return [record for record in complete(records) if not record.violated]


def why_no_front(study: str, records: Iterable[TrialRecord]) -> str:
    """One sentence on a study that has no trial on a front, for people."""
    finished = [record for record in records if record.state in FINISHED]
    if broken := complete(finished):
        phrase = "; ".join(broken[-1].violated)
        return f"no complete trial of the study {study!r} keeps to its constraints: the last, {phrase}"
    failed = [record for record in finished if record.reason is not None]
    if not failed:
        return f"the study {study!r} has no complete trial: none has ended yet"
    how_many = f"all {len(failed)}" if len(failed) == len(finished) else f"{len(failed)} of {len(finished)}"
    last = f"the last said {failed[-1].reason}: {failed[-1].message}"
    return f"the study {study!r} has no complete trial: {how_many} failed; {last}"


def front_of(records: Iterable[TrialRecord]) -> tuple[TrialRecord, ...]:
    """The feasible points that no other dominates, by number and place."""
    candidates = feasible(records)
    member = non_dominated([list(record.values or ()) for record in candidates])
    return tuple(record for record, on_front in zip(candidates, member, strict=True) if on_front)
