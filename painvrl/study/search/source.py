"""A study as a source of jobs: points are asked for, and results are reported, until enough are finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from painvrl.core.yamlfile import config_error
from painvrl.engine.events import Standing
from painvrl.engine.job import Job
from painvrl.engine.loop import Death, TakenOver, Task
from painvrl.engine.outcomes import Failed, Outcome
from painvrl.engine.sweep import Sweep
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import Point
from painvrl.study.front import standing_of
from painvrl.study.search.asktell import Asked, AskTell
from painvrl.study.search.budget import Budget
from painvrl.study.search.pruner import Pruner, axes_by_part
from painvrl.study.store.lease import Leases, alone
from painvrl.study.store.records import FINISHED, TrialRecord, front_of
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.port import Tracker

SPACE_TRIED = "every point of the space has been tried"
"""Why a study ends that wants more trials than there are points."""

LOOK_AGAIN = 2.0
"""Seconds between two looks at what becomes of the last trials, which other processes train."""

_logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class StudySource:
    """The trials of a study. Everything that decides whether a trial counts is in the storage, not here.

    Attributes:
        tracker: is given the runs on the front whenever a trial has ended.
        trains: whether this process trains, and not others that it would outlive.
        ended_by: why there are fewer trials than wanted, if no more is started.
    """

    stored: StoredStudy
    adapter: AskTell
    tracker: Tracker
    budget: Budget
    pruner: Pruner | None = None
    trial_timeout: float | None = None
    trains: bool = False
    clock: Callable[[], float] = time.monotonic
    ended_by: str | None = None
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        self._begun = self.clock()

    @property
    def requested(self) -> int:
        """Finished trials in all."""
        return self.budget.trials

    def finished(self) -> int:
        """Those of earlier processes included."""
        return self.adapter.finished()

    def next(self, under_way: int) -> Task | None:
        """The next point, as long as the budget is not spent and there are points left.

        Where this process has nothing under way, and others have the last ones, it waits for what becomes
        of them: a point whose process dies is trained here.
        """
        self._reap()
        while (asked := self._reserved()) is None:
            if under_way or self.ended_by not in {None, SPACE_TRIED} or not self._others_work():
                return None
            time.sleep(LOOK_AGAIN)
            self._reap()
        try:
            return self._task(asked)
        except BaseException:
            with suppress(Exception):  # the first error is the one to show
                self.adapter.interrupt(asked.number)  # the loop knows nothing of it yet
            raise

    def _reap(self) -> None:
        """Queue again what other processes have left behind meanwhile; its runs are over."""
        if not self.leases.shared:
            return
        for number in self.adapter.reap():
            record = self.stored.trials()[number]
            job = job_of(self.stored, number, record.point, record.preset)
            if record.outcome is None or not isinstance(job, Job):
                _logger.warning("note: nothing was heard of who trained trial %d; it is tried again", number)
                self.tracker.kill(record.run_id)
            else:
                self.tracker.finish(record.run_id, job, record.outcome)

    @property
    def leases(self) -> Leases:
        """Of the trials under way."""
        return self.adapter.leases

    @alone
    def _reserved(self) -> Asked | None:
        """Ask for a point, if there is still one to ask for: counting and asking are one transaction."""
        self.ended_by = None
        finished = self.finished()
        if finished >= self.requested:
            return None
        self.ended_by = self.budget.spent(self.stored.trials(), self.clock() - self._begun)
        if self.ended_by is not None or finished + self.adapter.running() >= self.requested:
            return None
        asked = self.adapter.ask()
        if asked is None:
            self.ended_by = SPACE_TRIED
        return asked

    def _others_work(self) -> bool:
        return self.finished() < self.requested and self.adapter.running() > 0

    def _task(self, asked: Asked) -> Task:
        job = job_of(self.stored, asked.number, asked.point, asked.preset)
        if isinstance(job, Job):
            rungs = frozenset[str]() if self.pruner is None else self.pruner.rungs(job.config)
            job = replace(job, rungs=rungs, timeout=self.trial_timeout, run_id=asked.run_id)
        title = _title(asked.number, asked.preset)
        return Task(number=asked.number, point=asked.point, job=job, title=title)

    def started(self, task: Task, run_id: str | None) -> None:
        """The storage knows the trial's run."""
        if run_id is not None:
            with suppress(TakenOver):  # the loop hears of it when the trial ends
                self.adapter.attach_run(task.number, run_id)

    def got_on(self, task: Task, death: Death) -> None:
        """The storage knows how far a trial is whose process takes everything along."""
        if self.trains:
            with suppress(TakenOver):  # the loop hears of it when the trial ends
                self.adapter.got_on(task.number, death)

    def judge(self, number: int, rung: str, values: Mapping[str, float]) -> str | None:
        """What the pruner says."""
        try:
            return None if self.pruner is None else self.pruner.judge(number, rung, values)
        except TakenOver as error:
            return str(error)

    def retry(self, task: Task, death: Death) -> bool:
        """Its point is queued again."""
        return self.adapter.retry(task.number, death)

    def keep(self, task: Task, outcome: Outcome) -> None:
        """Reported to the storage, which is the truth."""
        self.adapter.tell(task.number, outcome)

    def tracked(self, task: Task, run_id: str | None) -> None:
        """The front may be another one now."""
        mark_front(self.tracker, self.stored.trials())

    def interrupted(self, task: Task) -> None:
        """Its point is tried again when the study continues."""
        self.adapter.interrupt(task.number)

    def objectives(self) -> Sequence[str]:
        """In the study's order."""
        return self.stored.objectives

    def standing(self, number: int) -> Standing:
        """A trial may have several points on the front."""
        return standing_of(self.stored, number)


def mark_front(tracker: Tracker, records: Sequence[TrialRecord]) -> None:
    """Tell a tracker whose runs are on the front: a point that has none of its own goes by its training's."""
    front = {point.run_id for point in front_of(records)}
    finished = [each for record in records if record.state in FINISHED for each in (record, *record.points)]
    tracker.mark_front({each.run_id: each.run_id in front for each in finished if each.run_id is not None})


def _title(number: int, preset: str | None) -> str | None:
    """What a preset's trial is called in progress."""
    return None if preset is None else f"trial {number:>3} ({preset})"


def job_of(stored: StoredStudy, number: int, point: Point, preset: str | None = None) -> Job | Failed:
    """The job of a point or a preset; a failure where its values together break a rule of the config."""
    try:
        config = stored.config_at(point, preset)
    except ValidationError as error:
        cause = config_error(error, TrainConfig, stored.config.model_dump(mode="json"))
        return Failed(reason="refused", message="; ".join(map(str, cause.each)))
    return Job(
        number=number,
        point=point,
        config=config,
        preset=preset,
        key=stored.name,
        seeds=stored.identity.seeds,
        sweep=sweep_of(stored, config),
    )


def sweep_of(stored: StoredStudy, config: TrainConfig) -> Sweep | None:
    """What a training of ``config`` is swept over; ``None`` where nothing is."""
    settings = stored.sweep
    if settings is None or not stored.swept:
        return None
    return Sweep(
        hyperparameters=stored.space.swept_in(config),
        objectives=stored.objectives,
        axes=axes_by_part(stored.objectives),
        constraints=stored.constraints,
        config=settings,
    )
