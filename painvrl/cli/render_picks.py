"""What the commands around picks print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from painvrl.cli import render

if TYPE_CHECKING:
    from painvrl.study.choosing import Kept

_STANDING = {"front": "on the front", "gone": "no longer there"}


def picked(study: str, kept: Kept, *, json: bool) -> None:
    """Print a new pick and its reason."""
    if json:
        render.json({"study": study, **kept.as_dict()})
    else:
        typer.echo(f"{kept.pick.alias} = trial {kept.pick.trial} of {study}: {kept.pick.reason}")
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
            f"{one.pick.alias} = trial {one.pick.trial} ({standing}), by {one.pick.rule}: {one.pick.reason}"
        )


def forgotten(study: str, kept: Kept, *, json: bool) -> None:
    """Print what was removed."""
    if json:
        render.json({"study": study, "cleared": kept.as_dict()})
    else:
        typer.echo(f"{kept.pick.alias} is no longer a pick of {study} (it was trial {kept.pick.trial})")
    _warn(kept)


def _warn(kept: Kept) -> None:
    if kept.warning is not None:
        typer.echo(f"warning: the run in MLflow does not show it: {kept.warning}", err=True)
