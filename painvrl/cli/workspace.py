"""``painvrl workspace``: the folder that holds studies, runs, caches and checkpoints."""

from __future__ import annotations

from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    help="Look after the folder of studies, runs and checkpoints.",
    epilog="Example: painvrl workspace upgrade",
    rich_markup_mode=None,
)


@app.callback()
def workspace_commands() -> None:
    """Look after the folder of studies, runs and checkpoints."""


@app.command(name="upgrade")
def upgrade(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="A database in place of the workspace's own."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Give the studies of an earlier version the names that this version uses.

    Settings, choices and metrics get new names; no value changes. The database is copied first if it is
    a file. Checkpoints and runs in MLflow stay as they are. Ends with the version in painvrl.json.

    Example: painvrl workspace upgrade
    """
    from painvrl.cli import render
    from painvrl.core.workspace import Workspace
    from painvrl.study.store.upgrade import upgrade as upgrade_workspace

    render.answer(upgrade_workspace(Workspace(workspace), storage=storage), json=json)


@app.command(name="sync")
def sync(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="The studies' database, if not the workspace's own."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write to MLflow what it missed while it was out of reach: runs, curves, pages and picks' tags.

    A study goes on without MLflow, and keeps what MLflow is to get in the workspace's folder `spool`. It
    catches up by itself when MLflow answers again; this is for a study that ended before that. Called twice
    it writes nothing twice. Results of trials that the studies' database lacks are counted and set aside, and
    so are files that cannot be read.

    Example: painvrl workspace sync
    """
    from painvrl.cli import render
    from painvrl.core.workspace import Workspace
    from painvrl.study.mirror import sync as sync_workspace

    render.answer(sync_workspace(Workspace(workspace), storage=storage), json=json)
