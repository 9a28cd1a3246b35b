"""``painvrl study front``, ``status``, ``report`` and ``compare``: look at what studies have found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    StorageOption,
    StudyArgument,
    WorkspaceOption,
    nothing_feasible,
    open_named,
)
from painvrl.cli.output import as_it_is, with_colours
from painvrl.core.errors import ConfigError, NothingFeasible, Regressed, StudyError
from painvrl.core.wholefile import write_whole
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.study.comparison.compare import ComparedStudy
    from painvrl.study.front import FrontTable
    from painvrl.study.store.storage import StoredStudy

PLOT_WIDTH, PLOT_HEIGHT = 90, 22  # columns and lines of a plane, where the terminal is not narrower


def front(
    study: StudyArgument = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every point; without it, of many, those that spread best.")
    ] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw it below the table.")] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it into this file, as a PNG.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it into this file, as a page for the browser.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
    json: JsonOption = False,
) -> None:
    """Print the front: the points that no other point beats.

    Of more than 20 points, 20 are printed that stand for all: the best of each objective, every pick, and
    those that add most to the hypervolume. JSON and pictures always have all.

    Pictures show a plane for recall and one for NDCG, IID against OOD, at the objectives' K. The page works
    offline and shows the objectives and hyperparameters of the trial that the mouse points at.

    Example: painvrl study front --plot
    """
    if plot and json:
        raise ConfigError("does not go with --json", key="--plot")

    from painvrl.cli import render
    from painvrl.study.choice.picks import stored_picks
    from painvrl.study.front import front_table

    stored = open_named(study, workspace, storage)
    table = front_table(stored, stored_picks(stored))
    if json:
        render.print_json(table.as_dict())
    elif table.rows:
        render.show(*table.blocks(everything=everything))
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
    from painvrl.study.plots.figure import front_page, title_of
    from painvrl.study.plots.panels import panels_of

    panels = panels_of(table)
    if not panels:
        rule = "the study measures no metric on an IID and an OOD part, so there is no plane to draw"
        raise StudyError(rule, key=table.study)
    if plot:
        from rich.console import Console

        from painvrl.study.plots.text import front_text

        console = Console(file=sys.stdout)
        width = min(console.width, PLOT_WIDTH) if console.is_terminal else PLOT_WIDTH
        colour = console.is_terminal and not console.no_color
        text = front_text(panels, width=width, height=PLOT_HEIGHT, colour=colour)
        # The codes are there only if they are wanted.
        typer.echo(with_colours(text), color=True, file=as_it_is(sys.stdout))
    if png is not None:
        from painvrl.study.plots.png import front_png

        write_whole(png, front_png(panels, title_of(table)), what="the picture")
    if html is not None:
        write_whole(html, front_page(table) or "", what="the picture")
    for path in (png, html):
        if path is not None:
            typer.echo(f"picture: {path}", err=True)


def status(
    study: StudyArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
    json: JsonOption = False,
) -> None:
    """Print how far a study is, and why trials failed.

    Example: painvrl study status --json
    """
    from painvrl.cli import render
    from painvrl.study.front import status as status_of

    stored = open_named(study, workspace, storage)
    now = status_of(stored)
    render.answer(now, json=json)
    if not now.front_size:
        raise nothing_feasible(stored)


def report(
    study: StudyArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.html", help="Where to write it, in place of WORKSPACE/reports."
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it anew after each trial, until the study ends.")
    ] = False,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate", help="First read the data, and ask whether a mask can pay. It reads ood_valid."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write the study's report: one HTML file that works offline.

    The front and its history, the price of invariance, importance, what happened inside the trials, and
    what was pruned or failed. It becomes an artifact of the study's MLflow run, too. With --json the
    figures are printed instead, and nothing is written. With --watch an open page renews itself. What --gate
    says is kept with the study, for every later report.

    Example: painvrl study report movielens --watch
    """
    from painvrl.cli import render
    from painvrl.engine.user_value_store import UserStore
    from painvrl.study.report.page import study_report
    from painvrl.study.report.watch import watched

    if json and output is not None:
        raise ConfigError("writes nothing with --json; give one of them", key="--output", value=output)
    if json and watch:
        raise ConfigError("does not go with --json", key="--watch")
    stored, place = open_named(study, workspace, storage), Workspace(workspace)
    if gate:
        from painvrl.baselines.specification_gate import specification_gate, under_seeds
        from painvrl.study.report.header import note_gate

        prepared = under_seeds(stored.config, stored.identity.seeds, place.cache)
        asked = specification_gate(prepared, seed=stored.config.seed)
        note_gate(stored, asked)
        typer.echo(f"specification gate: {asked.verdict}", err=json)
    if json:
        render.print_json(study_report(stored, UserStore(place.users / stored.name)).as_dict())
        return
    path = output or place.reports / f"{stored.name}.html"
    if not watch:
        _write_report(stored, place, path)
        return
    typer.echo("the report is written anew after each trial; Ctrl-C ends this, not the study", err=True)
    try:
        for running in watched(stored, place):
            _write_report(stored, place, path, running=running)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the report stays as it was written last") from None


def _write_report(stored: StoredStudy, place: Workspace, path: Path, *, running: bool = False) -> None:
    """Write the report; of a study that runs for the page alone, and nothing while it has no front.

    Raises:
        NothingFeasible: a study that does not run has no front.
        UserError: the file cannot be written.
    """
    from painvrl.engine.user_value_store import UserStore
    from painvrl.study.report.page import PAGE, report_page
    from painvrl.study.report.watch import EVERY
    from painvrl.study.tracking.mlflow_notes import run_pages, write_notes

    runs, reached = None, True
    try:
        runs = run_pages(stored, place)
    except StudyError as error:
        reached = False
        typer.echo(f"warning: no links to runs, and no copy in MLflow: {error}", err=True)
    users, refresh = UserStore(place.users / stored.name), EVERY if running else None
    try:
        _, page = report_page(stored, users, runs=runs, refresh=refresh)
    except NothingFeasible:
        if running:
            return
        raise
    write_whole(path, page, what="the report")
    typer.echo(f"report: {path}")
    if running or not reached:
        return
    try:
        if write_notes(stored, place, pages={PAGE: page}):
            typer.echo(f"also the artifact {PAGE} of the study's run in MLflow")
    except StudyError as error:
        typer.echo(f"warning: it is not in MLflow: {error}", err=True)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The study that was there first: its name or file.")],
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="The study that is compared with it; the same name if left out."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
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

    Example: painvrl study compare movielens movielens-v2
    """
    from painvrl.cli import render
    from painvrl.study.comparison.compare import compare as compare_studies

    first, second = workspace_a or workspace, workspace_b or workspace
    if b is None and (first == second or storage is not None):
        raise ConfigError("is needed where both studies lie in one place", key="B")
    studies = _compared(a, first, storage), _compared(b or a, second, storage)
    found = compare_studies(*studies, margin=margin, level=level)
    if html is not None:
        from painvrl.study.comparison.picture import comparison_page

        write_whole(html, comparison_page(found), what="the comparison")
    render.answer(found, json=json)
    if found.regressed:
        raise Regressed(f"the front of {found.b.study!r} regressed: {found.rule}")


def _compared(name: str, folder: Path, storage: str | None) -> ComparedStudy:
    from painvrl.engine.user_value_store import UserStore
    from painvrl.study.comparison.compare import ComparedStudy

    study = open_named(name, folder, storage)
    place = Workspace(folder)
    return ComparedStudy(study=study, users=UserStore(place.users / study.name), where=str(folder))
