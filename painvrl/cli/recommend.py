"""``painvrl recommend``: what a trained model would show a user."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.core.workspace import Workspace


def recommend(
    user: Annotated[str, typer.Option(metavar="RAW_ID", help="The user's raw id.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A checkpoint's folder; the default is the latest of the workspace."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="K", help="How many items.")] = 10,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print the best items for a user.

    Items that the user has taken already, in whatever part of the data, are left out.
    """
    from painvrl.cli import render
    from painvrl.core.tables import TextTable
    from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint

    folder = checkpoint or latest_checkpoint(Workspace(workspace).checkpoints)
    loaded = load_checkpoint(folder)
    items = loaded.recommend(user, k)
    if json:
        best = [asdict(one) for one in items]
        render.print_json({"user": user, "checkpoint": str(loaded.path), "items": best})
    else:
        rows = [[str(one.rank), f"{one.score:.4f}", one.item, one.title] for one in items]
        render.show(TextTable(columns=["rank", "score", "item", "title"], rows=rows))
