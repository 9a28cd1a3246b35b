"""The one loop of many runs: start jobs, take in what they come to, until their source has no more.

A study, an ablation, a confirmation and the baselines are sources. A source decides which jobs there are,
what counts as done and where it is kept. The loop holds nothing that a later process needs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from painvrl.core.errors import StudyError, UserError
from painvrl.engine.events import Progress, Standing, TrialFinished, TrialStarted
from painvrl.engine.executor import Executor
from painvrl.engine.job import Job
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome
from painvrl.run.hyperparameters import Point

MAX_DEATHS = 3
"""A job over which so many processes died counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a source wants next.

    Attributes:
        number: of the job, which it shares with no other.
        point, title: for people.
        job: what to compute, or why its configuration cannot be trained at all.
    """

    number: int
    point: Point
    job: Job | Failed
    title: str | None = None


class Tracker(Protocol):
    """A mirror of jobs for people to look at."""

    def start(self, job: Job) -> str | None:
        """A job begins; the id of its run."""

    def finish(self, run_id: str | None, job: Job, outcome: Outcome) -> None:
        """A job came to its outcome."""

    def kill(self, run_id: str | None) -> None:
        """A job was interrupted, or the process died that computed it."""


class Source(Protocol):
    """Where jobs come from and what they come to is kept."""

    @property
    def requested(self) -> int:
        """Finished jobs requested in all, as far as is known."""

    def finished(self) -> int:
        """Those that are finished, also by earlier processes."""

    def next(self, under_way: int) -> Task | None:
        """What to start now that so many are under way; ``None`` where nothing is, for the time being."""

    def started(self, task: Task, run_id: str | None) -> None:
        """The task's job has begun, and this is its run."""

    def judge(self, number: int, rung: str, values: Mapping[str, float]) -> str | None:
        """Why a job is to stop at a rung, or ``None``."""

    def retry(self, task: Task) -> bool:
        """The process died that computed the task: whether it comes again, as a task of its own."""

    def keep(self, task: Task, outcome: Outcome) -> None:
        """Keep what a task came to. The tracker comes later: it can be mended."""

    def tracked(self, task: Task, run_id: str | None) -> None:
        """The task has ended, for good or to come again, and its run with it."""

    def interrupted(self, task: Task) -> None:
        """The task was under way when an error or a person ended the loop."""

    def objectives(self) -> Sequence[str]:
        """Names of the metrics that progress reports."""

    def standing(self, number: int) -> Standing:
        """What there is so far, with a job's share of the front; zeros where there is no front."""


@dataclass(kw_only=True)
class _UnderWay:
    task: Task
    start: float
    run_id: str | None = None


def run_jobs(source: Source, executor: Executor, tracker: Tracker, progress: Progress) -> None:
    """Run the jobs of a source until it has no more; what is under way at an error is interrupted.

    Raises:
        UserError: what keeps or tracks the outcomes is not as it must be.
        KeyboardInterrupt: the user stopped it. What is finished is kept.
    """
    _Loop(source, executor, tracker, progress).run()


class _Loop:
    def __init__(self, source: Source, executor: Executor, tracker: Tracker, progress: Progress) -> None:
        self._source = source
        self._executor = executor
        self._tracker = tracker
        self._progress = progress
        self._under_way: dict[int, _UnderWay] = {}

    def run(self) -> None:
        try:
            while True:
                self._start_jobs()
                if not self._under_way:
                    return
                self._end(*self._executor.next(self._progress.trial_stage, self._source.judge))
        except BaseException as error:
            for each in self._under_way.values():
                with suppress(UserError):  # the first error is the one to show
                    self._source.interrupted(each.task)
                if isinstance(error, KeyboardInterrupt):
                    with suppress(StudyError):  # an interrupt stays one
                        self._tracker.kill(each.run_id)
            raise

    def _start_jobs(self) -> None:
        """Start as many as there is room for."""
        while len(self._under_way) < self._executor.size:
            start, finished = time.perf_counter(), self._source.finished()
            task = self._source.next(len(self._under_way))
            if task is None:
                return
            self._start(_UnderWay(task=task, start=start), finished)

    def _start(self, begun: _UnderWay, finished: int) -> None:
        task, others = begun.task, len(self._under_way)
        self._under_way[task.number] = begun
        self._progress.trial_started(
            TrialStarted(
                number=task.number,
                finished=finished,
                requested=self._source.requested,
                others=others,
                title=task.title,
            )
        )
        if isinstance(task.job, Failed):
            self._end(task.number, task.job)
            return
        begun.run_id = self._tracker.start(task.job)
        self._source.started(task, begun.run_id)
        self._executor.start(task.job)

    def _end(self, number: int, outcome: Outcome) -> None:
        ended = self._under_way[number]
        task, run_id = ended.task, ended.run_id
        if isinstance(outcome, Failed) and outcome.reason == WORKER_DIED and self._source.retry(task):
            outcome = replace(outcome, message=f"{outcome.message}; it is tried again")
            self._tracker.kill(run_id)
        else:
            self._source.keep(task, outcome)
            if isinstance(task.job, Job):
                self._tracker.finish(run_id, task.job, outcome)
        del self._under_way[number]
        self._source.tracked(task, run_id)
        self._report(task, outcome, time.perf_counter() - ended.start)

    def _report(self, task: Task, outcome: Outcome, seconds: float) -> None:
        values = None
        if isinstance(outcome, Completed):
            values = {name: outcome.metrics[name] for name in self._source.objectives()}
        self._progress.trial_finished(
            TrialFinished(
                number=task.number,
                outcome=outcome,
                values=values,
                seconds=seconds,
                finished=self._source.finished(),
                requested=self._source.requested,
                standing=self._source.standing(task.number),
                title=task.title,
            )
        )
