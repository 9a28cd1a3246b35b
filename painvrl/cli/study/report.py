"""``painvrl study report``: what a study found, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.cli.study.common import StudyArgument, open_named


def report(
    study: StudyArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.html", help="Where to write it, in place of WORKSPACE/reports."
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Write the study's report: one HTML file that works offline.

    The front and its history, the price of invariance, importance, what happened inside the trials, and
    what was pruned or failed. It becomes an artifact of the study's MLflow run, too. With --json the
    figures are printed instead, and nothing is written.
    """
    from painvrl.cli import render
    from painvrl.core.errors import ConfigError, StudyError
    from painvrl.core.workspace import Workspace
    from painvrl.study.page.page import PAGE, report_page, study_report
    from painvrl.study.trial.user_values import UserStore

    if json and output is not None:
        raise ConfigError("writes nothing with --json; give one of them", key="--output", value=output)
    stored, place = open_named(study, workspace), Workspace(workspace)
    users = UserStore(place.users / stored.name)
    if json:
        render.print_json(study_report(stored, users).as_dict())
        return
    from painvrl.core.wholefile import write_whole
    from painvrl.study.tracking.mlflow_notes import write_notes

    _, page = report_page(stored, users)
    path = write_whole(output or place.reports / f"{stored.name}.html", page, what="the report")
    typer.echo(f"report: {path}")
    try:
        if write_notes(stored, place, pages={PAGE: page}):
            typer.echo(f"also the artifact {PAGE} of the study's run in MLflow")
    except StudyError as error:
        typer.echo(f"warning: it is not in MLflow: {error}", err=True)
