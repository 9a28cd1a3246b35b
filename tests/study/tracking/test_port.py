from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from painvrl.core import shown
from painvrl.core.workspace import Workspace
from painvrl.study.tracking.port import NullTracker, Opened, front_url, resolve_tracking_uri


def test_an_option_wins_over_the_environment_and_that_over_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    assert resolve_tracking_uri(workspace) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert resolve_tracking_uri(workspace) == "http://host:5000"
    assert resolve_tracking_uri(workspace, "sqlite:////x.db") == "sqlite:////x.db"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///x.db", "sqlite:///{here}/x.db"),
        ("sqlite:///runs/x.db?timeout=9", "sqlite:///{here}/runs/x.db?timeout=9"),
        ("sqlite+pysqlite:///x.db", "sqlite:///{here}/x.db"),
        ("sqlite:///what?.db", "sqlite:///{here}/what?.db"),
        ("sqlite:///50%25.db", "sqlite+pysqlite:///{here}/50%25.db"),
        ("sqlite:///é.db", "sqlite+pysqlite:///{here}/%C3%A9.db"),
        ("sqlite:////folder/x.db", "sqlite:////folder/x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql:///runs", "postgresql:///runs"),
    ],
)
def test_a_relative_database_is_the_same_file_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    expected = meant.format(here=tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert resolve_tracking_uri(Workspace(tmp_path / "w")) == expected
    assert resolve_tracking_uri(Workspace(tmp_path / "w"), given) == expected


def test_the_link_asks_for_exactly_the_front_in_the_order_of_a_metric() -> None:
    link = front_url("http://127.0.0.1:5000/", "3", "abc", "ood/ndcg_at_20")
    page, _, query = urlsplit(link).fragment.partition("?")
    assert link.startswith("http://127.0.0.1:5000/#/")
    assert page == "/experiments/3/runs"
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "searchFilter": ["tags.pareto = 'true' and tags.`mlflow.parentRunId` = 'abc'"],
        "orderByKey": ["metrics.`ood/ndcg_at_20`"],
        "orderByAsc": ["false"],
        "compareRunsMode": ["CHART"],
    }
    assert " " not in link


def test_the_null_tracker_keeps_nothing() -> None:
    null: Any = NullTracker()
    assert null.open(None, []) == Opened()
    assert null.start(None) is None
    null.finish(None, None, None)
    null.kill(None)
    null.mark_front({"a": True})
    assert null.points([], {"12.3"}, None) == {}
    null.close("FINISHED", pages={"x.html": "x"})
    assert null.link("http://x") is None


def test_the_password_of_a_tracker_is_known_before_anything_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "_known", set())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:#hunter2@host/runs")
    resolve_tracking_uri(Workspace(tmp_path))
    assert shown.redacted("no #hunter2") == "no ***"
