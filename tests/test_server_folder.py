"""The tracking server's folder: its script runs on a real PostgreSQL, its containers are read."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from painvrl.core.yamlfile import dump_yaml, validated
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec

PATIENCE = 180.0  # seconds for a server to start on a busy machine


@pytest.fixture
def copy(tmp_path: Path, repository: Path) -> Path:
    """The folder in a repository of its own, with a Python that is never run."""
    shutil.copytree(repository / "mlflow", tmp_path / "mlflow")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    return tmp_path


def printed(root: Path, **environment: str) -> str:
    """What ``serve.sh --print`` says."""
    plain = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    return subprocess.run(
        ["bash", root / "mlflow" / "serve.sh", "--print"],
        env=plain | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def options(root: Path, **environment: str) -> dict[str, str]:
    """The options of the command that ``serve.sh`` would run, and the database that it hands over."""
    (name, database), *rest = (word.split("=", 1) for word in shlex.split(printed(root, **environment)))
    words = ["=".join(parts) for parts in rest]
    assert (name, words[1:4]) == ("MLFLOW_BACKEND_STORE_URI", ["-m", "mlflow", "server"])
    return {"database": database} | dict(zip(words[4::2], words[5::2], strict=True))


def test_by_default_it_serves_the_workspace_to_this_machine_only(copy: Path) -> None:
    assert options(copy) == {
        "database": f"sqlite:///{copy}/workspace/mlflow.db",
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
    with (copy / "mlflow" / "server.env").open("a") as file:
        file.write("MLFLOW_BACKEND_STORE_URI=sqlite:////runs/x.db?a=b\n")
    assert options(copy)["database"] == "sqlite:////runs/x.db?a=b"


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ("MLFLOW_PORT=6001", "--port", "6001"),  # and no newline
        ('MLFLOW_HOST="0.0.0.0"\n', "--host", "0.0.0.0"),
        ("MLFLOW_HOST='0.0.0.0'\n", "--host", "0.0.0.0"),
        ("MLFLOW_ARTIFACTS_DESTINATION=s3://b/p=\n", "--artifacts-destination", "s3://b/p="),
        ('MLFLOW_ARTIFACTS_DESTINATION=a"b"\n', "--artifacts-destination", 'a"b"'),
    ],
)
def test_server_env_is_read_to_the_letter(copy: Path, line: str, option: str, value: str) -> None:
    (copy / "mlflow" / "server.env").write_text(line)
    assert options(copy)[option] == value


def test_a_setting_may_have_digits_in_its_name(copy: Path) -> None:
    (copy / "mlflow" / "server.env").write_text("MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000\n")
    python = copy / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$MLFLOW_S3_ENDPOINT_URL"\n')
    done = subprocess.run(["bash", copy / "mlflow" / "serve.sh"], capture_output=True, text=True, check=True)
    assert done.stdout == "http://127.0.0.1:9000\n"


def test_the_driver_need_not_be_named_and_the_password_is_not_printed(copy: Path) -> None:
    uri = "postgresql://mlflow:a=b:c@127.0.0.1/mlflow"
    shown = options(copy, MLFLOW_BACKEND_STORE_URI=uri)["database"]
    assert shown == "postgresql+psycopg://mlflow:***@127.0.0.1/mlflow"
    assert "a=b:c" not in printed(copy, MLFLOW_BACKEND_STORE_URI=uri)


def test_a_password_behind_the_question_mark_is_not_printed_either(copy: Path) -> None:
    uri = "postgresql+psycopg://me:a@b@127.0.0.1/mlflow?sslpassword=a@b&password=a@b&user=me"
    shown = options(copy, MLFLOW_BACKEND_STORE_URI=uri)["database"]
    assert shown == "postgresql+psycopg://me:***@127.0.0.1/mlflow?sslpassword=***&password=***&user=me"
    for uri in ("postgresql+psycopg://me:a/b@h/db", "postgresql+psycopg://me:a?b@h/db?PASSWORD=a/b"):
        shown = options(copy, MLFLOW_BACKEND_STORE_URI=uri)
        assert "a?b" not in str(shown)
        assert "a/b" not in str(shown)


def test_every_setting_of_the_example_is_one_that_something_reads(repository: Path) -> None:
    folder = repository / "mlflow"
    example = (folder / "server.env.example").read_text()
    named = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    compose = set(re.findall(r"\$\{([A-Z_]+)", (folder / "compose.yaml").read_text()))
    script = set(re.findall(r"\$\{([A-Z_]+):-", (folder / "serve.sh").read_text()))
    quiet = {"MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"}  # no one need set these
    assert compose <= named
    assert script - quiet <= named
    assert named - compose - script == {"MLFLOW_SERVER_ALLOWED_HOSTS"} - compose, "MLflow itself reads that"


def test_without_an_installation_it_says_what_to_do(copy: Path) -> None:
    shutil.rmtree(copy / ".venv")
    done = subprocess.run(["bash", copy / "mlflow" / "serve.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make install" in done.stderr


@pytest.fixture
def compose(repository: Path) -> dict[str, Any]:
    """The containers, as they are written down."""
    parsed = yaml.safe_load((repository / "mlflow" / "compose.yaml").read_text())
    assert isinstance(parsed, dict)
    return parsed


def test_compose_runs_pinned_versions_those_of_the_constraints(
    compose: dict[str, Any], repository: Path
) -> None:
    pins = (repository / "constraints.txt").read_text().splitlines()
    assert set(compose["services"]) == {"database", "server", "dashboard"}
    for service in compose["services"].values():
        recipe = service.get("build", {}).get("dockerfile_inline", "")
        (image,) = re.findall(r"^FROM (\S+)", recipe, re.MULTILINE) or [service["image"]]
        assert re.search(r":\d+\.\d+", image), f"{image} is not pinned"
        packages = re.findall(r"([\w\[\]-]+)==([\d.]+)", recipe)
        assert bool(packages) is bool(recipe)
        for name, version in packages:
            assert f"{name.partition('[')[0]}=={version}" in pins


def test_compose_publishes_to_this_machine_only_waits_for_the_database_and_keeps_what_it_writes(
    compose: dict[str, Any], repository: Path
) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert all(port.startswith("127.0.0.1:${") for port in service["ports"]), name
        if name != "database":
            assert service["depends_on"] == {"database": {"condition": "service_healthy"}}
    kept = [volume.partition(":")[0] for one in services.values() for volume in one.get("volumes", ())]
    assert set(kept) == {*compose["volumes"], "./initdb"}
    made = (repository / "mlflow" / "initdb" / "studies.sql").read_text()
    assert "CREATE DATABASE studies;" in made
    assert services["database"]["environment"]["POSTGRES_DB"] == "mlflow"
    assert services["server"]["environment"]["MLFLOW_BACKEND_STORE_URI"].endswith("@database/mlflow")
    assert services["dashboard"]["command"][1].endswith("@database/studies")


def test_the_server_in_a_container_gets_the_options_of_the_script(
    compose: dict[str, Any], copy: Path
) -> None:
    server = compose["services"]["server"]
    command = server["command"]
    assert command[:4] == ["python", "-m", "mlflow", "server"]
    given = dict(zip(command[4::2], command[5::2], strict=True))
    assert set(given) | {"database"} == set(options(copy))
    assert server["ports"][0].endswith(f":{given['--port']}")
    assert f":{given['--port']}/health" in server["healthcheck"]["test"][-1]
    assert server["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert f"{given['--artifacts-destination']}" in [one.partition(":")[2] for one in server["volumes"]]


def answers(url: str) -> bytes | None:
    """The body of a page, or nothing while no one answers."""
    try:
        with urllib.request.urlopen(url, timeout=30) as page:
            body = page.read()
            assert isinstance(body, bytes)
            return body
    except urllib.error.URLError:
        return None


@pytest.fixture
def server(copy: Path, database: str, tmp_path: Path) -> Iterator[str]:
    """``serve.sh`` on PostgreSQL, with this environment's Python."""
    python = copy / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"MLFLOW_PORT": str(port), "MLFLOW_BACKEND_STORE_URI": database}
    log = tmp_path / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["bash", copy / "mlflow" / "serve.sh"],
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + PATIENCE
            while answers(f"{url}/health") != b"OK":
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            commands = Path(f"/proc/{process.pid}/cmdline")
            assert not commands.exists() or b"geheim" not in commands.read_bytes()
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.slow
def test_a_study_runs_through_the_server_and_on_the_same_postgresql(
    server: str, postgres: Callable[[], str], copy: Path, tmp_path: Path, tiny_config: TrainConfig
) -> None:
    spec = tmp_path / "shared.yaml"
    tree = {
        "study": {"name": "shared", "trials": 3, "sampler": "random", "storage": postgres()},
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": tiny_config.model_dump(mode="json"),
        "space": {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}},
        "presets": [],
        "pruning": False,
    }
    spec.write_text(dump_yaml(validated(StudySpec, tree)), encoding="utf-8")

    def painvrl(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "painvrl.cli", *map(str, arguments), "--workspace", tmp_path / "own"],
            env={**os.environ, "MLFLOW_TRACKING_URI": server},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "geheim" not in done.stdout + done.stderr
        assert "View run" not in done.stdout, "MLflow's own lines are no results"
        return done.stdout

    link = painvrl("study", "run", spec, "--device", "cpu").splitlines()[-1]
    assert link.startswith(f"{server}/#/experiments/")
    front = json.loads(painvrl("study", "front", spec, "--json"))
    assert painvrl("ui", "--study", spec).splitlines()[-1] == f"front of shared: {link}"
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"cache", "spool", "users"}, (
        "no database of its own"
    )

    query = {
        "filter": "tags.pareto = 'true'",
        "experiment_ids": [link.split("/experiments/")[1].split("/")[0]],
    }
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/runs/search",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        runs = {run["info"]["run_id"] for run in json.load(answer)["runs"]}
    assert runs == {row["run_id"] for row in front["rows"]} != set()
    pages = list((copy / "workspace" / "mlartifacts").rglob("front.html"))
    assert len(pages) == 1, "artifacts go through the server"

    chosen = front["rows"][0]
    retrained = painvrl("train", "--best", "--study", spec, "--run", chosen["run_id"], "--device", "cpu")
    assert retrained.startswith(f"trial {chosen['trial']} of the study: ")
    assert "repeat the trial's to the last digit" in retrained
    assert "registered model: models:/" in retrained
