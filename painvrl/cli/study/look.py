"""``painvrl study front`` and ``status``: look at a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.cli.study.common import StudyArgument, nothing_feasible, open_named
from painvrl.core.errors import ConfigError


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
    if json:
        render.json(table.as_dict())
    elif table.rows:
        render.front(table)
    if not table.rows:
        raise nothing_feasible(stored)
    if plot or png is not None or html is not None:
        from painvrl.cli import render_picks

        render_picks.pictures(table, plot=plot, png=png, html=html)


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
    if json:
        render.json(now.as_dict())
    else:
        render.status(now)
    if not now.front_size:
        raise nothing_feasible(stored)
