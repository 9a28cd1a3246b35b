"""What ``painvrl study compare`` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from painvrl.cli.render import print_table
from painvrl.core.tables import TextTable, number

if TYPE_CHECKING:
    from painvrl.study.comparison.compare import Comparison


def comparison(found: Comparison) -> None:
    """Print both fronts side by side, what each attains of the other, and the difference."""
    sides = (found.a, found.b)
    rows = [
        ["study", *(side.study for side in sides)],
        ["workspace", *(side.where for side in sides)],
        ["finished trials", *(str(side.finished) for side in sides)],
        ["complete trials", *(str(side.complete) for side in sides)],
        ["points on the front", *(str(len(side.front)) for side in sides)],
    ]
    ends = [{end.objective: end for end in side.ends} for side in sides]
    rows += [
        [f"best {name}", *(f"{number(own[name].value)} (trial {own[name].name})" for own in ends)]
        for name in found.objectives
    ]
    rows.append(["knee", *(f"trial {side.knee.name}" for side in sides)])
    rows += [
        [f"knee's {name}", *(number(side.knee.values[name]) for side in sides)] for name in found.objectives
    ]
    rows += [
        ["hypervolume", *(number(side.hypervolume) for side in sides)],
        ["share of the other front attained", f"{found.coverage_by_a:.0%}", f"{found.coverage_by_b:.0%}"],
        ["lacks to attain all of it", number(found.epsilon_of_a), number(found.epsilon_of_b)],
    ]
    print_table(TextTable(columns=["", "A", "B"], rows=rows, caption="two fronts"))
    for phrase in found.differences:
        typer.echo(f"from A to B: {phrase}")
    if not found.differences:
        typer.echo("A and B have the same data, configuration and space")
    typer.echo(
        f"hypervolume of B less that of A, {_trials(found)}: {found.absolute:+.3g}, "
        f"relative {'-' if found.relative is None else f'{found.relative:+.1%}'}"
    )
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{'regressed' if found.regressed else 'not regressed'}: {found.rule}")


def _trials(found: Comparison) -> str:
    users = {
        "paired": "the same users drawn for both",
        "independent": "users drawn for each",
        "unknown": "users not drawn",
    }[found.users]
    return f"{found.trials} trials each ({found.same_points} at the same points, {users})"
