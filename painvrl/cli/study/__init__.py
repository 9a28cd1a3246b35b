"""``painvrl study``: one file a command, or a few that belong together."""

from __future__ import annotations

import typer

from painvrl.cli.study import confirm, look, move, pick, run

app: typer.Typer = typer.Typer(
    help="Run studies and look at them.",
    epilog="Example: painvrl study front",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command(name="run")(run.run)
app.command(name="work")(run.work)
app.command(name="validate")(run.validate)
app.command(name="schema")(run.schema)
app.command(name="front")(look.front)
app.command(name="status")(look.status)
app.command(name="pick")(pick.pick)
app.command(name="confirm")(confirm.confirm)
app.command(name="compare")(look.compare)
app.command(name="report")(look.report)
app.command(name="move")(move.move)
