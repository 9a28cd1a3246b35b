"""The one loop of many runs: start jobs, take in what they come to, until their source has no more.

A study, an ablation, a confirmation and the baselines are sources. A source decides which jobs there are,
what counts as done and where it is kept. The loop holds nothing that a later process needs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from painvrl.core.errors import StudyError
from painvrl.core.observer import KEPT
from painvrl.engine.events import Progress, Standing, TrialFinished, TrialStarted
from painvrl.engine.executor import Executor
from painvrl.engine.job import Job
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome
from painvrl.run.hyperparameters import Point

MAX_DEATHS = 3
"""A job over which so many processes died counts as failed; see :func:`deaths_after`."""

MAX_RUNNER_DEATHS = 5
"""As many where the process that runs the loop trains by itself: it may have been stopped for any reason."""

MAX_EARLY_DEATHS = 5
"""So many processes may die in a row before their jobs have begun, with no stage of any job in between."""


@dataclass(frozen=True, kw_only=True)
class Death:
    """How far a job was when its process died.

    Attributes:
        begun: whether it had entered a stage.
        kept: whether its state had been saved in this process: the next one begins further on.
    """

    begun: bool = True
    kept: bool = False


def deaths_after(deaths: int, death: Death) -> int:
    """The deaths that count against a job: those since its state was saved last, once it had begun.

    >>> deaths_after(1, Death()), deaths_after(1, Death(begun=False)), deaths_after(1, Death(kept=True))
    (2, 1, 0)
    """
    return 0 if death.kept else deaths + death.begun


class TakenOver(Exception):
    """A job that another process was given meanwhile, since nothing was heard of this one."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"nothing was heard of the process that trained trial {number}: its point went to another"
        )


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
        """A job begins, or goes on in its own run; the id of its run."""

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

    def got_on(self, task: Task, death: Death) -> None:
        """The task has begun, or its state was saved: what a death of its process would tell from now on."""

    def judge(self, number: int, rung: str, values: Mapping[str, float]) -> str | None:
        """Why a job is to stop at a rung, or ``None``."""

    def retry(self, task: Task, death: Death) -> bool:
        """The process died that computed the task: whether it comes again, as a task of its own."""

    def keep(self, task: Task, outcome: Outcome) -> None:
        """Keep what a task came to. The tracker comes later: it can be mended.

        Raises:
            TakenOver: nothing is kept.
        """

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
    death: Death = field(default_factory=lambda: Death(begun=False))


def run_jobs(source: Source, executor: Executor, tracker: Tracker, progress: Progress) -> None:
    """Run the jobs of a source until it has no more; what is under way at an error is interrupted.

    Raises:
        UserError: what keeps or tracks the outcomes is not as it must be, or processes die before they have
            begun.
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
        self._early_deaths = 0

    def run(self) -> None:
        try:
            while True:
                self._start_jobs()
                if not self._under_way:
                    return
                ended = self._executor.next(self._heard, self._source.judge)
                if ended is not None:
                    self._end(*ended)
        except BaseException as error:
            for each in self._under_way.values():
                with suppress(Exception):  # the first error is the one to show
                    self._source.interrupted(each.task)
                if isinstance(error, KeyboardInterrupt):
                    with suppress(Exception):  # an interrupt stays one
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

    def _heard(self, number: int, stage: str) -> None:
        self._early_deaths = 0
        job = self._under_way[number]
        before, job.death = job.death, Death(kept=job.death.kept or stage == KEPT)
        if job.death != before:
            self._source.got_on(job.task, job.death)
        if stage != KEPT:
            self._progress.trial_stage(number, stage)

    def _end(self, number: int, outcome: Outcome) -> None:
        ended = self._under_way[number]
        task, run_id = ended.task, ended.run_id
        died = isinstance(outcome, Failed) and outcome.reason == WORKER_DIED
        if died and not ended.death.begun:
            self._early_deaths += 1
            if self._early_deaths == MAX_EARLY_DEATHS:
                rule = "worker processes die before they train; where memory is short, take fewer --workers"
                raise StudyError(rule, value=MAX_EARLY_DEATHS)
        if died and self._source.retry(task, ended.death):
            assert isinstance(outcome, Failed)
            outcome = replace(outcome, message=f"{outcome.message}; it is tried again")
            self._tracker.kill(run_id)
        else:
            try:
                self._source.keep(task, outcome)
            except TakenOver as error:
                outcome = Failed(reason="taken_over", message=str(error))
                self._tracker.kill(run_id)
            else:
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
