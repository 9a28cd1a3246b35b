"""Options that several commands share, and what goes with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from painvrl.cli.output import ReaderLeft
from painvrl.core.errors import NothingFeasible, PlaceError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.study.file.spec import StudySpec
    from painvrl.study.store.storage import StoredStudy

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        envvar="PAINVRL_WORKSPACE",
        metavar="DIR",
        help="Folder of studies, runs, caches and checkpoints.",
    ),
]
RunStatesOption = Annotated[
    Path | None,
    typer.Option(
        "--run-states",
        metavar="DIR",
        help="Where runs under way are kept, so that one that is killed goes on; run_states in the workspace "
        "by default. A folder that several hosts reach lets any of them go on with it.",
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
ExecutorOption = Annotated[
    Literal["serial", "processes", "ray"] | None,
    typer.Option(
        "--executor",
        help="Who trains: this process, processes beside it, or workers on a Ray cluster; "
        "by default the first with one worker, else the second.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Of a Ray cluster, such as HOST:6379; by default the one of this machine, or a new one.",
    ),
]
CpusOption = Annotated[
    float,
    typer.Option(
        "--cpus-per-trial", min=0, metavar="N", help="CPUs of a node that each worker on Ray takes."
    ),
]
GpusOption = Annotated[
    float,
    typer.Option(
        "--gpus-per-trial",
        min=0,
        metavar="N",
        help="GPUs of a node that each worker on Ray takes; 0.5 lets two share one.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The study's file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="A value (YAML) in place of the file's, such as config.rounds=3; may be repeated.",
    ),
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY", help="A study's name or file; not needed while the workspace holds only one."
    ),
]

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="The database that the study lies in, instead of that of the workspace or of its file.",
    ),
]

DEFAULT_WORKSPACE = Path("workspace")


def named_study(study: str | None) -> StudySpec | str | None:
    """What ``open_study`` takes: a study's file is read (it may name another storage), a name stays one."""
    if study is None or Path(study).suffix not in {".yaml", ".yml"}:
        return study
    from painvrl.study.file.spec import load_spec

    return load_spec(Path(study))


def first_words(text: str, *, quiet: bool = False) -> None:
    """Say on a terminal what a command begins with: the libraries that it needs take seconds to load."""
    if not quiet and sys.stderr.isatty():
        typer.echo(f"{text} ...", err=True)


@contextmanager
def goes_on() -> Iterator[None]:
    """Around what the same command continues with after it was stopped."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues") from None
    except ReaderLeft as left:
        raise PlaceError(f"{left.rule}; the same command continues", file=left.file) from None


def open_named(study: str | None, workspace: Path, storage: str | None) -> StoredStudy:
    """The study that a command was given, by name, by file, or the only one."""
    from painvrl.study.store.storage import open_study, unlike

    named = named_study(study)
    stored = open_study(named, Workspace(workspace), storage=storage)
    if named is not None and not isinstance(named, str) and (keys := unlike(stored, named)):
        typer.echo(
            f"note: {stored.name} was run with other values of {', '.join(keys)} than {study} has", err=True
        )
    return stored


def nothing_feasible(study: StoredStudy) -> NothingFeasible:
    """What a command that needs a front says where there is none."""
    from painvrl.study.store.records import why_no_front

    return NothingFeasible(why_no_front(study.name, study.trials()))
