"""``painvrl study front`` and ``status``: look at a study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.cli.study.common import StudyArgument, nothing_feasible, open_named
from painvrl.core.errors import ConfigError, StudyError

if TYPE_CHECKING:
    from painvrl.study.report import FrontTable

PLOT_WIDTH, PLOT_HEIGHT = 90, 22  # columns and lines of a plane, where the terminal is not narrower


def front(
    study: StudyArgument = None,
    *,
    plot: Annotated[bool, typer.Option("--plot", help="Draw it below the table.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it into this file, as a PNG.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it into this file, as a page for the browser.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print the front: trials, or points of swept ones, that no other beats.

    Pictures show a plane for recall and one for NDCG, IID against OOD, at the objectives' K. The page works
    offline and shows each trial's objectives and knobs under the mouse.
    """
    if plot and json:
        raise ConfigError("does not go with --json", key="--plot")

    from painvrl.cli import render
    from painvrl.study.choice.picks import stored_picks
    from painvrl.study.report import front_table

    stored = open_named(study, workspace)
    table = front_table(stored, stored_picks(stored))
    if json or table.rows:
        render.answer(table, json=json)
    if not table.rows:
        raise nothing_feasible(stored)
    if plot or png is not None or html is not None:
        _draw(table, plot=plot, png=png, html=html)


def _draw(table: FrontTable, *, plot: bool, png: Path | None, html: Path | None) -> None:
    """Draw the front on stdout, and into files whose names go to stderr.

    Raises:
        StudyError: no plane can be shown.
        UserError: a file cannot be written.
    """
    from painvrl.core.wholefile import write_whole
    from painvrl.study.pictures.figure import front_page, title_of
    from painvrl.study.pictures.panels import panels_of

    panels = panels_of(table)
    if not panels:
        rule = "the study measures no metric on an IID and an OOD part, so there is no plane to draw"
        raise StudyError(rule, key=table.study)
    if plot:
        from rich.console import Console

        from painvrl.study.pictures.text import front_text

        console = Console(file=sys.stdout)
        width = min(console.width, PLOT_WIDTH) if console.is_terminal else PLOT_WIDTH
        colour = console.is_terminal and not console.no_color
        text = front_text(panels, width=width, height=PLOT_HEIGHT, colour=colour)
        typer.echo(text, color=True)  # the codes are there only if they are wanted
    if png is not None:
        from painvrl.study.pictures.png import front_png

        write_whole(png, front_png(panels, title_of(table)), what="the picture")
    if html is not None:
        write_whole(html, front_page(table) or "", what="the picture")
    for path in (png, html):
        if path is not None:
            typer.echo(f"picture: {path}", err=True)


def status(
    study: StudyArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print how far a study is, and why trials failed."""
    from painvrl.cli import render
    from painvrl.study.report import status as status_of

    stored = open_named(study, workspace)
    now = status_of(stored)
    render.answer(now, json=json)
    if not now.front_size:
        raise nothing_feasible(stored)
