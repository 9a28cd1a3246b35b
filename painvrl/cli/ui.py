"""``painvrl ui``: the MLflow UI on the workspace's runs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, StorageOption, WorkspaceOption, named_study
from painvrl.cli.server import HOST, need_free, running, wait_until_up
from painvrl.core.errors import ConfigError
from painvrl.core.shown import visible
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.study.file.spec import StudySpec


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Link to this study's front only: its name or its file.",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open the front in the browser.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
) -> None:
    """Open the MLflow UI on the workspace's runs.

    Prints a link to each study's front. The server listens on this machine only; Ctrl-C ends it.

    Example: painvrl ui --open
    """
    from painvrl.study.tracking.mlflow_database import ready_database
    from painvrl.study.tracking.port import is_server, resolve_tracking_uri, ui_of

    place = Workspace(workspace)
    only = named_study(study)
    uri = resolve_tracking_uri(place)
    if is_server(uri):
        _need_answer(uri)
        there = ui_of(uri, "")
        typer.echo(f"the runs are on the server {there}")
        _show(_fronts(place, there, only, storage), there, browser=browser)
        return
    if uri == place.tracking_uri and not place.mlflow_db.exists():
        raise ConfigError("has no runs yet; make some with `painvrl study run`", file=place.root)
    need_free(port)
    if uri == place.tracking_uri:
        ready_database(place)
    base = f"http://{HOST}:{port}"
    if sys.stderr.isatty():
        typer.echo("starting the MLflow server ...", err=True)
    with _server(uri, place, port) as server:
        fronts = _fronts(place, base, only, storage)  # reads the database itself, while the server starts
        wait_until_up(server, port, _log(place))
        typer.echo(f"MLflow UI: {base} (Ctrl-C ends it)")
        _show(fronts, base, browser=browser)
        # Ctrl-C is how this command ends, not an interruption of work.
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()


def _show(fronts: Mapping[str, str], base: str, *, browser: bool) -> None:
    """Print the links; open the only one in the browser, or what all of them begin with."""
    for name, link in fronts.items():
        typer.echo(f"front of {visible(name)}: {link}")
    sys.stdout.flush()
    if browser and not webbrowser.open(next(iter(fronts.values())) if len(fronts) == 1 else base):
        typer.echo("warning: no browser could be opened; open the link yourself", err=True)


def _fronts(
    workspace: Workspace, base: str, only: StudySpec | str | None, storage: str | None = None
) -> dict[str, str]:
    """A link by the name of each study whose front is tracked, or of ``only`` one."""
    from painvrl.study.store.storage import list_studies, open_study
    from painvrl.study.tracking.mlflow_notes import front_link

    wanted = list_studies(workspace, storage=storage) if only is None else (only,)
    studies = [open_study(one, workspace, storage=storage) for one in wanted]
    links = {study.name: front_link(study, workspace, base_url=base) for study in studies}
    return {name: link for name, link in links.items() if link}


def _need_answer(uri: str) -> None:
    """MLflow itself would try for minutes."""
    try:
        address = urlsplit(uri)
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=10).close()
    except ValueError:  # without its words, which may be those of a password
        raise ConfigError("is not a server's URL", key="MLFLOW_TRACKING_URI", value=uri) from None
    except OSError as error:
        raise ConfigError(
            f"the server does not answer ({error.strerror or error})", key="MLFLOW_TRACKING_URI", value=uri
        ) from None


def _server(uri: str, workspace: Workspace, port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    from painvrl.study.tracking.port import IGNORED

    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--artifacts-destination", workspace.artifacts.as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in IGNORED} | {
        "MLFLOW_BACKEND_STORE_URI": uri,  # may hold a password; command lines are everybody's to read
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its workers serve features that no one uses here
    }
    return running(command, environment, workspace.root, _log(workspace))


def _log(workspace: Workspace) -> Path:
    return workspace.root / "mlflow-server.log"
