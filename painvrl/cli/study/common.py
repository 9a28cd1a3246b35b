"""What the commands of ``painvrl study`` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import named_study
from painvrl.cli.output import ReaderLeft
from painvrl.core.errors import PlaceError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.study.store.storage import StoredStudy

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


@contextmanager
def goes_on() -> Iterator[None]:
    """Around what the same command goes on with after it was stopped."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on") from None
    except ReaderLeft as left:
        raise PlaceError(f"{left.rule}; the same command goes on", file=left.file) from None


def open_named(study: str | None, workspace: Path) -> StoredStudy:
    """The study that a command was given, by name, by file, or the only one."""
    from painvrl.study.store.storage import open_study

    return open_study(named_study(study), Workspace(workspace))


def nothing_feasible(study: StoredStudy) -> Exception:
    """What a command that needs a front says where there is none."""
    from painvrl.core.errors import NothingFeasible
    from painvrl.study.store.records import why_no_front

    return NothingFeasible(why_no_front(study.name, study.trials()))
