from __future__ import annotations

import json
import logging
import math
import os
import re
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.tables import TextTable
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import parse_yaml
from painvrl.engine.constraints import Constraint
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.choice.selection import select
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import StudySummary
from painvrl.study.store.records import front_of
from painvrl.study.store.storage import open_study
from painvrl.study.tracking import mlflow_database, mlflow_view
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, knock, mlflow_calls
from painvrl.study.tracking.mlflow_database import ready_database
from painvrl.study.tracking.mlflow_notes import front_link, tagged_runs
from painvrl.study.tracking.mlflow_tracker import MlflowTracker, mlflow_tracker
from painvrl.study.tracking.port import StudyHeader, TrackerAway

Go = Callable[..., StudySummary]

SPLIT = {"protocol": "planted", "users": 60, "parts": [{"name": "train", "interactions": 454, "users": 60}]}
PARTS = TextTable(columns=("part", "users"), rows=(("train", "60"), ("iid_valid", "5")))
JOINED = TextTable(columns=("joined", "rows"), rows=(("look", "9"),))
DATA = DataSummary(fingerprint="planted-1", tables=(PARTS, JOINED), statistics=SPLIT)


class Store:
    """MLflow's store, seen from outside."""

    def __init__(self, workspace: Workspace) -> None:
        self.uri = workspace.tracking_uri
        with mlflow_calls(self.uri):
            from mlflow.tracking import MlflowClient

            self.client = MlflowClient(tracking_uri=self.uri)
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
            self.experiment = None if experiment is None else experiment.experiment_id

    def runs(self, query: str = "", **order: Any) -> list[Any]:
        with mlflow_calls(self.uri):
            return list(self.client.search_runs([self.experiment], query, **order))

    def trials(self) -> dict[int, Any]:
        """The youngest run of every trial."""
        found = sorted(self.runs("tags.kind = 'trial'"), key=lambda run: run.info.start_time)
        return {int(run.data.tags["trial"]): run for run in found}

    def parents(self) -> list[Any]:
        return self.runs("tags.kind = 'study'")

    def parent(self) -> Any:
        (run,) = self.parents()
        return run

    def text(self, run: Any, name: str) -> str:
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        return (folder / name).read_text(encoding="utf-8")

    def history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        with mlflow_calls(self.uri):
            return [
                (point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, metric)
            ]


@pytest.fixture
def tracker(tracked: Workspace) -> MlflowTracker:
    return mlflow_tracker(tracked)


def front_by_link(store: Store, link: str) -> list[str]:
    """The runs that MLflow's UI shows behind a link."""
    query = parse_qs(urlsplit(link).fragment.partition("?")[2])
    assert urlsplit(link).fragment.startswith(f"/experiments/{store.experiment}/runs?")
    (wanted,), (order,) = query["searchFilter"], query["orderByKey"]
    return [run.info.run_id for run in store.runs(wanted, order_by=[f"{order} DESC"])]


def test_no_study_can_hold_the_lock_of_mlflows_tables(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked(Exception):
        pass

    def lock(path: Path) -> None:
        raise Locked(path)

    monkeypatch.setattr(mlflow_database, "FileLock", lock)
    with pytest.raises(Locked) as caught:
        ready_database(workspace)
    (path,) = caught.value.args
    assert path.parent == workspace.lock_path("mlflow.db").parent
    assert path != workspace.lock_path("mlflow.db"), "a study may have the file's name"


def test_a_new_workspace_gets_the_tables_that_mlflow_itself_would_make(
    workspace: Workspace, empty_mlflow: Path
) -> None:
    mlflow_tracker(workspace)

    def schema(path: Path) -> list[Any]:
        with closing(sqlite3.connect(path)) as connection:
            tables = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
            # MLflow lists what a column may hold in an order that is another in every process.
            words = [(kind, name, sorted(re.findall(r"\w+", sql or ""))) for kind, name, sql in tables]
            return [*words, *connection.execute("SELECT version_num FROM alembic_version")]

    assert schema(workspace.mlflow_db) == schema(empty_mlflow)
    assert len(schema(workspace.mlflow_db)) > 30
    left = {path.name for path in workspace.root.iterdir() if path.name.startswith("mlflow")}
    assert left - {"mlflow.db-wal", "mlflow.db-shm"} == {"mlflow.db"}  # nothing half made


def test_a_database_that_was_only_half_made_is_made_anew(workspace: Workspace) -> None:
    workspace.mlflow_db.with_suffix(".new").write_bytes(b"half of a database")
    mlflow_tracker(workspace)
    assert Store(workspace).parents() == []


@pytest.mark.slow
def test_a_study_becomes_a_parent_run_with_a_child_a_trial(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace, tracker: MlflowTracker
) -> None:
    formula.data = DATA
    formula.script = {1: Failed(reason="diverged", message="the loss is nan", log="Traceback: here")}
    summary = go(spec, formula, tracker=tracker)
    store = Store(tracked)

    parent = store.parent()
    assert (parent.info.run_name, parent.info.status) == ("toy", "FINISHED")
    assert parent.data.tags["protocol"] == "planted"
    assert parse_yaml(store.text(parent, "study.yaml"))["objectives"] == list(spec.objectives)
    assert json.loads(store.text(parent, "split_statistics.json")) == SPLIT
    assert store.text(parent, "split_statistics.txt").splitlines() == [
        "part       users",
        "train      60",
        "iid_valid  5",
        "",
        "joined  rows",
        "look    9",
    ]
    assert parent.data.metrics["split/users"] == 60
    assert parent.data.metrics["split/parts/train/interactions"] == 454
    assert parent.data.metrics["study/front_size"] == len(summary.front.rows)
    assert "front (" in store.text(parent, "front.html")

    trials = store.trials()
    assert set(trials) == {0, 1, 2, 3}
    for job in formula.jobs:
        run = trials[job.number]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {"seed": "0"} | {path: str(value) for path, value in job.point.items()}
        for path, value in job.point.items():
            if isinstance(value, float | int):
                assert run.data.metrics[f"param/{path}"] == value
        assert "param/fusion.kind" not in run.data.metrics
        assert parse_yaml(store.text(run, "config.yaml")) == job.config.model_dump(mode="json")

    done, failed = trials[0], trials[1]
    record = open_study("toy", tracked).trials()[0]
    assert record.run_id == done.info.run_id
    assert done.info.status == "FINISHED"
    assert {name: done.data.metrics[name] for name in record.metrics} == record.metrics
    assert done.data.metrics["seconds/total"] == 2.0
    assert done.data.metrics["seconds/mask"] == 0.5
    assert done.data.metrics["epochs/pretrain"] == 12
    assert store.history(done, "environments/size_1") == [(1, 30.0), (2, 20.0)]
    assert store.history(done, "mask/density") == [(1, 0.6)]
    assert store.history(done, "training/pretrain/loss") == [(3, 0.5)]
    assert store.history(done, "training/pretrain/iid/ndcg_at_20") == [(3, 0.1)]

    assert failed.info.status == "FAILED"
    assert (failed.data.tags["reason"], failed.data.tags["message"]) == ("diverged", "the loss is nan")
    assert store.text(failed, "failure.txt") == "Traceback: here"
    assert failed.data.tags["pareto"] == "false"


@pytest.mark.slow
def test_where_no_view_is_opened_the_link_shows_exactly_the_front_while_trials_land(
    go: Go,
    spec: StudySpec,
    formula: Any,
    tracked: Workspace,
    tracker: MlflowTracker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow_view, "KNOWN_VERSIONS", ())
    values = [(0.1, 0.1), (0.3, 0.05), (0.2, 0.3), (0.3, 0.3), (0.1, 0.4)]
    formula.script = {
        place: Completed(metrics={"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood})
        for place, (iid, ood) in enumerate(values)
    }
    other = spec.model_copy(update={"study": spec.study.model_copy(update={"name": "other"})})
    go(other, type(formula)(), tracker=tracker, trials=2)
    fronts = {1: [0], 2: [1, 0], 3: [1, 2], 4: [3], 5: [3, 4]}
    for wanted, front in fronts.items():
        summary = go(spec, formula, tracker=mlflow_tracker(tracked), trials=wanted)
        assert summary.link is not None
        study = open_study("toy", tracked)
        shown = front_by_link(Store(tracked), summary.link)
        assert shown == [study.trials()[number].run_id for number in front]
        assert summary.link == front_link(study, tracked)
        tags = [Store(tracked).trials()[number].data.tags["pareto"] for number in range(wanted)]
        assert tags == ["true" if number in front else "false" for number in range(wanted)]


@pytest.mark.slow
def test_only_changed_tags_are_written(
    go: Go, spec: StudySpec, formula: Any, tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, str, str]] = []
    real = tracker._client.set_tag

    def counting(run_id: str, key: str, value: str) -> None:
        written.append((run_id, key, value))
        real(run_id, key, value)

    monkeypatch.setattr(tracker._client, "set_tag", counting)
    values = [(0.1, 0.4), (0.2, 0.3), (0.3, 0.2), (0.25, 0.25)]
    formula.script = {
        place: Completed(metrics={"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood})
        for place, (iid, ood) in enumerate(values)
    }
    go(spec, formula, tracker=tracker)
    runs = {run_id for run_id, key, _ in written if key == "pareto"}
    assert len(runs) == 4
    of_trials = sorted((key, value) for run_id, key, value in written if run_id in runs)
    assert of_trials == [("mlflow.runColor", mlflow_view.ON_FRONT)] * 4 + [("pareto", "true")] * 4
    assert [key for run_id, key, _ in written if run_id not in runs] == ["mlflow.note.content"]


@pytest.mark.slow
def test_a_resumed_study_goes_on_under_the_same_parent(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    formula.script = {1: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        go(spec, formula, tracker=mlflow_tracker(tracked))
    store = Store(tracked)
    assert store.parent().info.status == "KILLED"
    interrupted = store.trials()[1]
    assert interrupted.info.status == "KILLED"
    assert "pareto" not in interrupted.data.tags
    go(spec, formula, tracker=mlflow_tracker(tracked))
    assert store.parent().info.status == "FINISHED"
    assert len(store.runs("tags.kind = 'trial'")) == 4, "what was interrupted goes on in its run"
    runs = store.trials()
    assert {number: run.info.status for number, run in runs.items()} == dict.fromkeys(
        (0, 2, 3, 4), "FINISHED"
    )
    again = runs[2]
    assert again.info.run_id == interrupted.info.run_id
    assert again.info.run_name == "toy-002"
    assert again.data.params == interrupted.data.params
    assert again.info.end_time >= interrupted.info.end_time
    assert again.data.metrics["iid/ndcg_at_20"] == open_study("toy", tracked).trials()[2].values[0]
    assert again.data.tags["pareto"] in {"true", "false"}


@pytest.mark.slow
def test_a_run_that_is_gone_does_not_keep_its_trial_from_being_tried_again(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    formula.script = {0: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        go(spec, formula, tracker=mlflow_tracker(tracked))
    store = Store(tracked)
    with mlflow_calls(store.uri):
        store.client.delete_run(store.trials()[0].info.run_id)
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    assert {number: run.info.status for number, run in store.trials().items()} == {1: "FINISHED"}


@pytest.mark.slow
def test_a_run_that_went_on_with_another_processor_says_so(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    metrics = {"iid/ndcg_at_20": 0.1, "ood/ndcg_at_20": 0.2}
    formula.script = {1: Completed(metrics=metrics, mixed=("processor", "number of threads"))}
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    tags = [run.data.tags.get("continued_with_another") for run in Store(tracked).trials().values()]
    assert tags == [None, "processor, number of threads"]


@pytest.mark.slow
def test_the_studys_run_has_the_file_that_it_went_on_with(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    bound = Constraint.model_validate({"metric": "time", "max": 60.0})
    now = spec.model_copy(update={"constraints": (bound,)})
    go(now, formula, tracker=mlflow_tracker(tracked), trials=2)
    store = Store(tracked)
    (shown,) = parse_yaml(store.text(store.parent(), "study.yaml"))["constraints"]
    assert (shown["metric"], shown["max"]) == ("time", 60.0)


@pytest.mark.slow
def test_what_a_dead_process_left_running_is_closed_and_what_it_did_not_log_is_logged(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "finish", die)
        patch.setattr(MlflowTracker, "close", lambda *_, **__: None)
        with pytest.raises(Killed):
            go(spec, formula, tracker=mlflow_tracker(tracked))
    formula.script = {1: Killed()}
    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "close", lambda *_, **__: None)
        with pytest.raises(Killed):
            go(spec, formula, tracker=mlflow_tracker(tracked))
    store = Store(tracked)
    assert store.trials()[0].info.status == "FINISHED"
    assert store.trials()[1].info.status == "RUNNING"
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    trials = store.trials()
    record = open_study("toy", tracked).trials()[0]
    assert {name: trials[0].data.metrics[name] for name in record.metrics} == record.metrics
    assert store.history(trials[0], "mask/density") == [(1, 0.6)]
    assert 1 not in trials, "its run went on as that of trial 2"
    assert trials[2].info.status == "FINISHED"


@pytest.mark.slow
def test_a_final_model_in_training_is_not_taken_for_a_dead_trial(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    store = Store(tracked)
    with mlflow_calls(store.uri):
        tags = {"kind": "final", "mlflow.parentRunId": store.parent().info.run_id}
        final = store.client.create_run(store.experiment, tags=tags).info.run_id
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    with mlflow_calls(store.uri):
        assert store.client.get_run(final).info.status == "RUNNING"


@pytest.mark.slow
def test_a_store_that_was_lost_is_written_anew(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace, empty_mlflow: Path
) -> None:
    formula.script = {1: Failed(reason="diverged", message="no")}
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=3)
    before = [record.run_id for record in open_study("toy", tracked).trials()]
    elsewhere = f"sqlite:///{tracked.root}/second.db"
    (tracked.root / "second.db").write_bytes(empty_mlflow.read_bytes())
    summary = go(spec, formula, tracker=mlflow_tracker(tracked, elsewhere), trials=4)
    assert len(formula.jobs) == 4
    study = open_study("toy", tracked)
    after = [record.run_id for record in study.trials()]
    assert set(before).isdisjoint(after)
    with mlflow_calls(elsewhere):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=elsewhere)
        runs = [client.get_run(run_id) for run_id in after]
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert [run.data.tags["trial"] for run in runs] == ["0", "1", "2", "3"]
    on_front = {row.run_id for row in summary.front.rows}
    assert {run.info.run_id for run in runs if run.data.tags["pareto"] == "true"} == on_front
    assert select(study, run_id=after[0]).trial == 0


@pytest.mark.slow
def test_a_parent_in_the_bin_is_replaced(go: Go, spec: StudySpec, formula: Any, tracked: Workspace) -> None:
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    store = Store(tracked)
    old = store.parent().info.run_id
    with mlflow_calls(store.uri):
        store.client.delete_run(old)
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    study = open_study("toy", tracked)
    assert study.parent_run == store.parent().info.run_id != old
    run_id = study.trials()[0].run_id
    assert run_id is not None
    assert store.client.get_run(run_id).data.tags["mlflow.parentRunId"] == study.parent_run


@pytest.mark.slow
def test_a_run_tagged_in_the_ui_reaches_the_selection(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    other = spec.model_copy(update={"study": spec.study.model_copy(update={"name": "other"})})
    for each in (spec, other):
        go(each, formula, tracker=mlflow_tracker(tracked), trials=3)
    study = open_study("toy", tracked)
    assert tagged_runs(study, tracked) == ()
    runs = [record.run_id for record in study.trials()]
    store = Store(tracked)
    with mlflow_calls(store.uri):
        store.client.set_tag(open_study("other", tracked).trials()[0].run_id, "selected", "true")
        store.client.set_tag(runs[0], "selected", "false")
        store.client.set_tag(runs[2], "selected", "True")
    assert tagged_runs(study, tracked) == (runs[2],)
    assert select(study, tagged=tagged_runs(study, tracked)).trial == 2
    with mlflow_calls(store.uri):
        store.client.set_tag(runs[0], "selected", "true")
    with pytest.raises(StudyError, match=f"{runs[0]}, {runs[2]}"):
        select(study, tagged=tagged_runs(study, tracked))


def test_a_study_that_was_never_tracked_has_no_link_and_no_tags(
    go: Go, spec: StudySpec, formula: Any, workspace: Workspace
) -> None:
    go(spec, formula, trials=1)
    study = open_study("toy", workspace)
    assert (front_link(study, workspace), tagged_runs(study, workspace)) == (None, ())
    assert not workspace.mlflow_db.exists()


def test_thousands_of_points_of_curves_are_logged(
    spec: StudySpec, go: Go, formula: Any, tracked: Workspace, tracker: MlflowTracker
) -> None:
    from painvrl.engine.outcomes import CurvePoint

    curves = tuple(
        CurvePoint(curve="pretrain", step=step, values={"loss": 1.0 / (1 + step)}) for step in range(1500)
    )
    metrics = {"iid/ndcg_at_20": 0.5, "ood/ndcg_at_20": 0.5}
    formula.script = {0: Completed(metrics=metrics, curves=curves)}
    go(spec, formula, tracker=tracker, trials=1)
    store = Store(tracked)
    assert len(store.history(store.trials()[0], "training/pretrain/loss")) == 1500


def test_of_the_curves_the_objectives_and_what_stopping_watches_are_kept(
    spec: StudySpec, go: Go, formula: Any, tracked: Workspace, tracker: MlflowTracker
) -> None:
    from painvrl.engine.outcomes import CurvePoint

    values = {"loss": 1.0, "iid/ndcg_at_20": 0.1, "iid/recall_at_50": 0.2}
    metrics = {"iid/ndcg_at_20": 0.5, "ood/ndcg_at_20": 0.5}
    curves = (CurvePoint(curve="pretrain", step=1, values=values),)
    formula.script = {0: Completed(metrics=metrics, curves=curves)}
    go(spec, formula, tracker=tracker, trials=1)
    logged = Store(tracked).trials()[0].data.metrics
    assert {name for name in logged if name.startswith("training/")} == {
        "training/pretrain/loss",
        "training/pretrain/iid/ndcg_at_20",
    }


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "nonsense://x"])
def test_a_store_that_cannot_be_used_is_said_in_one_line(workspace: Workspace, uri: str) -> None:
    with pytest.raises(StudyError) as caught:
        mlflow_tracker(workspace, uri)
    assert "\n" not in str(caught.value)
    assert uri in str(caught.value)


def test_passwords_are_not_shown() -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(StudyError) as caught, mlflow_calls("postgresql://user:geheim@host/db"):
        raise MlflowException("no\nconnection")
    assert str(caught.value) == "postgresql://user:***@host/db: MLflow does not answer as it should: no"


def test_telemetry_is_off_and_mlflow_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    with mlflow_calls("sqlite"):
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.INFO)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def test_artifacts_lie_in_the_workspace_wherever_the_command_was_given(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    assert list((tmp_path / "cwd").iterdir()) == []
    assert len(list(tracked.artifacts.rglob("config.yaml"))) == 1


@pytest.mark.slow
def test_a_round_whose_numbers_are_not_finite_is_stored_and_logged(
    spec: StudySpec, go: Go, formula: Any, tracked: Workspace, tracker: MlflowTracker
) -> None:
    metrics = {"iid/ndcg_at_20": 0.5, "ood/ndcg_at_20": 0.5}
    rounds = ({"mask/cosine": math.nan, "mask/risk": math.inf, "mask/density": 0.5},)
    formula.script = {0: Completed(metrics=metrics, rounds=rounds)}
    go(spec, formula, tracker=tracker, trials=2)
    record = open_study("toy", tracked).trials()[0]
    assert isinstance(record.outcome, Completed)
    assert math.isnan(record.outcome.rounds[0]["mask/cosine"])
    assert Store(tracked).trials()[0].data.metrics["mask/density"] == 0.5


@pytest.mark.slow
def test_what_was_taken_over_has_runs_of_the_study_s_own_that_name_where_they_are_from(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    go(spec, formula, trials=2, tracker=mlflow_tracker(tracked))
    new = spec.model_copy(update={"study": spec.study.model_copy(update={"name": "new"})})
    summary = go(new, formula, trials=1, tracker=mlflow_tracker(tracked), warm_start="toy")
    assert (len(formula.jobs), summary.status.finished) == (3, 1)
    before, now = (open_study(name, tracked).trials() for name in ("toy", "new"))
    store = Store(tracked)
    runs = {run.info.run_id: run for run in store.runs("tags.kind = 'trial' and tags.study = 'new'")}
    assert set(runs) == {record.run_id for record in now if record.run_id}
    for old, record in zip(before, now[:2], strict=True):
        run = runs[record.run_id]
        assert run.data.tags["taken_from"] == f"trial {old.number} of toy"
        assert run.data.tags["taken_from_run"] == old.run_id
        assert {name: run.data.metrics[name] for name in old.metrics} == old.metrics
        assert run.info.status == "FINISHED"
        assert store.text(run, "config.yaml") == store.text(store.client.get_run(old.run_id), "config.yaml")
        assert select(open_study("new", tracked), run_id=record.run_id).trial == record.number
    front = {record.run_id for record in front_of(now)}
    assert {run_id for run_id, run in runs.items() if run.data.tags["pareto"] == "true"} == front
    assert "taken_from" not in runs[now[-1].run_id].data.tags


@pytest.mark.slow
def test_runs_that_other_processes_train_now_are_left_alone_and_the_others_end(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace, tracker: MlflowTracker
) -> None:
    statuses: list[str] = []

    def another() -> None:
        stored, store = open_study("toy", tracked), Store(tracked)
        run_id = stored.trials()[1].run_id
        assert run_id is not None
        for alive in (frozenset({run_id}), frozenset[str]()):
            header = StudyHeader(
                name="toy",
                objectives=spec.objectives,
                yaml="",
                data=DATA,
                parent_run=stored.parent_run,
                alive=alive,
            )
            mlflow_tracker(tracked).open(header, ())
            statuses.append(store.client.get_run(run_id).info.status)

    go(spec, type(formula)(script={1: another}), tracker=tracker, trials=2)
    assert statuses == ["RUNNING", "KILLED"]
    assert len(Store(tracked).parents()) == 1


def test_a_run_that_ends_while_another_runner_takes_it_for_abandoned_is_not_killed(
    tracked: Workspace, spec: StudySpec
) -> None:
    header = StudyHeader(name="toy", objectives=spec.objectives, yaml="", data=DATA)
    mine, another = mlflow_tracker(tracked), mlflow_tracker(tracked)
    header = replace(header, parent_run=mine.open(header, ()).parent_run)
    job = Job(number=0, point={}, config=spec.config)
    run_id, kill = mine.start(job), another.kill

    def kill_later(stray: str | None) -> None:
        mine.finish(stray, job, Failed(reason="diverged", message="no number"))
        kill(stray)

    another.kill = kill_later  # type: ignore[method-assign]
    another.open(header, ())  # of a storage that was read before the trial began
    assert Store(tracked).client.get_run(run_id).info.status == "FAILED"


def test_two_that_make_the_experiment_at_once_share_it(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow_calls(tracked.tracking_uri):
        from mlflow.tracking import MlflowClient

    mlflow_tracker(tracked)
    look, looks = MlflowClient.get_experiment_by_name, iter([False])

    def not_there_yet(client: MlflowClient, name: str) -> Any:
        return look(client, name) if next(looks, True) else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", not_there_yet)
    assert mlflow_tracker(tracked)._experiment == Store(tracked).experiment
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *_: None)
    with pytest.raises(StudyError, match="already exists"):
        mlflow_tracker(tracked)


def test_a_database_of_runs_that_nobody_serves_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        uri = f"postgresql://me:hunter2@127.0.0.1:{taken.getsockname()[1]}/runs"
        with pytest.raises(TrackerAway, match="MLflow's database cannot be reached: ") as caught:
            knock(uri)
    assert "hunter2" not in str(caught.value)
    for elsewhere in ("sqlite:////tmp/none.db", "postgresql:///runs", "file:///runs"):
        knock(elsewhere)
