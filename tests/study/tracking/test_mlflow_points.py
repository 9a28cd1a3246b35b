"""Points that share a training, in MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import load_settings
from painvrl.engine.constraints import Constraint
from painvrl.engine.outcomes import Completed, Failed
from painvrl.run.config import TrainConfig
from painvrl.study.choice.choosing import choose
from painvrl.study.choice.selection import select
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import StudySummary
from painvrl.study.store.records import complete, front_of
from painvrl.study.store.storage import StoredStudy, open_study
from painvrl.study.tracking import mlflow_view
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.mlflow_notes import front_link, tagged_runs
from painvrl.study.tracking.mlflow_tracker import MlflowTracker, mlflow_tracker
from painvrl.study.tracking.port import NullTracker

Go = Callable[..., StudySummary]
Swept = Callable[..., Completed]

FIRST = ((0.1, 0.4), (0.3, 0.3), (0.05, 0.2), (0.4, 0.1))
"""Points of a training; the third is beaten by the others, the second has the largest product."""

SECOND = ((0.2, 0.2), (0.3, 0.35), (0.5, 0.05))
"""Of another; its first is beaten, and its second beats the second of the first."""

BEST = ((0.9, 0.9), (0.8, 0.95))
"""Of one that beats them all."""


class Killed(BaseException):
    """Ends a process, as far as Python can show it."""


class Runs:
    """MLflow's runs of the only study, seen from outside."""

    def __init__(self, workspace: Workspace, uri: str | None = None) -> None:
        from mlflow.tracking import MlflowClient

        self.uri = uri or workspace.tracking_uri
        self.client = MlflowClient(tracking_uri=self.uri)
        self.experiment = self.client.get_experiment_by_name(EXPERIMENT).experiment_id
        self.study = open_study("toy", workspace)

    def search(self, query: str = "", **order: Any) -> list[Any]:
        with mlflow_calls(self.uri):
            return list(self.client.search_runs([self.experiment], query, **order))

    def points(self) -> dict[str, Any]:
        """The run of every point that has one."""
        found = self.search("tags.kind = 'point'")
        assert len(found) == len({run.data.tags["point"] for run in found}), "none is made twice"
        return {run.data.tags["point"]: run for run in found}

    def trial(self, number: int) -> Any:
        (run,) = self.search(f"tags.kind = 'trial' and tags.trial = '{number}'")
        return run

    def on_front(self) -> set[str]:
        """Names of the points whose runs carry the tag."""
        return {name for name, run in self.points().items() if run.data.tags["pareto"] == "true"}

    def linked(self) -> list[str]:
        """The runs behind the study's link to a server whose version is not known, in its order."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlflow_view, "KNOWN_VERSIONS", ())
            link = front_link(self.study, Workspace(self.root))
        query = parse_qs(urlsplit(str(link)).fragment.partition("?")[2])
        (wanted,), (order,) = query["searchFilter"], query["orderByKey"]
        return [run.info.run_id for run in self.search(wanted, order_by=[f"{order} DESC"])]

    @property
    def root(self) -> Path:
        return Path(self.uri.removeprefix("sqlite:///")).parent

    def table(self) -> list[dict[str, Any]]:
        """The rows of ``points.json``."""
        run = self.client.get_run(self.study.parent_run)
        text = Path(run.info.artifact_uri.removeprefix("file://"), "points.json").read_text("utf-8")
        table = json.loads(text)
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def own_runs(study: StoredStudy) -> dict[str, str | None]:
    """The run of every point that has another than its training."""
    records = study.trials()
    points = [point for record in records for point in record.points]
    return {point.name: point.run_id for point in points if point.run_id != records[point.number].run_id}


@pytest.fixture
def two(go: Go, swept_spec: StudySpec, formula: Any, swept: Swept, tracked: Workspace) -> StudySummary:
    """A study of two trainings that has ended: on the front are 0.0, 0.3, 1.1 and 1.2."""
    formula.script = {0: swept(*FIRST), 1: swept(*SECOND), 2: swept(*BEST)}
    return go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=2)


@pytest.mark.slow
def test_every_point_on_the_front_of_a_swept_study_has_a_run_of_its_own(
    two: StudySummary, tracked: Workspace
) -> None:
    runs = Runs(tracked)
    points = runs.points()
    assert set(points) == runs.on_front() == {"0.0", "0.3", "1.1", "1.2"}
    assert own_runs(runs.study) == {name: run.info.run_id for name, run in points.items()}
    for record in front_of(runs.study.trials()):
        run = points[record.name]
        assert record.run_id == run.info.run_id
        assert (run.info.status, run.info.run_name) == ("FINISHED", f"toy-00{record.name}")
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
        assert tags == {
            "kind": "point",
            "study": "toy",
            "trial": str(record.number),
            "point": record.name,
            "training": runs.trial(record.number).info.run_id,
            "mlflow.parentRunId": runs.study.parent_run,
            "pareto": "true",
            "charted": "true",
            "mlflow.runColor": mlflow_view.ON_FRONT,
        }
        assert run.data.params == {path: str(value) for path, value in record.point.items()}
        assert "fusion.cold_weight" in record.point
        config = Path(run.info.artifact_uri.removeprefix("file://"), "config.yaml")
        assert load_settings(config, TrainConfig) == runs.study.config_of(record)
        numbers = {path: value for path, value in record.point.items() if not isinstance(value, str)}
        assert run.data.metrics == {
            **record.metrics,
            **{f"param/{path}": value for path, value in numbers.items()},
        }


@pytest.mark.slow
def test_a_training_tells_which_of_its_points_its_metrics_are_and_how_many_it_has(
    two: StudySummary, tracked: Workspace
) -> None:
    runs = Runs(tracked)
    for number, points, name in ((0, FIRST, "0.1"), (1, SECOND, "1.1")):
        run = runs.trial(number)
        assert run.data.tags["reported"] == name
        assert run.data.metrics["sweep/points"] == len(points)
        reported = points[int(name[-1])]
        assert tuple(run.data.metrics[each] for each in runs.study.objectives) == reported
        assert (run.data.tags["pareto"], run.data.tags["has_front_point"]) == ("false", "true")


@pytest.mark.slow
def test_the_link_shows_the_fronts_points_the_best_first_and_their_number_is_logged(
    two: StudySummary, tracked: Workspace
) -> None:
    runs = Runs(tracked)
    points = runs.points()
    assert runs.linked() == [points[name].info.run_id for name in ("1.2", "0.3", "1.1", "0.0")]
    assert [row.run_id for row in two.front.rows] == runs.linked()
    assert runs.client.get_run(runs.study.parent_run).data.metrics["study/front_size"] == 4


@pytest.mark.slow
def test_while_a_study_runs_its_trainings_stand_for_points_that_have_no_run_yet(
    two: StudySummary, go: Go, swept_spec: StudySpec, formula: Any, swept: Swept, tracked: Workspace
) -> None:
    seen: list[tuple[set[str], list[str]]] = []

    def look() -> None:
        runs = Runs(tracked)
        tagged = runs.search("tags.kind = 'trial' and tags.pareto = 'true'")
        seen.append((runs.on_front(), sorted(run.data.tags["trial"] for run in tagged)))

    added = swept((0.6, 0.01), (0.01, 0.01))
    formula.script = {2: added, 3: look}
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=4)
    assert seen == [({"0.0", "0.3", "1.1", "1.2"}, ["2"])]
    runs = Runs(tracked)
    assert "2.0" in runs.on_front()
    assert runs.trial(2).data.tags["pareto"] == "false"


@pytest.mark.slow
def test_points_fall_off_the_front_and_come_back_and_no_run_is_made_twice(
    two: StudySummary, go: Go, swept_spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    first = set(Runs(tracked).points())
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=3)
    runs = Runs(tracked)
    assert runs.on_front() == {"2.0", "2.1"}
    assert set(runs.points()) == {*first, "2.0", "2.1"}
    assert runs.trial(0).data.tags["has_front_point"] == "false"
    before = {name: run.info.run_id for name, run in runs.points().items()}

    bound = Constraint.model_validate({"metric": "iid/ndcg_at_20", "max": 0.6})
    bounded = swept_spec.model_copy(update={"constraints": (bound,)})
    go(bounded, formula, tracker=mlflow_tracker(tracked), trials=3)
    runs = Runs(tracked)
    assert runs.on_front() == first
    assert {name: run.info.run_id for name, run in runs.points().items()} == before == own_runs(runs.study)
    assert len(runs.linked()) == runs.client.get_run(runs.study.parent_run).data.metrics["study/front_size"]
    assert runs.trial(0).data.tags["has_front_point"] == "true"


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), RuntimeError("a fault")])
def test_a_study_that_is_stopped_or_fails_has_its_points_too(
    go: Go, swept_spec: StudySpec, formula: Any, swept: Swept, tracked: Workspace, ending: BaseException
) -> None:
    formula.script = {0: swept(*FIRST), 1: ending}
    with pytest.raises(type(ending)):
        go(swept_spec, formula, tracker=mlflow_tracker(tracked))
    runs = Runs(tracked)
    assert runs.on_front() == {"0.0", "0.1", "0.3"}
    assert sorted(runs.linked()) == sorted(run.info.run_id for run in runs.points().values())
    assert [row["point"] for row in runs.table()] == ["0.0", "0.1", "0.2", "0.3"]
    status = runs.client.get_run(runs.study.parent_run).info.status
    assert status == ("KILLED" if isinstance(ending, KeyboardInterrupt) else "FAILED")


@pytest.mark.slow
def test_a_process_that_dies_over_its_points_leaves_what_the_next_one_completes(
    two: StudySummary,
    go: Go,
    swept_spec: StudySpec,
    formula: Any,
    swept: Swept,
    tracked: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    formula.script = {2: swept((0.7, 0.8), (0.8, 0.7), (0.75, 0.75))}
    tracker = mlflow_tracker(tracked)
    real = tracker._client.log_batch

    def die(run_id: str, **what: Any) -> None:
        if len(Runs(tracked).points()) == 4 + 2:  # the second of three
            raise Killed
        real(run_id, **what)

    monkeypatch.setattr(tracker._client, "log_batch", die)
    monkeypatch.setattr(tracker, "close", lambda *_, **__: None)
    with pytest.raises(Killed):
        go(swept_spec, formula, tracker=tracker, trials=3)
    half = Runs(tracked).points()
    assert sorted(run.info.status for run in half.values()) == ["FINISHED"] * 5 + ["RUNNING"]

    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=3)
    runs = Runs(tracked)
    points = runs.points()
    assert runs.on_front() == {"2.0", "2.1", "2.2"}
    assert {name: points[name].info.run_id for name in half} == {
        name: run.info.run_id for name, run in half.items()
    }
    for record in front_of(runs.study.trials()):
        assert points[record.name].info.status == "FINISHED"
        assert record.metrics.items() <= points[record.name].data.metrics.items()
    assert own_runs(runs.study) == {name: run.info.run_id for name, run in points.items()}


@pytest.mark.slow
def test_runs_that_were_deleted_are_made_anew_where_the_front_needs_them(
    two: StudySummary, go: Go, swept_spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    before = Runs(tracked).points()
    Runs(tracked).client.delete_run(before["0.3"].info.run_id)
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    runs = Runs(tracked)
    after = runs.points()
    assert set(after) == set(before)
    moved = {name for name in before if after[name].info.run_id != before[name].info.run_id}
    assert moved == {"0.3"}
    assert own_runs(runs.study) == {name: run.info.run_id for name, run in after.items()}

    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=3)  # all fall off
    runs.client.delete_run(after["0.3"].info.run_id)
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=3)
    assert "0.3" not in Runs(tracked).points()
    assert "0.3" not in own_runs(runs.study), "it goes by its training's"


@pytest.mark.slow
def test_a_training_whose_run_was_deleted_takes_its_points_along(
    two: StudySummary, go: Go, swept_spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    runs = Runs(tracked)
    old = runs.trial(0).info.run_id
    runs.client.delete_run(old)
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    new = runs.trial(0)
    assert new.info.run_id != old
    assert {run.data.tags["training"] for name, run in runs.points().items() if name[0] == "0"} == {
        new.info.run_id
    }
    assert (new.data.tags["reported"], new.data.tags["pareto"]) == ("0.1", "false")


@pytest.mark.slow
def test_a_store_that_was_lost_gets_the_points_again(
    two: StudySummary, go: Go, swept_spec: StudySpec, formula: Any, tracked: Workspace, empty_mlflow: Path
) -> None:
    elsewhere = f"sqlite:///{tracked.root}/second.db"
    (tracked.root / "second.db").write_bytes(empty_mlflow.read_bytes())
    go(swept_spec, formula, tracker=mlflow_tracker(tracked, elsewhere), trials=2)
    there = Runs(tracked, elsewhere)
    assert there.on_front() == {"0.0", "0.3", "1.1", "1.2"}
    assert own_runs(there.study) == {name: run.info.run_id for name, run in there.points().items()}


@pytest.mark.slow
def test_points_are_no_trials_to_a_study_that_goes_on(
    two: StudySummary, go: Go, swept_spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    runs = Runs(tracked)
    trials, points = ([runs.trial(0), runs.trial(1)], runs.points())
    runs.client.update_run(points["0.0"].info.run_id, status="RUNNING")
    opened = mlflow_tracker(tracked)
    states: list[str] = []
    formula.script = {2: lambda: states.append(runs.points()["0.0"].info.status)}
    go(swept_spec, formula, tracker=opened, trials=3)
    assert states == ["RUNNING"], "a stale trial would be killed"
    assert [runs.trial(0).info.run_id, runs.trial(1).info.run_id] == [run.info.run_id for run in trials]
    assert runs.points()["0.0"].info.status == "FINISHED"


@pytest.mark.slow
def test_the_table_has_every_point_of_every_complete_training_and_is_written_anew_each_time(
    two: StudySummary,
    go: Go,
    swept_spec: StudySpec,
    formula: Any,
    tracked: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    formula.script = {**formula.script, 3: Failed(reason="diverged", message="no")}
    for trials in (2, 4):
        go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=trials)
        runs = Runs(tracked)
        records = runs.study.trials()
        rows = runs.table()
        assert [row["point"] for row in rows] == [record.name for record in complete(records)]
        assert {row["point"] for row in rows if row["on_front"]} == runs.on_front()
        for row, record in zip(rows, complete(records), strict=True):
            assert (row["trial"], row["place"], row["preset"]) == (record.number, record.place, None)
            assert tuple(row[name] for name in runs.study.objectives) == record.values
            assert {path: row[path] for path in record.point} == record.point
    assert len(rows) == len(FIRST) + len(SECOND) + len(BEST)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", runs.uri)  # which MLflow asks for here, whatever its client has
    with mlflow_calls(runs.uri):
        table = runs.client.load_table(runs.experiment, "points.json", [runs.study.parent_run])
    assert len(table) == len(rows), "it is a table to MLflow, too"


@pytest.mark.slow
def test_a_study_that_began_without_a_sweep_shows_trials_and_points_on_its_front(
    go: Go, swept_spec: StudySpec, formula: Any, swept: Swept, tracked: Workspace
) -> None:
    values: Mapping[str, float] = {"iid/ndcg_at_20": 0.6, "ood/ndcg_at_20": 0.01}
    formula.script = {0: Completed(metrics=values), 1: swept(*FIRST)}
    plain = swept_spec.model_copy(update={"sweep": False})
    go(plain, formula, tracker=mlflow_tracker(tracked), trials=1)
    runs = Runs(tracked)
    assert runs.points() == {}
    assert not list(tracked.artifacts.rglob("points.json"))
    assert "has_front_point" not in runs.trial(0).data.tags
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    (training,) = (record for record in runs.study.trials() if record.points)
    assert runs.on_front() == {f"{training.number}.{place}" for place in (0, 1, 3)}
    assert len(runs.linked()) == 4
    assert runs.linked()[0] == runs.trial(0).info.run_id
    assert runs.trial(0).data.tags["pareto"] == "true"
    assert {"reported", "has_front_point"}.isdisjoint(runs.trial(0).data.tags)


@pytest.mark.slow
def test_the_tagged_run_of_a_point_picks_it_and_that_of_a_training_is_refused_with_its_points(
    two: StudySummary, tracked: Workspace
) -> None:
    runs = Runs(tracked)
    runs.client.set_tag(runs.points()["0.3"].info.run_id, "selected", "true")
    tagged = tagged_runs(runs.study, tracked)
    chosen = select(runs.study, tagged=tagged)
    assert (chosen.name, chosen.run_id) == ("0.3", runs.points()["0.3"].info.run_id)
    assert (chosen.point["fusion.cold_weight"], chosen.config.fusion.cold_weight) == (3 / 8, 3 / 8)

    runs.client.delete_tag(chosen.run_id, "selected")
    training = runs.trial(0).info.run_id
    runs.client.set_tag(training, "selected", "true")
    for asked in ({"tagged": tagged_runs(runs.study, tracked)}, {"run_id": training}):
        with pytest.raises(StudyError, match=r"0\.0 to 0\.3: name one of them; on the front are 0\.0, 0\.3"):
            select(runs.study, **asked)


@pytest.mark.slow
def test_a_pick_is_shown_on_its_points_run_or_on_its_trainings(two: StudySummary, tracked: Workspace) -> None:
    runs = Runs(tracked)
    for name, run in (("1.2", runs.points()["1.2"]), ("1.0", runs.trial(1))):
        kept = choose(runs.study, tracked, name, alias="mine")
        assert (kept.run_id, kept.warning) == (run.info.run_id, None)
        shown = runs.search("tags.`pick.mine` LIKE '%'")
        assert [each.info.run_id for each in shown] == [run.info.run_id]


@pytest.mark.parametrize("error", [StudyError("MLflow does not answer"), OSError("the storage is gone")])
def test_an_interrupt_stays_one_when_the_points_cannot_be_tracked(
    go: Go, swept_spec: StudySpec, formula: Any, swept: Swept, error: Exception
) -> None:
    closed: list[str] = []

    class Down(NullTracker):
        def points(self, *_: object) -> Mapping[str, str]:
            raise error

        def close(self, status: str, **_: object) -> None:
            closed.append(status)

    formula.script = {0: swept(*FIRST), 1: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        go(swept_spec, formula, tracker=Down())
    # What MLflow itself refused is kept for later; a tracker that is away is told nothing more.
    assert closed == ([] if isinstance(error, StudyError) else ["KILLED"])


@pytest.mark.slow
def test_only_what_changes_is_written_when_a_study_stops_again(
    two: StudySummary,
    go: Go,
    swept_spec: StudySpec,
    formula: Any,
    tracked: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    tracker: MlflowTracker = mlflow_tracker(tracked)
    monkeypatch.setattr(tracker._client, "set_tag", lambda _, key, __: written.append(key))
    monkeypatch.setattr(tracker._client, "create_run", lambda *_, **__: written.append("run"))
    go(swept_spec, formula, tracker=tracker, trials=2)
    assert written == ["mlflow.loggedArtifacts", "mlflow.note.content"]
