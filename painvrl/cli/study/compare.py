"""``painvrl study compare``: two studies side by side, and a gate for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.cli.study.common import open_named

if TYPE_CHECKING:
    from painvrl.study.comparison.sides import ComparedStudy


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The study that was there first: its name or file.")],
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="The study that is compared with it; the same name if left out."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    workspace_a: Annotated[
        Path | None, typer.Option("--workspace-a", metavar="DIR", help="Workspace of A, if another.")
    ] = None,
    workspace_b: Annotated[
        Path | None, typer.Option("--workspace-b", metavar="DIR", help="Workspace of B, if another.")
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", metavar="SHARE", help="Share of A's hypervolume that B may lose.")
    ] = 0.0,
    level: Annotated[float, typer.Option("--level", metavar="SHARE", help="Of the intervals.")] = 0.95,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write both fronts to an HTML page.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare the fronts of two studies; exits with 4 if that of B regressed.

    Regressed means: the whole interval of the relative difference of hypervolumes, of equally many trials,
    lies below minus the margin.
    """
    from painvrl.cli import render
    from painvrl.core.errors import ConfigError, Regressed
    from painvrl.study.comparison.compare import compare as compare_studies

    first, second = workspace_a or workspace, workspace_b or workspace
    if b is None and first == second:
        raise ConfigError("is needed where both studies lie in one workspace", key="B")
    found = compare_studies(_compared(a, first), _compared(b or a, second), margin=margin, level=level)
    if html is not None:
        from painvrl.core.wholefile import write_whole
        from painvrl.study.comparison.picture import comparison_page

        write_whole(html, comparison_page(found), what="the comparison")
    render.answer(found, json=json)
    if found.regressed:
        raise Regressed(f"the front of {found.b.study!r} regressed: {found.rule}")


def _compared(name: str, folder: Path) -> ComparedStudy:
    from painvrl.core.workspace import Workspace
    from painvrl.study.comparison.sides import ComparedStudy
    from painvrl.study.trial.user_values import UserStore

    study = open_named(name, folder)
    place = Workspace(folder)
    return ComparedStudy(study=study, users=UserStore(place.users / study.name), where=str(folder))
