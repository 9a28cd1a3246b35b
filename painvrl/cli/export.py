"""``painvrl export``: a trained model's vectors as files for other systems."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint's folder; the default is the latest of the workspace, which "
            "`train --best` has made.",
        ),
    ] = None,
    *,
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help=".npz or .safetensors; NAME.parquet makes NAME.users.parquet and NAME.items.parquet.",
        ),
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Write the vectors of users and items with raw ids and titles, and what the score is.

    A score is the inner product of two vectors, offsets included.

    Example: painvrl export --output vectors.parquet
    """
    from painvrl.cli import render
    from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint
    from painvrl.serving.export import export as write

    loaded = load_checkpoint(checkpoint or latest_checkpoint(Workspace(workspace).checkpoints))
    try:
        written = write(loaded, output)
    except ConfigError as error:
        raise ConfigError(error.rule, key="--output", value=error.value) from None
    if json:
        files = [str(file) for file in written.files]
        render.print_json({"checkpoint": str(loaded.path), **asdict(written), "files": files})
        return
    typer.echo(
        f"vectors of {written.users:,} users and {written.items:,} items, {written.width} columns: "
        f"{', '.join(map(str, written.files))}"
    )
    if written.untrained:
        called = "user has" if written.untrained == 1 else "users have"
        typer.echo(f"{written.untrained:,} {called} a zero vector: the model was not trained on them")
