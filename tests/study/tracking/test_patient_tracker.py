"""MLflow may be out of reach: the study goes on, and MLflow shows in the end what it would have shown."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Failed, Outcome
from painvrl.study import mirror, runner
from painvrl.study.choice.choosing import choose
from painvrl.study.file.spec import StudySpec
from painvrl.study.mirror import sync
from painvrl.study.runner import StudySummary, run_study
from painvrl.study.store.storage import open_study
from painvrl.study.tracking import mlflow_calls, patient_tracker
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker
from painvrl.study.tracking.patient_tracker import PatientTracker
from painvrl.study.tracking.port import PARENT, NullTracker, TrackerAway
from painvrl.study.tracking.spool import Spool, spool_of

CHANGING = {PARENT, "mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit"}


@dataclass
class Line:
    """Between a study and its tracker: ``down`` lets nothing through; of call ``lost`` the answer is lost."""

    down: bool = False
    lost: int | None = None
    calls: int = 0

    def tracker(self, workspace: Workspace) -> Any:
        """MLflow at the other end."""
        if self.down:
            raise TrackerAway("MLflow's server cannot be reached")
        made = mlflow_tracker(workspace)
        made._client = Cut(made._client, self)
        return made

    def cut(self) -> None:
        self.down = True

    def mend(self) -> None:
        self.down = False


class Cut:
    """MLflow's client at the end of a line."""

    def __init__(self, client: MlflowClient, line: Line) -> None:
        self._client, self._line = client, line

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if self._line.down:
                raise TrackerAway("MLflow's server cannot be reached")
            answer = getattr(self._client, name)(*arguments, **named)
            self._line.calls += 1
            if self._line.calls == self._line.lost:
                raise TrackerAway("the answer is lost")
            return answer

        return call


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    made = Line()
    for module in (runner, mirror):
        monkeypatch.setattr(module, "mlflow_tracker", made.tracker)
    monkeypatch.setattr(patient_tracker, "FIRST_PAUSE", 0.0)
    return made


def run(spec: StudySpec, workspace: Workspace, objective: Any, trials: int = 4) -> StudySummary:
    return run_study(spec, workspace, torch.device("cpu"), trials=trials, objective=objective)


def client_of(workspace: Workspace) -> MlflowClient:
    return MlflowClient(tracking_uri=workspace.tracking_uri)


def shown(workspace: Workspace) -> dict[str, object]:
    """All that MLflow shows of the runs of a study, by name, without ids and times."""
    client = client_of(workspace)
    experiment = client.get_experiment_by_name("painvrl")
    assert experiment is not None
    found: dict[str, object] = {}
    for one in client.search_runs([experiment.experiment_id]):
        run_id, name = one.info.run_id, one.info.run_name
        assert name not in found, "a run that is there twice"
        history = {
            key: sorted((each.step, each.value) for each in client.get_metric_history(run_id, key))
            for key in one.data.metrics
        }
        tags = {key: value for key, value in one.data.tags.items() if key not in CHANGING}
        tags.pop("mlflow.note.content", None)  # it links to runs
        files = sorted(file.path for file in client.list_artifacts(run_id))
        inputs = [each.dataset.digest for each in one.inputs.dataset_inputs]
        found[name] = (one.info.status, one.data.params, history, tags, files, inputs)
    return found


def agree(workspace: Workspace) -> None:
    """Each trial of the storage knows its run, which is a child of the study's and has its numbers."""
    stored = open_study("toy", workspace)
    client = client_of(workspace)
    for record in stored.trials():
        assert record.run_id is not None
        run = client.get_run(record.run_id)
        assert run.data.tags["trial"] == str(record.number)
        assert run.data.tags[PARENT] == stored.parent_run
        measured = {name: run.data.metrics[name] for name in record.metrics}
        assert measured == pytest.approx(dict(record.metrics))


@pytest.fixture
def other(tmp_path: Path, empty_storage: Path, empty_mlflow: Path) -> Workspace:
    """Another workspace."""
    made = Workspace(tmp_path / "undisturbed").create()
    shutil.copy(empty_storage, made.optuna_db)
    shutil.copy(empty_mlflow, made.mlflow_db)
    return made


FAILS = Failed(reason="diverged", message="it ran away", log="a traceback")


@pytest.mark.slow
def test_a_study_goes_on_without_mlflow_which_shows_in_the_end_what_it_would_have_shown(
    spec: StudySpec,
    formula: Any,
    tracked: Workspace,
    other: Workspace,
    line: Line,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calm = type(formula)({3: FAILS})
    run(spec, other, calm, trials=6)

    formula.script = {1: line.cut, 3: FAILS, 4: line.mend}
    assert run(spec, tracked, formula, trials=6).link is not None
    assert formula.points() == calm.points()
    assert shown(tracked) == shown(other)
    agree(tracked)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    lost = [one for one in said if "the study goes on" in one]
    back = [one for one in said if "answers again" in one]
    assert len(lost) == len(back) == 1
    assert "(trials so far: 1)" in lost[0]
    assert "(4 of them)" in back[0]
    assert not spool_of(tracked, "toy").folder.exists()


@pytest.mark.parametrize(
    "lost",
    [8, 15, *(pytest.param(each, marks=pytest.mark.slow) for each in (9, 11, 13, 14, 16, 17, 18, 24))],
)
def test_an_answer_that_is_lost_doubles_nothing(
    spec: StudySpec, formula: Any, tracked: Workspace, other: Workspace, line: Line, lost: int
) -> None:
    run(spec, other, type(formula)(), trials=3)
    line.lost = lost
    run(spec, tracked, formula, trials=3)
    assert line.calls > lost
    assert shown(tracked) == shown(other)
    agree(tracked)


@pytest.mark.slow
def test_what_mlflow_missed_until_the_end_it_gets_by_sync_once(
    spec: StudySpec,
    formula: Any,
    tracked: Workspace,
    other: Workspace,
    line: Line,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(spec, other, type(formula)())
    choose(open_study("toy", other), other, "1")
    line.cut()
    summary = run(spec, tracked, formula)
    assert summary.link is None
    assert summary.status.counts["complete"] == 4
    assert "painvrl workspace sync" in caplog.text
    choose(open_study("toy", tracked), tracked, "1")
    with pytest.raises(StudyError, match="cannot be reached"):
        sync(tracked)
    line.mend()
    assert sync(tracked).studies == {"toy": 4}
    assert shown(tracked) == shown(other)
    agree(tracked)
    before = shown(tracked)
    assert sync(tracked).studies == {}
    assert shown(tracked) == before


def test_a_result_whose_trial_the_storage_lacks_is_said_once_and_set_aside(
    spec: StudySpec, formula: Any, tracked: Workspace, line: Line
) -> None:
    line.cut()
    run(spec, tracked, formula, trials=2)
    spool = spool_of(tracked, "toy")
    for lost in (7, 9):  # as of a database that was put back from a copy
        spool.keep(lost, FAILS)
    kept = (spool.folder / "7.json").read_bytes()
    line.mend()
    synced = sync(tracked)
    assert (synced.studies, synced.lacking) == ({"toy": 2}, {"toy": 2})
    assert "toy: results of trials that the studies' database lacks: 2; set aside" in "".join(
        map(str, synced.blocks())
    )
    assert (spool.folder / ".7.json.lacking").read_bytes() == kept
    assert list(sync(tracked).blocks()) == ["nothing is kept that MLflow lacks"]
    run(spec, tracked, type(formula)())
    agree(tracked)


@pytest.mark.parametrize("ends", ["sync", "run"])
def test_a_file_of_results_that_cannot_be_read_is_said_once_and_set_aside(
    spec: StudySpec, formula: Any, tracked: Workspace, line: Line, caplog: Any, ends: str
) -> None:
    line.cut()
    run(spec, tracked, formula, trials=2)
    spool = spool_of(tracked, "toy")
    damaged = (spool.folder / "0.json").read_bytes()[:-9]
    (spool.folder / "0.json").write_bytes(damaged)
    line.mend()
    if ends == "sync":
        synced = sync(tracked)
        assert (synced.studies, synced.unreadable) == ({"toy": 1}, {"toy": 1})
        assert "toy: files with results that cannot be read: 1; set aside" in "".join(
            map(str, synced.blocks())
        )
    else:
        caplog.clear()
        run(spec, tracked, type(formula)())
        assert "cannot be read" in caplog.text
    assert (spool.folder / ".0.json.unreadable").read_bytes() == damaged
    agree(tracked)
    assert list(sync(tracked).blocks()) == ["nothing is kept that MLflow lacks"]


def test_a_runner_that_begins_between_anothers_tell_and_its_tracker_doubles_nothing(
    spec: StudySpec,
    formula: Any,
    tracked: Workspace,
    other: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(spec, other, type(formula)())
    keep = Spool.keep

    def keep_later(spool: Spool, *arguments: Any, **named: Any) -> int:
        """The trial is told; another runner, with a spool of its own, opens its tracker first."""
        mirror.open_tracker(
            mlflow_tracker(tracked),
            open_study("toy", tracked),
            formula.data,
            yaml="",
            spool=Spool(tmp_path / "of another"),
        )
        return keep(spool, *arguments, **named)

    monkeypatch.setattr(Spool, "keep", keep_later)
    run(spec, tracked, formula)
    assert shown(tracked) == shown(other)
    agree(tracked)


@pytest.mark.slow
def test_a_study_that_continues_catches_up_too(
    spec: StudySpec, formula: Any, tracked: Workspace, other: Workspace, line: Line
) -> None:
    run(spec, other, type(formula)())
    line.cut()
    run(spec, tracked, formula, trials=2)
    line.mend()
    run(spec, tracked, formula)
    assert shown(tracked) == shown(other)
    agree(tracked)


def test_a_trial_that_began_without_mlflow_is_shown_although_mlflow_came_back_before_it_ended(
    spec: StudySpec, formula: Any, tmp_path: Path
) -> None:
    shown: list[int] = []

    class There(NullTracker):
        def start(self, job: Job) -> str:
            return f"run-{job.number}"

        def finish(self, run_id: str | None, job: Job, outcome: Outcome, **_: object) -> None:
            assert run_id is not None
            shown.append(job.number)

    there: list[There] = []

    def make() -> There:
        if not there:
            raise TrackerAway("MLflow's server cannot be reached")
        return there[0]

    spool = Spool(tmp_path / "spool")
    tracker = PatientTracker(make, lambda _: shown.extend(spool.load()), spool, catches_up="wait")
    jobs = [Job(number=number, point={}, config=spec.config) for number in range(3)]
    tracker.begin()
    assert [tracker.start(job) for job in jobs[:2]] == [None, None]
    there.append(There())
    tracker.try_now()
    run_id = tracker.start(jobs[2])
    tracker.finish(run_id, jobs[2], FAILS)
    tracker.finish(None, jobs[1], FAILS)
    assert shown == [2, 1]


@pytest.mark.slow
def test_who_has_told_all_leaves_what_others_keep_who_share_the_workspace(
    spec: StudySpec, formula: Any, tracked: Workspace, other: Workspace, line: Line
) -> None:
    run(spec, other, type(formula)())
    line.cut()
    run(spec, tracked, formula)
    spool = spool_of(tracked, "toy")
    one = PatientTracker(NullTracker, lambda _: None, spool, catches_up="")
    one.begin()
    one.leave()
    assert sorted(spool.load()) == [0, 1, 2, 3]
    (spool.folder / "study.yaml").unlink()  # as one leaves before another keeps its first trial
    line.mend()
    assert sync(tracked).studies == {"toy": 4}
    assert shown(tracked) == shown(other)
    assert study_file(tracked) == study_file(other)
    assert not spool.folder.exists()


def study_file(workspace: Workspace) -> str:
    """The study's file as MLflow has it."""
    run_id = open_study("toy", workspace).parent_run
    assert run_id is not None
    return Path(client_of(workspace).download_artifacts(run_id, "study.yaml")).read_text(encoding="utf-8")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_known_to_be_away_and_the_study_runs(
    spec: StudySpec,
    formula: Any,
    workspace: Workspace,
    silent: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(mlflow_calls, "KNOCK_SECONDS", 0.2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    assert run(spec, workspace, formula).status.counts["complete"] == 4
    assert caplog.text.count("MLflow's server cannot be reached: nobody answers") == 1
    assert "kept in" in caplog.text
