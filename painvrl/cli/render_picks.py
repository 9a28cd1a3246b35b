"""What the commands around a choice print: picks, and pictures of the front."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from painvrl.cli import render
from painvrl.core.errors import StudyError

if TYPE_CHECKING:
    from painvrl.study.choice.choosing import Kept
    from painvrl.study.report import FrontTable

PLOT_WIDTH, PLOT_HEIGHT = 90, 22  # columns and lines of a plane, where the terminal is not narrower

_STANDING = {"front": "on the front", "gone": "no longer there"}


def picked(study: str, kept: Kept, *, json: bool) -> None:
    """Print a new pick and its reason."""
    if json:
        render.json({"study": study, **kept.as_dict()})
    else:
        typer.echo(f"{kept.pick.alias} = trial {kept.pick.name} of {study}: {kept.pick.reason}")
        if (old := kept.replaced) is not None:
            typer.echo(
                f"in place of trial {old.name}, which was {old.alias} by {old.rule}; `--as NAME` keeps both"
            )
    _warn(kept)


def picks(study: str, kept: Sequence[Kept], *, json: bool) -> None:
    """Print all picks with where their trials stand now."""
    if json:
        render.json({"study": study, "picks": [one.as_dict() for one in kept]})
        return
    if not kept:
        typer.echo(f"nothing is picked in {study}; `painvrl study pick --knee` would pick the knee")
    for one in kept:
        standing = _STANDING.get(one.standing, one.standing)
        typer.echo(
            f"{one.pick.alias} = trial {one.pick.name} ({standing}), by {one.pick.rule}: {one.pick.reason}"
        )


def forgotten(study: str, kept: Kept, *, json: bool) -> None:
    """Print what was removed."""
    if json:
        render.json({"study": study, "cleared": kept.as_dict()})
    else:
        typer.echo(f"{kept.pick.alias} is no longer a pick of {study} (it was trial {kept.pick.name})")
    _warn(kept)


def pictures(table: FrontTable, *, plot: bool, png: Path | None, html: Path | None) -> None:
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
        from painvrl.study.pictures.text import front_text

        console = Console(file=sys.stdout)
        width = min(console.width, PLOT_WIDTH) if console.is_terminal else PLOT_WIDTH
        text = front_text(panels, width=width, height=PLOT_HEIGHT, colour=_takes_colour(console))
        typer.echo(text, color=True)  # the codes are there only if they are wanted
    if png is not None:
        from painvrl.study.pictures.png import front_png

        write_whole(png, front_png(panels, title_of(table)), what="the picture")
    if html is not None:
        write_whole(html, front_page(table) or "", what="the picture")
    for path in (png, html):
        if path is not None:
            typer.echo(f"picture: {path}", err=True)


def _takes_colour(console: Console) -> bool:
    return console.is_terminal and not console.no_color


def _warn(kept: Kept) -> None:
    if kept.warning is not None:
        typer.echo(f"warning: the run in MLflow does not show it: {kept.warning}", err=True)
