from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mlflow
import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.job import DataSummary
from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.file.spec import StudySpec
from painvrl.study.front import FrontRow, FrontTable
from painvrl.study.runner import StudySummary
from painvrl.study.store.records import complete, front_of
from painvrl.study.store.storage import StoredStudy, open_study
from painvrl.study.tracking import mlflow_view
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.mlflow_notes import front_link
from painvrl.study.tracking.mlflow_tracker import MlflowTracker, mlflow_tracker
from painvrl.study.tracking.mlflow_view import (
    BEHIND,
    COLOUR_TAG,
    NOTED_POINTS,
    ON_FRONT,
    VIEW_TAG,
    front_note,
    front_view,
    opens_views,
    view_url,
)
from painvrl.study.tracking.port import StudyHeader

Go = Callable[..., StudySummary]
OBJECTIVES = ("iid/recall_at_20", "iid/ndcg_at_20", "ood/ndcg_at_20")
PATHS = ("mask.sparsity", "fusion.kind", "fusion.variant_weight")


def header(objectives: tuple[str, ...] = OBJECTIVES, **changed: Any) -> StudyHeader:
    given = {"hyperparameters": PATHS, "data": DataSummary(fingerprint="planted-1"), **changed}
    return StudyHeader(name="toy", objectives=objectives, yaml="", **given)


def decoded(tag: str | None) -> dict[str, Any]:
    """What MLflow's UI makes of a view's tag."""
    assert tag is not None
    kind, _, packed = json.loads(tag)["state"].partition(";")
    assert kind == "deflate"
    view: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return view


class Experiment:
    """MLflow's experiment with the only study, seen from outside."""

    def __init__(self, workspace: Workspace) -> None:
        self.uri = workspace.tracking_uri
        with mlflow_calls(self.uri):
            from mlflow.tracking import MlflowClient

            self.client = MlflowClient(tracking_uri=self.uri)
            found = self.client.get_experiment_by_name(EXPERIMENT)
        self.id = found.experiment_id
        self.views = {key: value for key, value in found.tags.items() if key.startswith(VIEW_TAG)}

    def search(self, query: str, order: str) -> list[Any]:
        with mlflow_calls(self.uri):
            return list(self.client.search_runs([self.id], query, order_by=[order]))

    def shown(self) -> list[Any]:
        """The runs of the only view, in its order."""
        (tag,) = self.views.values()
        view = decoded(tag)
        assert not view["orderByAsc"]
        return self.search(view["searchFilter"], f"{view['orderByKey']} DESC")


def shown_as(study: StoredStudy, workspace: Workspace) -> list[tuple[str, str]]:
    """Names of trials or points and their colours, as the view has them."""
    tags = [run.data.tags for run in Experiment(workspace).shown()]
    return [(tag.get("point", tag["trial"]), tag[COLOUR_TAG]) for tag in tags]


def test_the_first_chart_is_a_scatter_of_ood_against_iid_and_the_second_of_everything() -> None:
    view = decoded(front_view(header(), "abc"))
    scatter, parallel = view["compareRunCharts"]
    assert (scatter["type"], parallel["type"]) == ("SCATTER", "PARALLEL")
    assert scatter["xaxis"] == {"key": "iid/ndcg_at_20", "type": "METRIC"}
    assert scatter["yaxis"] == {"key": "ood/ndcg_at_20", "type": "METRIC"}
    assert parallel["selectedParams"] == list(PATHS)
    assert parallel["selectedMetrics"] == list(OBJECTIVES)
    sections = [section["uuid"] for section in view["compareRunSections"]]
    assert sections == [chart["metricSectionId"] for chart in view["compareRunCharts"]]
    assert {section["columns"] for section in view["compareRunSections"]} == {1}
    assert view["isAccordionReordered"], "else the UI's own sections come first"


def test_the_table_has_the_objectives_and_the_hyperparameters_of_every_run() -> None:
    view = decoded(front_view(header(), "abc"))
    assert view["selectedColumns"] == [
        *("metrics.`iid/recall_at_20`", "metrics.`iid/ndcg_at_20`", "metrics.`ood/ndcg_at_20`"),
        *("params.`mask.sparsity`", "params.`fusion.kind`", "params.`fusion.variant_weight`"),
    ]
    assert view["runsHiddenMode"] == "SHOW_ALL"
    assert "'abc'" in view["searchFilter"]


def test_the_axes_are_the_first_objectives_where_none_is_ndcg() -> None:
    view = decoded(front_view(header(("ood_new/recall_at_5", "iid/recall_at_5", "iid/recall_at_9")), "abc"))
    scatter = view["compareRunCharts"][0]
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("iid/recall_at_5", "ood_new/recall_at_5")


@pytest.mark.parametrize("part", ["iid", "ood"])
def test_a_study_with_one_part_has_no_view(part: str) -> None:
    assert front_view(header((f"{part}/ndcg_at_20", f"{part}/recall_at_20")), "abc") is None


def test_a_view_of_a_wide_study_fits_into_a_tag() -> None:
    from mlflow.utils.validation import MAX_EXPERIMENT_TAG_VAL_LENGTH

    objectives = tuple(f"{part}/ndcg_at_{k}" for part in ("iid", "ood", "ood_new") for k in range(1, 21))
    wide = header(objectives, hyperparameters=tuple(f"section_{n}.hyperparameter_{n}" for n in range(100)))
    assert len(front_view(wide, "abc") or "") < MAX_EXPERIMENT_TAG_VAL_LENGTH / 2


@pytest.mark.slow
def test_a_study_s_link_opens_its_view_by_its_key(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    summary = go(spec, formula, tracker=mlflow_tracker(tracked))
    study, experiment = open_study("toy", tracked), Experiment(tracked)
    assert summary.link == front_link(study, tracked)
    page, _, query = urlsplit(str(summary.link)).fragment.partition("?")
    assert page == f"/experiments/{experiment.id}/runs"
    (key,) = parse_qs(query)["viewStateShareKey"]
    assert list(experiment.views) == [VIEW_TAG + key]
    tag = json.loads(experiment.views[VIEW_TAG + key])
    assert tag["name"] == "Pareto front of toy"
    _, parallel = decoded(experiment.views[VIEW_TAG + key])["compareRunCharts"]
    assert parallel["selectedParams"] == list(spec.space.root)


def test_a_view_shows_every_complete_trial_and_the_front_first_in_its_colour(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    values = [(0.1, 0.1), (0.3, 0.2), (0.2, 0.3), (0.1, 0.2)]
    outcomes = [Completed(metrics={"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood}) for iid, ood in values]
    formula.script = {**dict(enumerate(outcomes)), 4: Failed(reason="diverged", message="no")}
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=5)
    study = open_study("toy", tracked)
    assert shown_as(study, tracked) == [("2", ON_FRONT), ("1", ON_FRONT), ("3", BEHIND), ("0", BEHIND)]

    formula.script = {5: Completed(metrics={"iid/ndcg_at_20": 0.25, "ood/ndcg_at_20": 0.35})}
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=6)
    assert len(Experiment(tracked).views) == 1, "it went on with the view that it had"
    assert dict(shown_as(study, tracked)) == {
        "5": ON_FRONT,
        "1": ON_FRONT,
        "2": BEHIND,
        "3": BEHIND,
        "0": BEHIND,
    }


@pytest.mark.slow
def test_a_point_of_a_swept_study_is_drawn_once(
    go: Go, swept_spec: StudySpec, formula: Any, swept: Callable[..., Completed], tracked: Workspace
) -> None:
    # Reported of the first is 0.1, which is on the front, and of the second 1.1, which is not.
    formula.script = {0: swept((0.1, 0.4), (0.35, 0.35)), 1: swept((0.5, 0.05), (0.2, 0.2))}
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    study = open_study("toy", tracked)
    assert dict(shown_as(study, tracked)) == {
        **{point.name: ON_FRONT for point in front_of(study.trials())},
        "1": BEHIND,
    }
    drawn = [
        tuple(run.data.metrics[name] for name in study.objectives) for run in Experiment(tracked).shown()
    ]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.slow
def test_what_an_earlier_version_tracked_is_shown_when_the_study_goes_on(
    go: Go, swept_spec: StudySpec, formula: Any, swept: Callable[..., Completed], tracked: Workspace
) -> None:
    formula.script = {0: swept((0.1, 0.4), (0.35, 0.35)), 1: swept((0.5, 0.05), (0.2, 0.2))}
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    study, experiment = open_study("toy", tracked), Experiment(tracked)
    before = shown_as(study, tracked)
    with mlflow_calls(experiment.uri):
        for run in experiment.search("tags.charted LIKE '%'", "attributes.start_time"):
            for key in ("charted", COLOUR_TAG):
                experiment.client.delete_tag(run.info.run_id, key)
    assert experiment.shown() == []
    go(swept_spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    assert shown_as(study, tracked) == before
    assert len(complete(study.trials())) == 4


def test_a_study_with_one_part_keeps_the_link_to_its_list(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    one = spec.model_copy(update={"objectives": ("iid/ndcg_at_20", "iid/recall_at_20")})
    summary = go(one, formula, tracker=mlflow_tracker(tracked), trials=1)
    assert "searchFilter=" in str(summary.link)
    assert summary.link == front_link(open_study("toy", tracked), tracked)
    assert Experiment(tracked).views == {}


def test_an_ablation_has_no_view(tracked: Workspace) -> None:
    tracker: MlflowTracker = mlflow_tracker(tracked)
    tracker.open(header(kind="ablation"), [])
    assert "searchFilter=" in tracker.link("http://ui")
    assert Experiment(tracked).views == {}


@pytest.mark.slow
def test_a_view_is_linked_only_where_the_format_is_known(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    study = open_study("toy", tracked)
    assert "viewStateShareKey=" in str(front_link(study, tracked))
    monkeypatch.setattr(mlflow, "__version__", "3.99.0")
    assert "searchFilter=" in str(front_link(study, tracked))
    assert "searchFilter=" in str(go(spec, formula, tracker=mlflow_tracker(tracked), trials=1).link)


@contextmanager
def server(version: str, status: int = 200) -> Iterator[str]:
    """A server that says nothing but its version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/version" else 404)
            self.end_headers()
            self.wfile.write(version.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("version", "status", "opens"),
    [("3.17.9", 200, True), ("3.1.17", 200, False), ("4.0.0", 200, False), ("3.17.2", 404, False)],
)
def test_a_server_says_its_own_version(version: str, status: int, opens: bool) -> None:
    with server(version, status) as uri, mlflow_calls(uri):
        assert opens_views(uri) is opens


def test_a_server_that_does_not_answer_opens_no_view() -> None:
    with server("3.17.2") as uri:
        pass
    with mlflow_calls(uri):
        assert not opens_views(uri)


def test_the_installed_version_is_a_known_one() -> None:
    assert opens_views("sqlite:///x.db"), "look at the view in a browser, and add the version"
    assert mlflow_view.KNOWN_VERSIONS == ("3.17.",)


def test_the_page_of_a_view_has_its_key() -> None:
    link = view_url("http://127.0.0.1:5000/", "3", "abc")
    page, _, query = urlsplit(link).fragment.partition("?")
    assert (link[:24], page) == ("http://127.0.0.1:5000/#/", "/experiments/3/runs")
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "compareRunsMode": ["CHART"],
        "viewStateShareKey": ["abc"],
    }


def rows(count: int) -> tuple[FrontRow, ...]:
    return tuple(
        FrontRow(
            trial=place,
            name=str(place),
            run_id=f"run-{place}",
            values={"iid/ndcg_at_20": 1 - place / 100, "ood/ndcg_at_20": place / 100},
            point={},
            metrics={},
        )
        for place in range(count)
    )


@pytest.mark.parametrize("count", [1, NOTED_POINTS, 40])
def test_the_description_lists_points_from_end_to_end_and_says_what_to_do_next(count: int) -> None:
    table = FrontTable(
        study="toy",
        objectives=("iid/ndcg_at_20", "ood/ndcg_at_20"),
        rows=rows(count),
        dominated=(),
        iid_only=None,
        hypervolume=0.25,
    )
    note = front_note(table, "3")
    lines = [line for line in note.splitlines() if line.startswith("|")]
    assert lines[0] == "| point | iid/ndcg_at_20 | ood/ndcg_at_20 |"
    assert lines[2] == "| [0](#/experiments/3/runs/run-0) | 1.0000 | 0.0000 |"
    assert lines[-1].startswith(f"| [{count - 1}](#/experiments/3/runs/run-{count - 1}) |")
    assert len(set(lines[2:])) == len(lines[2:]) == min(count, NOTED_POINTS)
    assert ("prints all" in note) == (count > NOTED_POINTS)
    for said in ("`selected`", "`true`", "`painvrl train --best`", "`report.html`", "`front.html`"):
        assert said in note


@pytest.mark.slow
def test_a_study_s_run_is_described_and_has_what_the_description_names(
    go: Go, spec: StudySpec, formula: Any, tracked: Workspace
) -> None:
    summary = go(spec, formula, tracker=mlflow_tracker(tracked))
    experiment, study = Experiment(tracked), open_study("toy", tracked)
    with mlflow_calls(experiment.uri):
        run = experiment.client.get_run(study.parent_run)
        artifacts = {file.path for file in experiment.client.list_artifacts(study.parent_run)}
    assert run.data.tags["mlflow.note.content"] == front_note(summary.front, experiment.id)
    assert {"report.html", "front.html"} <= artifacts


def test_a_trial_s_data_are_its_input(go: Go, spec: StudySpec, formula: Any, tracked: Workspace) -> None:
    formula.data = DataSummary(fingerprint=f"{'a' * 32}-{'b' * 32}")
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=1)
    ((run,), job) = Experiment(tracked).shown(), formula.jobs[0]
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("planted", "a" * 32)
    assert json.loads(given.dataset.source) == job.config.data.model_dump(mode="json")
    assert {tag.key: tag.value for tag in given.tags} == {
        "protocol": job.config.split.protocol,
        "split": "b" * 32,
    }
