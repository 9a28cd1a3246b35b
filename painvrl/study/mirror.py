"""A study and its mirror: what a tracker is told of a stored study, at once or later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from painvrl.core.errors import StudyError
from painvrl.core.tables import Block, Result
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.user_value_store import UserStore
from painvrl.study.choice.picks import stored_picks
from painvrl.study.file.spec import spec_of
from painvrl.study.front import FrontTable, front_table
from painvrl.study.plots.figure import front_page
from painvrl.study.report.header import header_of
from painvrl.study.report.page import PAGE, report_page
from painvrl.study.search.source import job_of, mark_front
from painvrl.study.store.database import are_shared, sole_tracker
from painvrl.study.store.lock import study_run
from painvrl.study.store.patience import patiently
from painvrl.study.store.records import FINISHED, TrialState, finished_here, front_of, named, trained
from painvrl.study.store.storage import Attr, StoredStudy, milliseconds, open_study
from painvrl.study.tracking.mlflow_notes import tag_pick
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker
from painvrl.study.tracking.port import DEFAULT_UI_URL, FinishedTrial, StudyHeader, Tracker
from painvrl.study.tracking.spool import Spool, spool_of, spooled_studies


def open_tracker(
    tracker: Tracker, stored: StoredStudy, data: DataSummary, *, yaml: str, spool: Spool
) -> None:
    """Bring a tracker up to date with the storage, and store the runs that it has for it.

    Args:
        tracker: is opened.
        stored: the study.
        data: what it is trained on.
        yaml: its file.
        spool: what trials came to that the tracker has not got; what it has now is dropped.

    Raises:
        StudyError: the tracker or the storage refuses.
    """
    with _one_at_a_time(stored):  # the study has one run of its own
        finished = _opened(tracker, stored, data, yaml, spool)
    mark_front(tracker, stored.trials())
    for trial in finished:
        if trial.spooled:
            spool.drop(trial.record.number)


def _opened(
    tracker: Tracker, stored: StoredStudy, data: DataSummary, yaml: str, spool: Spool
) -> list[FinishedTrial]:
    records, spooled = stored.trials(), spool.load()
    frozen = stored.study.get_trials(deepcopy=False)
    alive = {record.run_id for record in records if record.state is TrialState.RUNNING}
    header = StudyHeader(
        name=stored.name,
        objectives=stored.objectives,
        yaml=yaml,
        data=data,
        hyperparameters=tuple(stored.space.root),
        parent_run=stored.parent_run,
        alive=frozenset(run_id for run_id in alive if run_id is not None),
    )
    finished = []
    for record in records:
        job = job_of(stored, record.number, record.point, record.preset)
        if record.state not in FINISHED or not isinstance(job, Job):
            continue
        own = frozen[record.number]
        begun, ended = milliseconds(own.datetime_start), milliseconds(own.datetime_complete)
        trial = FinishedTrial(record=record, job=job, begun=begun, ended=ended)
        if (kept := spooled.get(record.number)) is not None:
            whole = replace(record, outcome=kept.outcome)
            trial = replace(trial, record=whole, spooled=True, ended=kept.ended)
        finished.append(trial)
    opened = tracker.open(header, finished)
    if opened.parent_run is not None:
        stored.study.set_user_attr(Attr.PARENT_RUN, opened.parent_run)
        of_trials = {name: run_id for name, run_id in _runs(stored).items() if name.isdecimal()}
        rewritten = {str(number): run_id for number, run_id in opened.rewritten.items()}
        # A point whose run is gone goes by its training's until it gets a new one.
        _keep_runs(stored, {**of_trials, **rewritten, **opened.points})
    return finished


def track_points(tracker: Tracker, stored: StoredStudy) -> None:
    """At the end: a swept study's points on the front get runs of their own; which runs are on the front."""
    if any(record.points for record in stored.trials()):
        with _one_at_a_time(stored):  # each point has one run, whoever makes it
            records = stored.trials()
            front = {point.name for point in front_of(records)}
            made = tracker.points(trained(records), front, stored.config_of)
            _keep_runs(stored, {**_runs(stored), **made})
    mark_front(tracker, stored.trials())  # others may have moved it


def show(tracker: Tracker, stored: StoredStudy, workspace: Workspace, ui_url: str) -> FrontTable:
    """Close a tracker with all that is to show of a study that has ended; its front."""
    table = front_table(stored, stored_picks(stored))
    picture = front_page(table)
    pages = {} if picture is None else {"front.html": picture}
    if table.rows:
        users = UserStore(workspace.users / stored.name)
        pages[PAGE] = report_page(stored, users, runs=tracker.run_pages(ui_url))[1]
    tracker.close("FINISHED" if table.rows else "FAILED", pages=pages, front=table)
    return table


@dataclass(frozen=True, kw_only=True)
class Synced(Result):
    """What a tracker got that it was to get.

    Attributes:
        studies: of each study how many trials' results it got.
        lacking: of how many more the storage has no finished trial, where there are some. They are set aside.
        unreadable: how many files with results cannot be read, where there are some. They are set aside.
        left: why a study was left as it is.
    """

    studies: dict[str, int]
    lacking: dict[str, int]
    unreadable: dict[str, int]
    left: dict[str, str]

    def blocks(self) -> Iterator[Block]:
        """A line a study."""
        if not self.studies and not self.left:
            yield "nothing is kept that MLflow lacks"
        for study, count in self.studies.items():
            yield f"{study}: MLflow is up to date; trials whose results it got: {count}"
        for study, count in self.lacking.items():
            yield (
                f"{study}: results of trials that the studies' database lacks: {count}; "
                f"set aside in spool/{study} of the workspace, as .TRIAL.json.lacking"
            )
        for study, count in self.unreadable.items():
            yield (
                f"{study}: files with results that cannot be read: {count}; "
                f"set aside in spool/{study} of the workspace, as .TRIAL.json.unreadable"
            )
        for study, why in self.left.items():
            yield f"{study}: left as it is: {why}"


def sync(workspace: Workspace, *, storage: str | None = None) -> Synced:
    """Write to the tracker what it is still to get of the studies of a workspace.

    Args:
        workspace: where it is kept.
        storage: the URL of the studies' database in place of the workspace's own.

    Raises:
        StudyError: the tracker or the database does not answer. What is kept stays.
    """
    studies, lacking, unreadable, left = {}, {}, {}, {}
    for name in spooled_studies(workspace):
        spool = spool_of(workspace, name)
        try:
            stored = open_study(name, workspace, storage=storage)
            held = study_run(stored, workspace)
        except StudyError as error:
            left[name] = str(error)
            continue
        with held as mine:
            if not mine:
                left[name] = "it is being run, and catches up by itself"
                continue
            studies[name], aside, damaged = _sync(stored, workspace, spool)
        if aside:
            lacking[name] = aside
        if damaged:
            unreadable[name] = damaged
    return Synced(studies=studies, lacking=lacking, unreadable=unreadable, left=left)


def _sync(stored: StoredStudy, workspace: Workspace, spool: Spool) -> tuple[int, int, int]:
    """Bring a tracker up to date; how many results it got, have no trial, and cannot be read."""
    spooled = len(spool.load())
    tracker = mlflow_tracker(workspace)
    noted = header_of(stored)
    data = DataSummary(
        fingerprint=stored.identity.data,
        tables=() if noted is None else noted.tables,
        statistics=stored.study.user_attrs.get(Attr.SPLIT, {}).get("card", {}),
    )
    kept = stored.study.user_attrs.get(Attr.FILE)
    yaml = spool.yaml or ("" if kept is None else dump_yaml(spec_of(kept)))
    open_tracker(tracker, stored, data, yaml=yaml, spool=spool)
    track_points(tracker, stored)
    if len(finished_here(stored.trials())) >= stored.requested:
        show(tracker, stored, workspace, DEFAULT_UI_URL)
    else:
        tracker.close("KILLED")
    records = stored.trials()
    for pick in stored_picks(stored):
        record = named(records, pick.name)
        with suppress(StudyError):
            run_id = None if record is None else record.run_id
            tag_pick(stored, workspace, alias=pick.alias, run_id=run_id, reason=pick.reason)
    lacking = spool.load().keys() - {record.number for record in stored.trials() if record.state in FINISHED}
    for number in lacking:
        spool.set_aside(number)
    return spooled - len(lacking), len(lacking), spool.end()


def _runs(stored: StoredStudy) -> dict[str, str]:
    """Runs of trials and points that are others than their trials began with, by name."""
    return dict(stored.study.user_attrs.get(Attr.RUNS, {}))


def _keep_runs(stored: StoredStudy, runs: dict[str, str]) -> None:
    if runs != _runs(stored):
        stored.study.set_user_attr(Attr.RUNS, runs)


@contextmanager
def _one_at_a_time(stored: StoredStudy) -> Iterator[None]:
    """Of several processes that run the study one alone makes runs that belong to all."""
    url = stored.storage.url
    with ExitStack() as lock:
        if are_shared(url):
            patiently(lambda: lock.enter_context(sole_tracker(url, stored.name)))
        yield
