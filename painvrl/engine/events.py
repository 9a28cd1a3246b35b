"""How a study tells what it is doing; the command line listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from painvrl.engine.job import DataSummary
from painvrl.engine.outcomes import Outcome


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What there is so far.

    Attributes:
        on_front: how many points of a trial are on the front. front_size: points on the front.
        best: value of each objective by name.
    """

    on_front: int = 0
    front_size: int = 0
    hypervolume: float = 0.0
    best: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyStarted:
    """A study begins or continues.

    Attributes:
        requested: finished trials requested in all. finished: those there already.
        reaped: numbers of trials that a dead process had left behind.
        data: what the trials are trained on, with the split's statistics.
        taken_over: trials of another study that it began with, and what was left out, in words.
        plan: where the trials requested come from, in words.
        standing: what earlier calls have found.
    """

    study: str
    requested: int
    finished: int
    resumed: bool
    reaped: tuple[int, ...]
    data: DataSummary
    taken_over: str | None = None
    plan: str | None = None
    standing: Standing = field(default_factory=Standing)


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial begins.

    Attributes:
        finished, requested: count the study's trials. others: trials that are under way already.
        title: what to call it instead of its number.
    """

    number: int
    finished: int
    requested: int
    others: int = 0
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """A trial completed or failed; one whose process died counts once its point is given up.

    Attributes:
        values: of the objectives by name; ``None`` for a failed trial.
        standing: what the study has found now.
        title: what to call it instead of its number.
    """

    number: int
    outcome: Outcome
    values: Mapping[str, float] | None
    seconds: float
    finished: int
    requested: int
    standing: Standing = field(default_factory=Standing)
    title: str | None = None


class Progress:
    """Receives a study's events, in order, in the process that runs the study; these methods do nothing."""

    def study_started(self, event: StudyStarted) -> None:
        """Before the first trial."""

    def trial_started(self, event: TrialStarted) -> None:
        """Before a trial."""

    def trial_stage(self, number: int, stage: str) -> None:
        """A trial enters a stage: ``pretrain``, ``round 1: mask``, ...

        The first one of a trial that continues says where (:data:`painvrl.core.observer.GOES_ON`).
        """

    def trial_finished(self, event: TrialFinished) -> None:
        """After a trial, when its results are stored."""
