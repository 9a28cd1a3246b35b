"""A confirmed front on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from painvrl.cli.render import make_table, print_table

if TYPE_CHECKING:
    from painvrl.study.confirmation.table import Confirmation


def confirmation(found: Confirmation) -> None:
    """Print the candidates, what was measured first, and the confirmed front."""
    for caption, (columns, rows) in (
        (found.caption(), found.text()),
        (found.first_caption(), found.first_text()),
    ):
        if rows:
            print_table(make_table(columns, rows, title=caption))
    for line in found.sentences():
        typer.echo(line)
