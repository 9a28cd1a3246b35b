"""``painvrl study move``: a study in another database or workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def move(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="The study's name.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FOLDER|URL", help="Another workspace, which is made, or the URL of a database."
        ),
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="The study's database, if not the workspace's own."),
    ] = None,
    *,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Delete the study's trials in the old place; files and runs stay."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Copy a study with all that belongs to it to another place, where it goes on.

    To a folder go trials, picks, MLflow's runs, checkpoints, users' values and confirmations. To a URL go the
    trials and what is noted of them, while files and runs stay. Nothing is deleted without --delete; what
    is left in the old place is said.

    Example: painvrl study move movielens --to /mnt/shared/workspace
    """
    from painvrl.cli import render
    from painvrl.core.workspace import Workspace
    from painvrl.study.moving.move import move_study

    moved = move_study(study, Workspace(workspace), to, storage=storage, delete=delete)
    render.answer(moved, json=json)
