"""A study's front in MLflow's UI: the saved view that its link opens, and the words on its own run.

A saved view is a tag of the experiment, in a format that MLflow does not document. So it is written and
linked for the versions in :data:`KNOWN_VERSIONS` only. Its key is the id of the study's own run: a study
that continues writes over its view.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Sequence
from typing import TypeAlias

from painvrl.core.tables import number
from painvrl.study.choice.candidates import axes_of
from painvrl.study.front import FrontRow, FrontTable, counted
from painvrl.study.tracking.port import StudyHeader, is_server, runs_filter

KNOWN_VERSIONS = ("3.17.",)
"""How the versions begin whose UI was seen to open such a view."""

VIEW_TAG = "mlflow.sharedViewState."
"""What the experiment's tag of a view is called, before its key."""

NOTE_TAG = "mlflow.note.content"
"""The tag that the UI shows as a run's description."""

COLOUR_TAG = "mlflow.runColor"
"""The tag that the UI paints a run by, in its list and in every chart."""

CHARTED_TAG = "charted"
"""The tag of runs that are points of the scatter: ``true`` of complete trials, and of points."""

ON_FRONT, BEHIND = "#c2185b", "#b8bfc9"
"""A strong red and a pale grey."""

NOTED_POINTS = 12
"""How many points of a front a description lists."""

JsonTree: TypeAlias = dict[str, object]


def opens_views(uri: str) -> bool:
    """Whether the UI on a store is of a known version: that of its server, else of what is installed here."""
    import mlflow

    version = _version_of_server(uri) if is_server(uri) else mlflow.__version__
    return version.startswith(KNOWN_VERSIONS)


def front_view(header: StudyHeader, parent_run: str) -> str | None:
    """The value of the tag that is a study's view; ``None`` without an objective for each of both axes.

    First a scatter of OOD against IID, then parallel coordinates. The front comes first in the list: of many
    runs the UI loads the first hundred only.
    """
    axes = axes_of(header.objectives)
    if axes.iid is None or axes.ood is None:
        return None
    scatter: JsonTree = {
        **_chart("scatter", "SCATTER"),
        "xaxis": {"key": axes.iid, "type": "METRIC"},
        "yaxis": {"key": axes.ood, "type": "METRIC"},
    }
    parallel: JsonTree = {
        **_chart("parallel", "PARALLEL"),
        "selectedParams": list(header.hyperparameters),
        "selectedMetrics": list(header.objectives),
        "showAllRuns": True,
    }
    columns = [f"metrics.`{name}`" for name in header.objectives]
    columns += [f"params.`{path}`" for path in header.hyperparameters]
    view: JsonTree = {
        "searchFilter": f"tags.{CHARTED_TAG} = 'true' and {runs_filter(parent_run)}",
        "orderByKey": "tags.`pareto`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [scatter, parallel],
        "compareRunSections": [
            _section("scatter", "Pareto front in red, other trials in grey"),
            _section("parallel", "Hyperparameters"),
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # else the UI's own sections come first
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(view).encode())).decode()
    now = int(time.time() * 1000)
    named = {"name": f"Pareto front of {header.name}", "createdAt": now, "updatedAt": now}
    return json.dumps({**named, "state": f"deflate;{packed}"})


def view_url(base_url: str, experiment_id: str, parent_run: str) -> str:
    """The page of MLflow's UI that opens a study's view."""
    # Without the workflow it asks first which of its pages to show.
    query = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={parent_run}"
    return f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def front_note(table: FrontTable, experiment_id: str) -> str:
    """The description of a study's run, as Markdown: its front, what to do next, and where to see more."""
    shown = _spread(table.rows)
    columns = ("point", *table.objectives)
    # The UI folds up all but the first lines.
    first = (
        f"**Front of {table.study}**: {counted(table.rows)}, hypervolume {number(table.hypervolume)}. "
        "To choose one, open its run and add the tag `selected` with the value `true`. "
        "Then `painvrl train --best` trains and keeps it."
    )
    lines = [first, "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in shown:
        point = row.name
        if row.run_id is not None:
            point = f"[{point}](#/experiments/{experiment_id}/runs/{row.run_id})"
        lines.append(f"| {' | '.join((point, *(number(row.values[name]) for name in table.objectives)))} |")
    if len(shown) < len(table.rows):
        lines += ["", f"These are {len(shown)} of them; `painvrl study front` prints all."]
    lines += [
        "",
        "*Artifacts* has the whole report, `report.html`, and the front to zoom into, `front.html`.",
    ]
    return "\n".join(lines)


def _version_of_server(uri: str) -> str:
    """What a server says of itself; empty if it does not say."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0, timeout=10)
    except Exception:  # noqa: BLE001 (whatever it is, there is a link that needs no answer)
        return ""
    return str(answer.text) if answer.status_code == 200 else ""


def _chart(name: str, kind: str) -> JsonTree:
    """What all charts have: as many runs as the UI loads, and a section of the chart's own name."""
    return {
        "uuid": f"chart-{name}",
        "type": kind,
        "runsCountToCompare": 1000,
        "metricSectionId": name,
        "deleted": False,
        "isGenerated": False,
    }


def _section(name: str, title: str) -> JsonTree:
    """A section of one wide chart that fits on a laptop's screen, below the UI's own bars."""
    return {
        "uuid": name,
        "name": title,
        "display": True,
        "columns": 1,
        "cardHeight": 400,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _spread(rows: Sequence[FrontRow]) -> list[FrontRow]:
    """At most :data:`NOTED_POINTS` rows, evenly from the first to the last."""
    if len(rows) <= NOTED_POINTS:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (NOTED_POINTS - 1))] for place in range(NOTED_POINTS)]
