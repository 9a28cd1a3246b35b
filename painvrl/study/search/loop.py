"""The loop of a study: ask for points, have them trained, tell the results, until enough are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from painvrl.core.errors import StudyError
from painvrl.core.yamlfile import config_error
from painvrl.run.config import TrainConfig
from painvrl.study.file.space import Point
from painvrl.study.progress import Progress, TrialFinished, TrialStarted
from painvrl.study.search.asktell import Asked, Desk
from painvrl.study.search.budget import Budget
from painvrl.study.search.pruner import Pruner, axes_by_part
from painvrl.study.search.workers import Crew
from painvrl.study.store.records import FINISHED, TrialRecord, finished_here, front_of
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.port import Tracker
from painvrl.study.trial.objective import TrialJob
from painvrl.study.trial.outcomes import WORKER_DIED, Completed, Failed, Outcome
from painvrl.study.trial.sweep import Sweep

SPACE_TRIED = "every point of the space has been tried"
"""Why a study ends that wants more trials than there are points."""


@dataclass(frozen=True, kw_only=True)
class UnderWay:
    """A trial that was asked for and not told. ``job`` and ``run_id`` come after ``point``."""

    number: int
    point: Point
    start: float
    job: TrialJob | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class TrialLoop:
    """The loop. Everything that decides whether a trial counts is in the storage, not here."""

    stored: StoredStudy
    desk: Desk
    crew: Crew
    tracker: Tracker
    progress: Progress
    budget: Budget
    pruner: Pruner | None = None
    trial_timeout: float | None = None
    clock: Callable[[], float] = time.monotonic
    under_way: dict[int, UnderWay] = field(default_factory=dict)

    def run(self) -> str | None:
        """Run trials until the budget is spent; what is under way at an error is interrupted.

        Returns:
            Why it ended before there were as many trials as wanted, if it did.
        """
        mark_front(self.tracker, self.stored.trials())
        begun = self.clock()
        try:
            while True:
                ended_by = self.budget.spent(self.stored.trials(), self.clock() - begun)
                if ended_by is None:
                    self._start_trials()
                if not self.under_way:
                    enough = self.desk.finished() >= self.budget.trials
                    return None if enough else ended_by or SPACE_TRIED
                number, outcome = self.crew.next(self.progress.trial_stage, self._judge)
                self._end(number, outcome)
        except BaseException as error:
            for trial in self.under_way.values():
                self.desk.interrupt(trial.number)
                if isinstance(error, KeyboardInterrupt):
                    with suppress(StudyError):  # an interrupt stays one
                        self.tracker.kill(trial.run_id)
            raise

    def _start_trials(self) -> None:
        """Start as many trials as there is room for, and points left."""
        while (
            len(self.under_way) < self.crew.size
            and (finished := self.desk.finished()) + len(self.under_way) < self.budget.trials
        ):
            start = time.perf_counter()
            asked = self.desk.ask(under_way=len(self.under_way))
            if asked is None:
                return
            self._start(asked, finished, start)

    def _judge(self, number: int, rung: str, values: Mapping[str, float]) -> str | None:
        return None if self.pruner is None else self.pruner.judge(number, rung, values)

    def _start(self, asked: Asked, finished: int, start: float) -> None:
        others = len(self.under_way)
        trial = UnderWay(number=asked.number, point=asked.point, start=start)
        self.under_way[asked.number] = trial
        event = TrialStarted(
            number=asked.number,
            point=asked.point,
            finished=finished,
            wanted=self.budget.trials,
            others=others,
            title=_title(asked.number, asked.preset),
        )
        self.progress.trial_started(event)
        job = job_of(self.stored, asked.number, asked.point, asked.preset)
        if isinstance(job, Failed):
            self._end(asked.number, job)
            return
        rungs = frozenset[str]() if self.pruner is None else self.pruner.rungs(job.config)
        job = replace(job, rungs=rungs, timeout=self.trial_timeout)
        run_id = self.tracker.start(job)
        self.under_way[asked.number] = replace(trial, job=job, run_id=run_id)
        if run_id is not None:
            self.desk.attach_run(job.number, run_id)
        self.crew.start(job)

    def _end(self, number: int, outcome: Outcome) -> None:
        # Told before it is tracked: the storage is the truth, and a tracker can be mended.
        trial = self.under_way[number]
        if isinstance(outcome, Failed) and outcome.reason == WORKER_DIED and self.desk.retry(number):
            outcome = replace(outcome, message=f"{outcome.message}; its point is tried again")
            self.tracker.kill(trial.run_id)
        else:
            self.desk.tell(number, outcome)
            if trial.job is not None:
                self.tracker.finish(trial.run_id, trial.job, outcome)
        del self.under_way[number]
        records = self.stored.trials()
        mark_front(self.tracker, records)
        self._report(records, number, outcome, time.perf_counter() - trial.start)

    def _report(self, records: Sequence[TrialRecord], number: int, outcome: Outcome, seconds: float) -> None:
        front = front_of(records)
        values = None
        if isinstance(outcome, Completed):
            values = {name: outcome.metrics[name] for name in self.stored.objectives}
        self.progress.trial_finished(
            TrialFinished(
                number=number,
                outcome=outcome,
                values=values,
                seconds=seconds,
                finished=len(finished_here(records)),
                wanted=self.budget.trials,
                on_front=sum(point.number == number for point in front),
                front_size=len(front),
                title=_title(number, records[number].preset),
            )
        )


def mark_front(tracker: Tracker, records: Sequence[TrialRecord]) -> None:
    """Tell a tracker whose runs are on the front: a point that has none of its own goes by its training's."""
    front = {point.run_id for point in front_of(records)}
    finished = [each for record in records if record.state in FINISHED for each in (record, *record.points)]
    tracker.mark_front({each.run_id: each.run_id in front for each in finished if each.run_id is not None})


def _title(number: int, preset: str | None) -> str | None:
    """What a preset's trial is called in progress."""
    return None if preset is None else f"trial {number:>3} ({preset})"


def job_of(stored: StoredStudy, number: int, point: Point, preset: str | None = None) -> TrialJob | Failed:
    """The job of a point or a preset; a failure where its knobs together break a rule of the config."""
    try:
        config = stored.config_at(point, preset)
    except ValidationError as error:
        cause = config_error(error, TrainConfig, stored.config.model_dump(mode="json"))
        return Failed(reason="refused", message=str(cause))
    return TrialJob(
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
        knobs=stored.space.swept_in(config),
        objectives=stored.objectives,
        axes=axes_by_part(stored.objectives),
        constraints=stored.constraints,
        config=settings,
    )
