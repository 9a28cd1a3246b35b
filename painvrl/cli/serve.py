"""``painvrl serve``: a registered model that answers over HTTP."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, WorkspaceOption
from painvrl.cli.server import HOST, need_free, running, wait_until_up
from painvrl.core.workspace import Workspace


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A registered model: NAME, NAME/VERSION or NAME@ALIAS; the default is what was registered "
            "last.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5001,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve a registered model over HTTP.

    It is what `mlflow models serve --env-manager local` does, with the workspace's registry. The server
    listens on this machine only; Ctrl-C ends it.

    Example: painvrl serve --port 8001
    """
    from painvrl.serving.registered_models import example_request, find_model
    from painvrl.study.tracking.port import IGNORED, resolve_tracking_uri

    need_free(port)  # before the registry is asked: a port that cannot be had needs no model to say so
    place = Workspace(workspace)
    uri = find_model(model, place)
    request = shlex.quote(example_request(uri, place))
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri),
        *("--env-manager", "local", "--host", HOST, "--port", str(port)),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in IGNORED} | {
        # MLflow starts uvicorn by its name, and the environment of this command need not be active.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "MLFLOW_TRACKING_URI": resolve_tracking_uri(place),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    log = place.create().root / "mlflow-model.log"
    if sys.stderr.isatty():
        typer.echo(f"starting the server of {uri} ...", err=True)
    with running(command, environment, place.root, log) as server:
        wait_until_up(server, port, log)
        address = f"http://{HOST}:{port}/invocations"
        typer.echo(f"serving {uri}: {address} (Ctrl-C ends it)")
        typer.echo(f"curl {address} -H 'Content-Type: application/json' -d {request}")
        sys.stdout.flush()
        # Ctrl-C is how this command ends, not an interruption of work.
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
