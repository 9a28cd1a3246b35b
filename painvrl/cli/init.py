"""``painvrl init``: a study's file for the user's own tables."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from painvrl.data.proposal import Question


def _column(option: str, what: str) -> Any:
    return typer.Option(option, metavar="COLUMN", help=f"Column of the {what}.")


def init(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INTERACTIONS] [FILE...]",
            help="The table of interactions, then tables and feature files (.npz, .npy) of the items; or "
            "folders of them. Left out: the folder data, or the current one.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="In place of studies/NAME.yaml; names the study."
        ),
    ] = None,
    user: Annotated[str | None, _column("--user", "users")] = None,
    item: Annotated[str | None, _column("--item", "items")] = None,
    time: Annotated[str | None, _column("--time", "times; none for none")] = None,
    rating: Annotated[str | None, _column("--rating", "ratings; none for none")] = None,
    key: Annotated[str | None, _column("--key", "item ids, of the table of items")] = None,
    title: Annotated[str | None, _column("--title", "titles; none for none")] = None,
    tags: Annotated[str | None, _column("--tags", "tags or categories; none for none")] = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", metavar="NAME", help="cold_item, temporal, temporal_user or popularity."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the proposals; ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Look at your own tables, and write a study's file that fits them and runs as it is.

    It finds the columns of users, items, times, ratings, titles, texts and tags by their names and contents,
    proposes filters and a split, and says why. Where it is unsure, it asks.

    Example: painvrl init data/interactions.csv data/items.csv --yes
    """
    from painvrl.core.errors import ConfigError, UserError
    from painvrl.data.proposal import Answers, propose
    from painvrl.study.file.proposed import name_of, study_file, write_study

    given = {
        "--user": user,
        "--item": item,
        "--time": time,
        "--rating": rating,
        "--key": key,
        "--title": title,
        "--tags": tags,
        "--protocol": protocol,
    }
    if output is not None and output.exists() and not force:  # before anyone is asked anything
        raise ConfigError("is there already; --force overwrites it", file=output)
    answers = Answers(
        given={option: value for option, value in given.items() if value is not None},
        ask=_ask if _is_terminal() and not yes else None,
        takes_proposals=yes,
    )
    try:
        proposal = propose(paths or [Path("data" if Path("data").is_dir() else ".")], answers)
    except UserError:
        for line in answers.said:
            if (
                line.startswith("not ") or " is not used" in line
            ):  # what was passed over may be what is missed
                typer.echo(line, err=True)
        raise
    called = name_of(proposal.name if output is None else output.stem)
    path = output or Path("studies") / f"{called}.yaml"
    written = write_study(study_file(proposal, name=called, path=path), path, force=force)
    for line in answers.said:
        typer.echo(line)
    for file in written:
        typer.echo(f"written: {file}")
    typed = shlex.quote(str(path))
    typer.echo(f"next: painvrl data inspect {typed}, then painvrl study run {typed}")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _ask(question: Question) -> str:
    """Ask on the terminal; the best candidate is the default."""
    from painvrl.data.proposal.questions import NONE

    typer.echo(f"Which one is the {question.what}, of {question.file}?", err=True)
    for line in question.lines():
        typer.echo(f"  {line}", err=True)
    others = [one for one in question.known if one not in {each.name for each in question.candidates}]
    if others:
        typer.echo(f"  else: {', '.join(others)}", err=True)
    best = question.candidates[0].name if question.candidates else NONE if question.optional else None
    answer: str = typer.prompt(question.option, default=best, err=True)
    return answer
