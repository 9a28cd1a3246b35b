"""optuna-dashboard (extra ``dashboard``) on a study's storage shows the study that painvrl knows."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed, Failed, Pruned
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TrialRecord, TrialState, front_of
from painvrl.study.store.storage import StoredStudy, open_study

Get = Callable[[str], Any]

WORST = 0.0
POINTS = [(0.30, 0.10), (0.20, 0.20), (0.10, 0.15), (0.25, 0.20)]
"""Of four complete trials; the second and the third are beaten by the fourth."""


@pytest.fixture(params=["sqlite", "postgres"])
def spec(request: pytest.FixtureRequest, spec_tree: dict[str, Any], workspace: Workspace) -> StudySpec:
    """A study in a file, or on a server."""
    tree = copy.deepcopy(spec_tree)
    on_server = request.param == "postgres"
    url = request.getfixturevalue("database") if on_server else workspace.storage_url
    tree["study"]["storage"] = url
    return StudySpec.model_validate(tree)


@pytest.fixture
def stored(spec: StudySpec, workspace: Workspace) -> StoredStudy:
    """Trials of every fate: complete, pruned, failed, failed as a violated constraint, enqueued."""
    study, _ = create_study(spec, workspace, data="d")
    adapter = AskTell(study, spec.study)
    for values in POINTS:
        metrics = dict(zip(study.objectives, values, strict=True))
        adapter.tell(adapter.ask().number, Completed(metrics=metrics))
    pruned = Pruned(rung="pretrain/20", message="behind", metrics={study.objectives[0]: 0.9})
    adapter.tell(adapter.ask().number, pruned)
    adapter.tell(adapter.ask().number, Failed(reason="diverged", message="the loss is nan"))
    infeasible = study.study.ask()
    study.space.suggest(infeasible, study.config)
    infeasible.set_constraint("out_of_memory", 1.0)
    study.study.tell(infeasible, [WORST] * len(study.objectives))
    study.study.enqueue_trial({"mask.sparsity": 0.25})
    return open_study(spec, workspace)


def wsgi_get(stored: StoredStudy) -> Get:
    """Asks the dashboard's application in this process."""
    from optuna_dashboard import wsgi

    application = wsgi(stored.storage)

    def get(path: str) -> Any:
        environ: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        status: list[str] = []
        body = b"".join(application(environ, lambda line, _headers, *_: status.append(line)))
        assert status == ["200 OK"], body
        return json.loads(body)

    return get


def front_numbers(records: tuple[TrialRecord, ...]) -> list[int]:
    return [record.number for record in front_of(records)]


def agrees(get: Get, stored: StoredStudy) -> None:
    """The dashboard tells of the study what painvrl does."""
    (summary,) = get("/api/studies")["study_summaries"]
    assert summary["study_name"] == stored.name
    assert summary["directions"] == ["maximize"] * len(stored.objectives)
    detail = get(f"/api/studies/{summary['study_id']}")
    assert detail["objective_names"] == list(stored.objectives)
    records = stored.trials()
    assert len(detail["trials"]) == len(records)
    for shown, record in zip(detail["trials"], records, strict=True):
        assert shown["number"] == record.number
        # What cannot be trained is a complete, infeasible trial to Optuna.
        assert shown["state"] == stored.study.trials[record.number].state.name.capitalize()
        if record.values is not None:
            assert tuple(shown["values"]) == record.values
        if record.state is not TrialState.WAITING:
            assert {one["name"] for one in shown["params"]} == set(record.point)
    assert sorted(one["number"] for one in detail["best_trials"]) == front_numbers(records)


@pytest.mark.slow
def test_trials_names_directions_and_the_front_agree(stored: StoredStudy) -> None:
    records = stored.trials()
    assert [record.state for record in records[4:]] == [
        TrialState.PRUNED,
        TrialState.FAILED,
        TrialState.INTERRUPTED,  # reported by something else: we know of no outcome
        TrialState.WAITING,
    ]
    assert front_numbers(records) == [0, 3]
    agrees(wsgi_get(stored), stored)


@pytest.fixture
def served(stored: StoredStudy, spec: StudySpec) -> Iterator[Get]:
    """The command that the documents name, as a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from painvrl.study.store.database import engine_url

    url = engine_url(str(spec.study.storage)).render_as_string(hide_password=False)
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), url, "--port", str(port)]
    log = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=log, stderr=log) as server:

        def get(path: str) -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                return json.loads(answer.read())

        deadline = time.monotonic() + 120
        while True:
            try:
                get("/api/meta")
                break
            except urllib.error.URLError:
                assert server.poll() is None, "the dashboard ended"
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield get
        server.terminate()


@pytest.mark.slow
def test_a_swept_study_opens_and_shows_each_training_at_the_point_that_was_reported(
    swept_spec: StudySpec, swept: Callable[..., Completed], workspace: Workspace
) -> None:
    study, _ = create_study(swept_spec, workspace, data="d")
    adapter = AskTell(study, swept_spec.study)
    for points in ([(0.1, 0.4), (0.3, 0.3), (0.4, 0.1)], [(0.2, 0.2), (0.05, 0.5)]):
        adapter.tell(adapter.ask().number, swept(*points))
    stored = open_study(swept_spec, workspace)
    assert [point.name for point in front_of(stored.trials())] == ["0.0", "0.1", "0.2", "1.1"]
    get = wsgi_get(stored)
    (summary,) = get("/api/studies")["study_summaries"]
    detail = get(f"/api/studies/{summary['study_id']}")
    assert [tuple(shown["values"]) for shown in detail["trials"]] == [(0.3, 0.3), (0.2, 0.2)]
    for shown, record in zip(detail["trials"], stored.trials(), strict=True):
        sampled = {one["name"] for one in shown["params"]}
        assert sampled == set(record.point) == set(record.points[0].point) - {"fusion.cold_weight"}
    assert [one["number"] for one in detail["best_trials"]] == [0], "it knows what was reported only"


@pytest.mark.slow
def test_the_command_of_the_documents_serves_it(served: Get, stored: StoredStudy) -> None:
    agrees(served, stored)


def test_its_front_knows_no_constraints_as_the_documents_say(stored: StoredStudy) -> None:
    best = stored.study.ask()
    stored.space.suggest(best, stored.config)
    best.set_constraint("time", 1.0)
    stored.study.tell(best, [1.0] * len(stored.objectives))
    assert [trial.number for trial in stored.study.best_trials] == [0, 3], "Optuna's front does"
    get = wsgi_get(stored)
    (summary,) = get("/api/studies")["study_summaries"]
    shown = get(f"/api/studies/{summary['study_id']}")["best_trials"]
    assert [one["number"] for one in shown] == [best.number], "a newer one does: say so in docs/mlflow.md"
