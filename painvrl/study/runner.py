"""Running a study: ask for a point, train it, tell the result, until enough trials are finished."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from pydantic import ValidationError

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError, NothingFeasible, StudyError
from painvrl.study.asktell import Desk
from painvrl.study.lock import study_lock
from painvrl.study.objective import Failed, Objective, Outcome, TrainingObjective, TrialJob
from painvrl.study.progress import NullProgress, Progress, StudyStarted, TrialFinished, TrialStarted
from painvrl.study.records import FINISHED, front_of
from painvrl.study.report import FrontTable, StudyStatus, front_picture, front_table, status
from painvrl.study.space import Point, apply
from painvrl.study.spec import StudySpec, check_spec
from painvrl.study.storage import Attr, StoredStudy, create_study, lock_path
from painvrl.study.tracking import DEFAULT_UI_URL, FinishedTrial, StudyHeader, Tracker
from painvrl.workspace import Workspace
from painvrl.yamlfile import config_error, dump_yaml


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """What a study came to. ``link`` shows exactly the front in MLflow's UI."""

    study: str
    status: StudyStatus
    front: FrontTable
    link: str | None


def run_study(
    spec: StudySpec,
    workspace: Workspace,
    device: torch.device,
    *,
    trials: int | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
    objective: Objective | None = None,
    ui_url: str = DEFAULT_UI_URL,
) -> StudySummary:
    """Run a study, or go on with it, until it has as many finished trials as wanted.

    Args:
        spec: what to search.
        workspace: where everything is kept.
        device: where to train.
        trials: finished trials wanted in all, instead of ``spec.study.trials``.
        progress: hears of every trial.
        tracker: mirrors the study; MLflow by default.
        objective: computes the trials; training by default.
        ui_url: where MLflow's UI will be served, for the link.

    Raises:
        UserError: the specification, the data, the storage or the tracking store is not as it must be.
        NothingFeasible: there is no complete trial.
        KeyboardInterrupt: the user stopped the study. It is stored so far, and the same call goes on.
    """
    check_spec(spec)
    wanted = spec.study.trials if trials is None else trials
    if wanted < 1:
        raise ConfigError("must be at least 1", key="trials", value=trials)
    workspace.create()
    progress = progress or NullProgress()
    with study_lock(lock_path(spec, workspace), spec.study.name):
        if objective is None:
            objective = TrainingObjective(spec.config, cache_dir=workspace.cache, device=device)
        stored, resumed = create_study(spec, workspace, data=objective.data.fingerprint)
        stored.study.set_user_attr(Attr.WANTED, wanted)
        if tracker is None:
            from painvrl.study.mlflow_tracker import mlflow_tracker

            tracker = mlflow_tracker(workspace)
        desk = Desk(stored, spec.study)
        reaped = desk.reap()
        _open_tracker(tracker, spec, stored, objective)
        event = StudyStarted(
            study=stored.name,
            wanted=wanted,
            finished=desk.finished(),
            resumed=resumed,
            reaped=reaped,
            data=objective.data,
        )
        progress.study_started(event)
        runner = _Runner(stored, desk, objective, tracker, progress, wanted)
        try:
            runner.run()
        except BaseException as error:
            with suppress(StudyError):  # the first error, or the interrupt, is the one to show
                tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        table = front_table(stored)
        tracker.close("FINISHED" if table.rows else "FAILED", picture=front_picture(table))
        if not table.rows:
            raise NothingFeasible(_nothing_feasible(stored))
        return StudySummary(study=stored.name, status=status(stored), front=table, link=tracker.link(ui_url))


@dataclass(frozen=True)
class _Runner:
    """The loop. Everything that decides whether a trial counts is in the storage, not here."""

    stored: StoredStudy
    desk: Desk
    objective: Objective
    tracker: Tracker
    progress: Progress
    wanted: int

    def run(self) -> None:
        self._mark_front()
        while (finished := self.desk.finished()) < self.wanted:
            self._trial(finished)

    def _trial(self, finished: int) -> None:
        start = time.perf_counter()
        asked = self.desk.ask()
        run_id = None
        try:
            event = TrialStarted(
                number=asked.number, point=asked.point, finished=finished, wanted=self.wanted
            )
            self.progress.trial_started(event)
            job = _job(self.stored, asked.number, asked.point)
            if isinstance(job, Failed):
                outcome: Outcome = job
            else:
                run_id = self.tracker.start(job)
                if run_id is not None:
                    self.desk.attach_run(job.number, run_id)
                outcome = self.objective(job, partial(self.progress.trial_stage, job.number))
            # Told before it is tracked: the storage is the truth, and a tracker can be mended.
            self.desk.tell(asked.number, outcome)
            if isinstance(job, TrialJob):
                self.tracker.finish(run_id, job, outcome)
        except KeyboardInterrupt:
            self.desk.interrupt(asked.number)
            with suppress(StudyError):  # an interrupt stays one
                self.tracker.kill(run_id)
            raise
        except BaseException:
            self.desk.interrupt(asked.number)
            raise
        self._mark_front()
        self._report(asked.number, outcome, time.perf_counter() - start)

    def _mark_front(self) -> None:
        records = self.stored.trials()
        front = {record.number for record in front_of(records)}
        finished = [record for record in records if record.state in FINISHED]
        self.tracker.mark_front(
            {record.run_id: record.number in front for record in finished if record.run_id is not None}
        )

    def _report(self, number: int, outcome: Outcome, seconds: float) -> None:
        records = self.stored.trials()
        front = {record.number for record in front_of(records)}
        values = None
        if not isinstance(outcome, Failed):
            values = {name: outcome.metrics[name] for name in self.stored.objectives}
        self.progress.trial_finished(
            TrialFinished(
                number=number,
                outcome=outcome,
                values=values,
                seconds=seconds,
                finished=sum(record.state in FINISHED for record in records),
                wanted=self.wanted,
                on_front=number in front,
                front_size=len(front),
            )
        )


def _job(stored: StoredStudy, number: int, point: Point) -> TrialJob | Failed:
    """The job of a point; a failure where two knobs together break a rule of the configuration."""
    try:
        return TrialJob(number=number, point=point, config=apply(stored.config, point))
    except ValidationError as error:
        cause = config_error(error, TrainConfig, stored.config.model_dump(mode="json"))
        return Failed(reason="refused", message=str(cause))


def _open_tracker(tracker: Tracker, spec: StudySpec, stored: StoredStudy, objective: Objective) -> None:
    header = StudyHeader(
        name=stored.name,
        objectives=stored.objectives,
        yaml=dump_yaml(spec.model_copy(update={"study": spec.study.model_copy(update={"storage": None})})),
        data=objective.data,
        parent_run=stored.parent_run,
    )
    finished = []
    for record in stored.trials():
        job = _job(stored, record.number, record.point)
        if record.state in FINISHED and isinstance(job, TrialJob):
            finished.append(FinishedTrial(record=record, job=job))
    opened = tracker.open(header, finished)
    if opened.parent_run is not None:
        stored.study.set_user_attr(Attr.PARENT_RUN, opened.parent_run)
    if opened.rewritten:
        moved = stored.study.user_attrs.get(Attr.RUNS, {})
        new = {str(number): run_id for number, run_id in opened.rewritten.items()}
        stored.study.set_user_attr(Attr.RUNS, {**moved, **new})


def _nothing_feasible(stored: StoredStudy) -> str:
    failures = status(stored).failures
    last = f"; the last said {failures[-1].reason}: {failures[-1].message}" if failures else ""
    return f"the study {stored.name!r} has no complete trial: all {len(failures)} failed{last}"
