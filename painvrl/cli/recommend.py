"""``painvrl recommend``: what a trained model would show to users."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from painvrl.core.errors import ConfigError, PlaceError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.run.checkpoint import Checkpoint, Recommendation

    _Explained: TypeAlias = tuple[Recommendation, Mapping[str, float]]

STDIN = Path("-")
TABLES = (".parquet", ".csv")
COLUMNS = ["rank", "score", "item", "title"]
UNDIVIDED = (
    "the part `content` is not divided into invariant and variant: this fusion learns it of all features "
    "together"
)


@dataclass(frozen=True)
class _Asked:
    """A user who is asked for, and where: what an error names."""

    user: str
    key: str
    file: str | None = None


def recommend(
    user: Annotated[
        list[str] | None, typer.Option(metavar="RAW_ID", help="A user's raw id; may be repeated.")
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file of raw ids, one a line; - reads standard input."),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All users whom the model was trained on.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A checkpoint's folder; the default is the latest of the workspace."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="K", help="How many items a user.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a table, .parquet or .csv, instead of printing the items."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the parts of each score, which add up to it.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print the best items for one user or several.

    Items that a user has taken already, in whatever part of the data, are left out.

    Example: painvrl recommend --user 15 --explain
    """
    from painvrl.cli import render
    from painvrl.core.tables import TextTable
    from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint

    if [bool(user), users is not None, everyone].count(True) != 1:
        raise typer.BadParameter("name the users by one of --user, --users and --all")
    if output is not None and output.suffix not in TABLES:
        raise ConfigError(f"must end in {' or '.join(TABLES)}", key="--output", value=str(output))
    loaded = load_checkpoint(checkpoint or latest_checkpoint(Workspace(workspace).checkpoints))
    if everyone:
        asked = [_Asked(one, "--all") for one in loaded.trained_users]
        if others := len(loaded.user_ids) - len(asked):
            called = "user" if others == 1 else "users"
            typer.echo(f"left out: {others:,} {called} whom the model was not trained on", err=True)
    else:
        asked = [_Asked(one, "--user") for one in user or []] if users is None else _read(users)
    parts = loaded.parts if explain else ()
    where = str(loaded.path)
    notes = [UNDIVIDED] if "content" in parts else []
    best = [(one.user, _best(loaded, one, k, explain)) for one in asked]
    model = ", ".join(f"{kind} {name}" for kind, name in loaded.origin.items())
    typer.echo(f"by the model {where}{f' ({model})' if model else ''}", err=True)
    if output is not None:
        _write(output, best, parts)
        if json:
            written = {"checkpoint": where, "users": len(best), "output": str(output)}
            render.print_json(written | ({"notes": notes} if explain else {}))
        else:
            render.show(f"items of {len(best):,} user{'s' if len(best) != 1 else ''}: {output}", *notes)
        return
    alone = len(user or ()) == 1  # such an answer is no list of users
    if json:
        lists = [
            {"user": one, "items": [asdict(item) | ({"parts": of} if explain else {}) for item, of in items]}
            for one, items in best
        ]
        whole = {**lists[0], "checkpoint": where} if alone else {"checkpoint": where, "users": lists}
        render.print_json(whole | ({"notes": notes} if explain else {}))
    else:
        rows = [([] if alone else [one]) + _row(*item) for one, items in best for item in items]
        columns = [*([] if alone else ["user"]), *COLUMNS[:2], *parts, *COLUMNS[2:]]
        render.show(TextTable(columns=columns, rows=rows), *notes)


def _row(item: Recommendation, parts: Mapping[str, float]) -> list[str]:
    numbers = [f"{value:z.4f}" for value in (item.score, *parts.values())]
    return [str(item.rank), *numbers, item.item, item.title]


def _read(file: Path) -> list[_Asked]:
    """The ids of a file as they stand; empty lines and the ends of lines are no part of them."""
    from painvrl.data.sources.tabular import lines_of

    called = "standard input" if file == STDIN else str(file)
    try:
        content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", file=called) from None
    except FileNotFoundError:
        raise ConfigError("no such file", file=called) from None
    except OSError as error:
        raise PlaceError.of(error, "the users cannot be read", file=called) from None
    lines = enumerate(lines_of(text), start=1)
    asked = [_Asked(line, f"line {number}", called) for number, line in lines if line]
    if not asked:
        raise ConfigError("holds no user", file=called)
    return asked


def _best(checkpoint: Checkpoint, asked: _Asked, k: int, explain: bool) -> list[_Explained]:
    """The best items, and the parts of their scores if they are asked for."""
    try:
        best = checkpoint.recommend(asked.user, k)
        return [(one, checkpoint.explain(asked.user, one.item) if explain else {}) for one in best]
    except ConfigError as error:  # names the parameter of a function, which no one here has typed
        raise ConfigError(error.rule, file=asked.file, key=asked.key, value=error.value) from None


def _write(output: Path, best: Sequence[tuple[str, Sequence[_Explained]]], parts: Sequence[str]) -> None:
    import pandas as pd

    from painvrl.core.wholefile import taking_its_place

    rows = [{"user": user, **asdict(item), **of} for user, items in best for item, of in items]
    frame = pd.DataFrame(rows, columns=["user", "rank", "item", "title", "score", *parts])
    try:
        with taking_its_place(output) as temporary:
            if output.suffix == ".csv":
                # Python quotes a line feed in a field, but no carriage return, which ends lines, too.
                ends = frame[["user", "item", "title"]].map(lambda text: "\r" in text).any(axis=None)
                quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if ends else csv.QUOTE_MINIMAL
                frame.to_csv(temporary, index=False, quoting=quoting)
            else:
                frame.to_parquet(temporary, index=False)
    except OSError as error:
        raise PlaceError.of(error, "the table cannot be written", file=output) from None
