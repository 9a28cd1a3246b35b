"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from painvrl.study.file.spec import StudySpec

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
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        max=64,
        metavar="N",
        help="Trials at a time: above 1, N processes that share the cores, and all CUDA devices.",
    ),
]
MemoryFractionOption = Annotated[
    float | None,
    typer.Option(
        "--memory-fraction",
        min=0.01,
        max=1.0,
        metavar="SHARE",
        help="Of a CUDA device's memory, what each worker may use; "
        "by default 0.95 shared equally by the workers of a device.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]

DEFAULT_WORKSPACE = Path("workspace")


def named_study(study: str | None) -> StudySpec | str | None:
    """What ``open_study`` takes: a study's file is read (it may name another storage), a name stays one."""
    if study is None or Path(study).suffix not in {".yaml", ".yml"}:
        return study
    from painvrl.study.file.spec import load_spec

    return load_spec(Path(study))
