"""``painvrl study``: one file a command, or a few that belong together."""

from __future__ import annotations

import typer

from painvrl.cli.study import compare, confirm, files, look, pick, report, run

app: typer.Typer = typer.Typer(
    help="Run studies and look at them.", no_args_is_help=True, rich_markup_mode=None
)
app.command(name="run")(run.run)
app.command(name="validate")(files.validate)
app.command(name="schema")(files.schema)
app.command(name="front")(look.front)
app.command(name="status")(look.status)
app.command(name="pick")(pick.pick)
app.command(name="confirm")(confirm.confirm)
app.command(name="compare")(compare.compare)
app.command(name="report")(report.report)
