"""The tracking server's folder: what can be checked without starting a server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def copy(tmp_path: Path, repository: Path) -> Path:
    """The folder in a repository of its own, with a Python that is never run."""
    shutil.copytree(repository / "mlflow", tmp_path / "mlflow")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    return tmp_path


def options(root: Path, **environment: str) -> dict[str, str]:
    """The options of the command that ``serve.sh`` would run."""
    plain = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    out = subprocess.run(
        ["bash", root / "mlflow" / "serve.sh", "--print"],
        env=plain | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = shlex.split(out)
    assert words[1:4] == ["-m", "mlflow", "server"]
    return dict(zip(words[4::2], words[5::2], strict=True))


def test_by_default_it_serves_the_workspace_to_this_machine_only(copy: Path) -> None:
    assert options(copy) == {
        "--backend-store-uri": f"sqlite:///{copy}/workspace/mlflow.db",
        "--artifacts-destination": f"{copy}/workspace/mlartifacts",
        "--host": "127.0.0.1",
        "--port": "5000",
        "--workers": "1",
    }
    assert not (copy / "workspace").exists(), "printing makes nothing"


def test_the_environment_wins_over_server_env_and_both_over_the_defaults(copy: Path) -> None:
    example = (copy / "mlflow" / "server.env.example").read_text()
    (copy / "mlflow" / "server.env").write_text(example.replace("MLFLOW_PORT=5000", "MLFLOW_PORT=5001"))
    assert options(copy)["--port"] == "5001"
    assert options(copy, MLFLOW_PORT="5002")["--port"] == "5002"
    uri = "postgresql+psycopg://mlflow:a=b@127.0.0.1/mlflow"
    with (copy / "mlflow" / "server.env").open("a") as file:
        file.write(f"BACKEND_STORE_URI={uri}\n")
    assert options(copy)["--backend-store-uri"] == uri


def test_without_an_installation_it_says_what_to_do(copy: Path) -> None:
    shutil.rmtree(copy / ".venv")
    done = subprocess.run(["bash", copy / "mlflow" / "serve.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make install" in done.stderr


def test_compose_runs_the_pinned_versions_and_is_published_to_this_machine_only(repository: Path) -> None:
    compose = yaml.safe_load((repository / "mlflow" / "compose.yaml").read_text())
    server = compose["services"]["server"]
    pins = (repository / "constraints.txt").read_text().splitlines()
    recipe = server["build"]["dockerfile_inline"]
    mlflow = re.search(r"mlflow==[\d.]+", recipe)
    assert mlflow is not None
    assert mlflow[0] in pins
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert server["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "${POSTGRES_PASSWORD" in server["command"]
