"""What was pruned, what failed, what broke a constraint, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from painvrl.engine.outcomes import Pruned
from painvrl.study.store.records import TrialRecord, TrialState


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A finished trial that is no candidate for the front.

    Attributes:
        kind: ``pruned``, ``failed`` or ``infeasible``.
        reason: the rung, the failure in a word, or the constraint.
        message: one sentence for people; may be empty.
        seconds: what it took.
    """

    trial: int
    kind: str
    reason: str
    message: str
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class LossCount:
    """How many trials were lost for one reason, and the seconds that they took."""

    kind: str
    reason: str
    trials: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Losses:
    """All of them by number, and counted, the most frequent reason first."""

    counts: tuple[LossCount, ...]
    rows: tuple[Loss, ...]


def losses(records: Iterable[TrialRecord]) -> Losses:
    """What a study lost, and why."""
    rows = tuple(
        Loss(trial=record.number, kind=kind, reason=reason, message=message, seconds=record.seconds)
        for record in records
        for kind, reason, message in _of(record)
    )
    trials = Counter((row.kind, row.reason) for row in rows)
    counts = tuple(
        LossCount(
            kind=kind,
            reason=reason,
            trials=count,
            seconds=sum(row.seconds or 0.0 for row in rows if (row.kind, row.reason) == (kind, reason)),
        )
        for (kind, reason), count in trials.most_common()
    )
    return Losses(counts=counts, rows=rows)


def _of(record: TrialRecord) -> Iterator[tuple[str, str, str]]:
    """Kind, reason and message: once for each constraint that a trial, with all its points, breaks."""
    if record.state is TrialState.PRUNED and isinstance(record.outcome, Pruned):
        yield "pruned", record.outcome.rung, record.outcome.message
    elif record.state is TrialState.PRUNED:
        yield "pruned", "unknown", ""
    elif record.reason is not None or record.state is TrialState.FAILED:
        yield "failed", record.reason or "unknown", record.message or ""
    elif all(point.violated for point in record.points):
        yield from (("infeasible", violation, "") for violation in record.violated)
