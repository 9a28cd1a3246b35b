"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        envvar="PAINVRL_WORKSPACE",
        metavar="DIR",
        help="Folder of studies, runs, caches and checkpoints.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps; auto takes the best one here."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]

DEFAULT_WORKSPACE = Path("workspace")
