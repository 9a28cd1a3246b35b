"""``painvrl doctor``: is everything there?"""

from __future__ import annotations

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, DeviceOption, JsonOption, WorkspaceOption


def doctor(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Check the installation, the device and the workspace.

    Exits with 1 if something essential is broken.
    """
    from painvrl.cli import render
    from painvrl.cli.installation import diagnose
    from painvrl.core.workspace import Workspace

    diagnosis = diagnose(Workspace(workspace), device=device)
    render.answer(diagnosis, json=json)
    if not diagnosis.healthy:
        raise typer.Exit(1)
