"""``painvrl ui``: the MLflow UI on the workspace's runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, WorkspaceOption, named_study
from painvrl.core.errors import ConfigError, PainvrlError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.study.file.spec import StudySpec

HOST = "127.0.0.1"  # the server has no passwords: no one but this machine may reach it
START_SECONDS = 180.0


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Link to this study's front only: its name, or its file if it has a storage.",
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Open the MLflow UI on the workspace's runs.

    Prints a link to each study's front. The server listens on this machine only; Ctrl-C ends it.
    """
    from painvrl.study.tracking.mlflow_database import ready_database
    from painvrl.study.tracking.port import is_server, resolve_tracking_uri

    place = Workspace(workspace)
    only = named_study(study)
    uri = resolve_tracking_uri(place)
    if is_server(uri):
        _need_answer(uri)
        typer.echo(f"the runs are on the server {uri}")
        for line in _fronts(place, uri, only):
            typer.echo(line)
        return
    if uri == place.tracking_uri and not place.mlflow_db.exists():
        raise ConfigError("has no runs yet; make some with `painvrl study run`", file=place.root)
    _need_free(port)
    if uri == place.tracking_uri:
        ready_database(place)
    base = f"http://{HOST}:{port}"
    if sys.stderr.isatty():
        typer.echo("starting the MLflow server ...", err=True)
    with _server(uri, place, port) as server:
        fronts = _fronts(place, base, only)  # reads the database itself, while the server starts
        _wait_until_up(server, port, place)
        typer.echo(f"MLflow UI: {base} (Ctrl-C ends it)")
        for line in fronts:
            typer.echo(line)
        sys.stdout.flush()
        # Ctrl-C is how this command ends, not an interruption of work.
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


def _fronts(workspace: Workspace, base: str, only: StudySpec | str | None) -> list[str]:
    """A line for each study whose front is tracked, or for ``only`` one."""
    from painvrl.study.store.storage import list_studies, open_study
    from painvrl.study.tracking.mlflow_notes import front_link

    wanted = list_studies(workspace) if only is None else (only,)
    studies = [open_study(one, workspace) for one in wanted]
    links = {study.name: front_link(study, workspace, base_url=base) for study in studies}
    return [f"front of {name}: {link}" for name, link in links.items() if link]


def _need_answer(uri: str) -> None:
    """MLflow itself would try for minutes."""
    address = urlsplit(uri)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=10).close()
    except OSError as error:
        raise ConfigError(
            f"the server does not answer ({error.strerror or error})", key="MLFLOW_TRACKING_URI", value=uri
        ) from None


def _need_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            probe.close()
            raise ConfigError(
                f"cannot be used ({error.strerror}); name another one: --port {_free_port()} is free",
                key="--port",
                value=port,
            ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _server(uri: str, workspace: Workspace, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server in a process group of its own, and end the whole group however we leave."""
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--artifacts-destination", workspace.artifacts.as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
    ]
    from painvrl.study.tracking.port import IGNORED

    environment = {name: value for name, value in os.environ.items() if name not in IGNORED} | {
        "MLFLOW_BACKEND_STORE_URI": uri,  # may hold a password; command lines are everybody's to read
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its workers serve features that no one uses here
    }

    def terminated(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 (signal's signature)
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, terminated)
    # The working directory keeps a folder mlflow/ beside the user out of the server's import path.
    with _log(workspace).open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=workspace.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        signal.signal(signal.SIGTERM, before)


def _wait_until_up(server: subprocess.Popen[bytes], port: int, workspace: Workspace) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise PainvrlError(
                f"the MLflow server ended with exit code {server.returncode}; its log is {_log(workspace)}"
            )
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.1)
    raise PainvrlError(
        f"the MLflow server did not answer within {START_SECONDS:.0f} s; its log is {_log(workspace)}"
    )


def _log(workspace: Workspace) -> Path:
    return workspace.root / "mlflow-server.log"
