from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.cli.options import named_study
from painvrl.core.errors import PainvrlError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec

module = importlib.import_module("painvrl.cli.ui")  # the package's attribute of that name is the command
Call = Callable[..., Any]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    "ending",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_the_ui_serves_the_runs_and_prints_the_front_link(
    workspace: Path, port: int, ending: signal.Signals
) -> None:
    command = [sys.executable, "-m", "painvrl.cli", "ui", "--port", str(port), "--workspace", str(workspace)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ.copy()
    ) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        assert first == f"MLflow UI: http://127.0.0.1:{port} (Ctrl-C ends it)\n"
        assert second.startswith(f"front of tiny: http://127.0.0.1:{port}/#/experiments/")
        number = re.search(r"/experiments/(\d+)/", second)
        assert number is not None
        api = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id={number[1]}"
        with urllib.request.urlopen(api, timeout=60) as response:
            assert response.status == 200
            assert b'"painvrl"' in response.read()
        process.send_signal(ending)
        code = process.wait(timeout=30)
    assert code == (0 if ending is signal.SIGINT else 128 + ending)
    deadline = time.monotonic() + 15
    while listening(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not listening(port), "the server outlived the command"


def test_a_port_that_is_taken_is_a_mistake_of_the_user(cli: Call, workspace: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = cli("ui", "--port", taken.getsockname()[1], "--workspace", workspace)
        hint = re.search(r"--port: cannot be used \(.+\); name another one: --port (\d+) is free", answer.err)
        assert hint is not None, answer.err
        assert int(hint[1]) != taken.getsockname()[1]
    assert answer.code == 2
    assert not listening(int(hint[1]))


def test_a_server_that_is_named_by_the_environment_is_not_started_again(
    cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        answer = cli("ui", "--workspace", tmp_path / "none")
    assert (answer.code, answer.out) == (0, f"the runs are on the server {uri}\n")


def test_a_server_that_does_not_answer_is_said_at_once(
    cli: Call, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    answer = cli("ui", "--workspace", tmp_path / "none")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: MLFLOW_TRACKING_URI: the server does not answer")


def test_a_server_whose_url_is_none_is_said_in_one_line(
    cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[::1")
    answer = cli("ui", "--workspace", tmp_path / "none")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: MLFLOW_TRACKING_URI: is not a server's URL (found 'http://[::1')\n"


def test_a_server_that_does_not_start_points_at_its_log(
    cli: Call, workspace: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(workspace / "broken"))
    (workspace / "broken" / "mlflow").mkdir(parents=True)
    (workspace / "broken" / "mlflow" / "__init__.py").write_text("raise SystemExit('no such server')")
    answer = cli("ui", "--port", port, "--workspace", workspace)
    assert answer.code == 1
    assert f"its log is {workspace / 'mlflow-server.log'}" in answer.err
    assert "no such server" in (workspace / "mlflow-server.log").read_text()


def test_the_server_is_reported_the_absolute_database(
    cli: Call, workspace: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []

    def server(uri: str, *_: object) -> None:
        reported.append(uri)
        raise PainvrlError("enough")

    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setattr(module, "_server", server)
    assert cli("ui", "--port", port, "--workspace", workspace).code == 1
    assert reported == [f"sqlite:///{workspace / 'mlflow.db'}"]


def test_a_database_s_password_is_not_on_the_server_s_command_line(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def popen(command: list[str], *, env: dict[str, str], **_: object) -> None:
        started.append((command, env))
        raise OSError("enough")

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    uri = "postgresql+psycopg://user:geheim@host/db"
    with pytest.raises(OSError, match="enough"), module._server(uri, Workspace(workspace), 5001):
        pass
    ((command, environment),) = started
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert "geheim" not in " ".join(command)


def test_a_study_in_another_storage_is_linked_by_its_file_or_by_its_storage(
    cli: Call, tmp_path: Path, workspace: Path, tiny_config: TrainConfig, spec_of: Callable[..., StudySpec]
) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    database = Workspace(workspace).optuna_db
    for part in database.parent.glob(f"{database.name}*"):  # what was written last stands beside it
        part.rename(tmp_path / part.name.replace(database.name, elsewhere.name))
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(spec_of(tiny_config, storage=f"sqlite:///{elsewhere}")))
    place = Workspace(workspace)
    assert module._fronts(place, "http://ui", None) == {}
    fronts = module._fronts(place, "http://ui", named_study(str(path)))
    assert fronts == module._fronts(place, "http://ui", None, f"sqlite:///{elsewhere}")
    assert list(fronts) == ["tiny"]
    assert fronts["tiny"].startswith("http://ui/#/experiments/")


@pytest.mark.parametrize("command", ["ui", "serve"])
@pytest.mark.parametrize("port", [6000, 5060, 10080])
def test_a_port_that_browsers_refuse_is_refused(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch, command: str, port: int
) -> None:
    monkeypatch.setattr("painvrl.serving.registered_models.find_model", lambda *_: "models:/tiny/1")
    answer = cli(command, "--port", port, "--workspace", workspace)
    assert answer.code == 2
    said = r"error: --port: belongs to another protocol, so browsers refuse it; --port \d+ is free"
    assert re.fullmatch(rf"{said} \(found {port}\)\n", answer.err)


@pytest.mark.parametrize(
    ("fronts", "opened"),
    [
        ({}, "http://here"),
        ({"a": "http://here/a"}, "http://here/a"),
        ({"a": "http://here/a", "b": "http://here/b"}, "http://here"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_open_shows_the_only_front_or_the_start(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fronts: dict[str, str],
    opened: str,
    there: bool,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module.webbrowser, "open", lambda link: (asked.append(link), there)[1])
    module._show(fronts, "http://here", browser=False)
    assert (asked, capsys.readouterr().err) == ([], "")
    module._show(fronts, "http://here", browser=True)
    assert asked == [opened]
    assert ("no browser could be opened" in capsys.readouterr().err) != there
