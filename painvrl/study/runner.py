"""Running a study: its lock, its data, its workers and its tracker around the loop of its trials."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.core.tables import Block, Result
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.events import Progress, StudyStarted
from painvrl.engine.executor import Placement, SerialExecutor, executor_of
from painvrl.engine.job import DataSummary, Objective
from painvrl.engine.loop import run_jobs
from painvrl.engine.training import TrainingObjective
from painvrl.engine.user_value_store import SaveUserValues
from painvrl.study.file.checks import check_measured
from painvrl.study.file.plan import by_origin, in_words
from painvrl.study.file.spec import StudySpec, check_spec, pretraining_comes_back, spec_of
from painvrl.study.front import FrontTable, StudyStatus, standing_of, status
from painvrl.study.mirror import open_tracker, show, track_points
from painvrl.study.report.header import note_header
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.budget import Budget
from painvrl.study.search.pruner import Pruner
from painvrl.study.search.pruning import PruningConfig
from painvrl.study.search.source import StudySource
from painvrl.study.store.creation import create_study
from painvrl.study.store.database import are_shared, quick_commits
from painvrl.study.store.lock import held_study, spare_room
from painvrl.study.store.records import TrialState, why_no_front
from painvrl.study.store.storage import Attr, StoredStudy, milliseconds, note_code, open_study
from painvrl.study.store.warm_start import warm_start_of
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker
from painvrl.study.tracking.patient_tracker import PatientTracker
from painvrl.study.tracking.port import DEFAULT_UI_URL, Status, Tracker
from painvrl.study.tracking.spool import spool_of

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StudySummary(Result):
    """What a study came to.

    Attributes:
        link: shows the front in MLflow's UI.
        ended_by: why there are fewer trials than wanted, if there are.
    """

    study: str
    status: StudyStatus
    front: FrontTable
    link: str | None
    ended_by: str | None = None

    def blocks(self) -> Iterator[Block]:
        """The front, what else is to say, and the link."""
        yield from self.front.blocks()
        if self.status.repeats:
            yield self.status.repeats
        if self.ended_by:
            yield f"ended before all trials: {self.ended_by}"
        if self.link:
            if self.link.startswith(DEFAULT_UI_URL):
                yield "The front in MLflow, while `painvrl ui` runs:"
            yield self.link


def run_study(
    spec: StudySpec,
    workspace: Workspace,
    device: torch.device,
    *,
    trials: int | None = None,
    workers: int = 1,
    memory_fraction: float | None = None,
    placement: Placement | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
    objective: Objective | None = None,
    ui_url: str = DEFAULT_UI_URL,
    new_version: bool = False,
    warm_start: str | None = None,
    joined: bool = False,
) -> StudySummary:
    """Run a study, or continue it, until it has as many finished trials as wanted.

    In a PostgreSQL any number of processes may do so at once, on one host or on several: they share the
    trials, and each returns when all are finished.

    Args:
        spec: what to search.
        workspace: where everything is kept.
        device: where to train; ``cuda`` without a number is all CUDA devices, dealt to the workers.
        trials: finished trials requested in all, instead of ``spec.study.trials``.
        workers: trials at a time. One trains in this process, more in as many processes beside it.
        memory_fraction: see :func:`painvrl.engine.executor.executor_of`.
        placement: who trains, if not this process or processes beside it.
        progress: is called on every trial.
        tracker: mirrors the study; MLflow by default.
        objective: computes the trials of a single worker, in this process; training by default.
        ui_url: where MLflow's UI will be served, for the link.
        new_version: where the study's trials would not compare, make its next version.
        warm_start: a study of the same storage whose trials a new one takes over.
        joined: ``spec`` was read of the study, whose total holds: nothing of it is written there again.

    Raises:
        UserError: the specification, the data, the storage or the tracking store is not as it must be.
        NothingFeasible: there is no complete trial that keeps to the constraints.
        KeyboardInterrupt: the user stopped the study. It is stored so far, and the same call continues.
    """
    check_spec(spec)
    wanted = spec.study.trials if trials is None else trials
    if wanted < 1:
        raise ConfigError("must be at least 1", key="trials", value=trials)
    if objective is not None and workers != 1:
        rule = "must be 1 with an objective of one's own: only training goes to other processes"
        raise ConfigError(rule, key="workers", value=workers)
    workspace.create()
    progress = progress or Progress()
    with (
        held_study(spec, workspace),
        executor_of(
            partial(
                TrainingObjective,
                spec.config,
                cache_dir=workspace.cache,
                share_pretrained=pretraining_comes_back(spec.space),
                keep=SaveUserValues(folder=workspace.users, objectives=spec.objectives),
                seeds=spec.study.seeds,
                resume_dir=workspace.run_states,
            ),
            device,
            workers,
            memory_fraction,
            objective,
            placement,
        ) as executor,
        ExitStack() as version,
    ):
        if executor.data.parts:  # a split by a column: only the data know its parts
            check_measured(spec, executor.data.parts)
        stored, resumed = create_study(
            spec,
            workspace,
            data=executor.data.fingerprint,
            new_version=new_version,
            warm_start=warm_start,
            joined=joined,
        )
        if stored.name != spec.study.name:  # a file of that name has a lock of its own
            version.enter_context(held_study(spec, workspace, stored.name))
        version.enter_context(quick_commits(stored.storage))
        make_room = version.enter_context(spare_room(spec, workspace, stored.name))
        adapter = AskTell(stored, spec.study, code=executor.data.numbers, make_room=make_room)
        if joined:
            spec, wanted = _kept_file(stored, spec.study.storage), stored.requested
        else:
            _note_run(stored, spec, wanted, executor.data)
        note_code(stored, executor.data.numbers)
        version.enter_context(adapter.leases.renewed())
        left, records = adapter.reap(), stored.trials()
        mirror = _begun_mirror(spec, workspace, stored, executor.data, tracker)
        began = warm_start_of(stored.study)
        taken_over = None if began is None else str(began)
        event = StudyStarted(
            study=stored.name,
            requested=wanted,
            finished=adapter.finished(),
            resumed=resumed,
            reaped=tuple(number for number in left if records[number].state is TrialState.INTERRUPTED),
            data=executor.data,
            taken_over=taken_over,
            plan=in_words(by_origin(spec, wanted)),
            standing=standing_of(stored),
        )
        progress.study_started(event)
        budget = Budget(trials=wanted, seconds=spec.study.timeout, stall=spec.study.stall)
        source = StudySource(
            stored=stored,
            adapter=adapter,
            tracker=mirror,
            budget=budget,
            pruner=_pruner(spec, stored),
            trial_timeout=spec.study.trial_timeout,
            trains=isinstance(executor, SerialExecutor),
        )
        try:
            run_jobs(source, executor, mirror, progress)
            adapter.reap()  # what a restart of the storage's server may have begun for nobody
            mirror.try_now()
            track_points(mirror, stored)
        except BaseException as error:
            _clear_up(stored, adapter, mirror, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        table = show(mirror, stored, workspace, ui_url)
        if not table.rows:
            raise NothingFeasible(why_no_front(stored.name, stored.trials()))
        return StudySummary(
            study=stored.name,
            status=status(stored),
            front=table,
            link=mirror.link(ui_url),
            ended_by=source.ended_by,
        )


def join_study(
    name: str,
    workspace: Workspace,
    device: torch.device,
    *,
    storage: str | None,
    workers: int = 1,
    memory_fraction: float | None = None,
    placement: Placement | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
    objective: Objective | None = None,
) -> StudySummary:
    """Work on a study that others run, from what they have stored of its file.

    The arguments are those of :func:`run_study`; ``name`` and ``storage`` say which study.

    Raises:
        StudyError: the study lies in a file, which one process runs; or there is no such study.
    """
    if storage is None or not are_shared(storage):
        rule = (
            "only a study in a PostgreSQL is joined; one in a SQLite file is for one process on one host: "
            "`painvrl study run SPEC.yaml --storage postgresql://...`"
        )
        raise StudyError(rule, key=name)
    stored = open_study(name, workspace, storage=storage)
    return run_study(
        _kept_file(stored, storage),
        workspace,
        device,
        workers=workers,
        memory_fraction=memory_fraction,
        placement=placement,
        progress=progress,
        tracker=tracker,
        objective=objective,
        joined=True,
    )


def _kept_file(stored: StoredStudy, storage: str | None) -> StudySpec:
    """The file that a study was last run with."""
    kept = stored.study.user_attrs.get(Attr.FILE)
    if kept is None:
        rule = "was run by an earlier version of painvrl alone: `painvrl study run SPEC.yaml` joins it"
        raise StudyError(rule, key=stored.name)
    return spec_of({**kept, "study": {**kept["study"], "storage": storage}})


def _begun_mirror(
    spec: StudySpec, workspace: Workspace, stored: StoredStudy, data: DataSummary, given: Tracker | None
) -> PatientTracker:
    spool = spool_of(workspace, stored.name)
    yaml = dump_yaml(spec.model_copy(update={"study": spec.study.model_copy(update={"storage": None})}))
    mirror = PatientTracker(
        (lambda: mlflow_tracker(workspace)) if given is None else (lambda: given),
        lambda there: open_tracker(there, stored, data, yaml=yaml, spool=spool),
        spool,
        catches_up="`painvrl workspace sync` writes it there, and so does the same command",
        ended=partial(_ended, stored),
    )
    mirror.begin()
    spool.begin(yaml)
    return mirror


def _ended(stored: StoredStudy, number: int) -> int | None:
    with suppress(StudyError):  # what the trial came to is kept all the same
        return milliseconds(stored.study.get_trials(deepcopy=False)[number].datetime_complete)
    return None


def _pruner(spec: StudySpec, stored: StoredStudy) -> Pruner | None:
    if spec.pruning is False:
        return None
    return Pruner(stored, PruningConfig() if spec.pruning is True else spec.pruning)


def _clear_up(stored: StoredStudy, adapter: AskTell, mirror: PatientTracker, status: Status) -> None:
    """The first error, or the interrupt, is the one to show, whatever the storage or MLflow say here."""
    others = _others_work(adapter)
    with suppress(Exception):
        if left := adapter.interrupt_all():
            said = (
                "note: trials that are left as running, since their end cannot be written: %d; the next "
                "`painvrl study run` ends them, and trains their points again"
            )
            _logger.warning(said, left)
    with suppress(Exception):
        mirror.try_now()
        if not others:
            track_points(mirror, stored)
    with suppress(Exception):
        if others:  # they go on with the study's run
            mirror.leave()
        else:
            mirror.close(status)


def _others_work(adapter: AskTell) -> bool:
    """Whether other processes have trials under way, after an error that ended those of this one."""
    with suppress(Exception):
        return adapter.leases.shared and adapter.running() > 0
    return False


def _note_seed(before: Mapping[str, Any] | None, spec: StudySpec) -> None:
    """Another seed trains no trial again."""
    if before is not None and (had := before["study"].get("seed", 0)) != spec.study.seed:
        _logger.warning(
            "note: study.seed is now %d, and was %d. It draws the trials that are still to come. "
            "config.seed is that of split and initialisation",
            *(spec.study.seed, had),
        )


def _note_run(stored: StoredStudy, spec: StudySpec, wanted: int, data: DataSummary) -> None:
    """What the study keeps of whoever runs it now.

    With its file `study work` needs the study's name alone; where it is stored is nothing that it tells.
    """
    stored.study.set_user_attr(Attr.REQUESTED, wanted)
    note_header(stored, spec.study, data)
    kept = spec.model_dump(mode="json", exclude_unset=True)
    kept["study"].pop("storage", None)
    before = stored.study.user_attrs.get(Attr.FILE)
    _note_seed(before, spec)
    if before != kept:
        stored.study.set_user_attr(Attr.FILE, kept)
