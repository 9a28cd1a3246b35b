"""What ``painvrl baselines`` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from painvrl.cli.render import show
from painvrl.core.tables import TextTable, number, numbers

if TYPE_CHECKING:
    from painvrl.baselines.offsets import Offset
    from painvrl.baselines.report import BaselineReport, ComparisonReport


def baselines(report: ComparisonReport) -> None:
    """Print each baseline's front, with its best by IID and by OOD marked; then who is missing, and why."""
    from painvrl.baselines.offsets import GRID
    from painvrl.baselines.report import CUTOFF

    metrics = [f"{part}/{metric}_at_{CUTOFF}" for part in ("iid", "ood") for metric in ("ndcg", "recall")]
    columns = ["baseline", "trial", "best", "settings", "offset", *metrics, "seconds"]
    rows = [row for one in report.baselines for row in _baseline_rows(one, metrics)]
    splits = f"{len(report.seeds)} seed{'s' if len(report.seeds) != 1 else ''}"
    title = f"baselines on {report.data}, {report.split}: valid parts, mean of {splits}"
    show(TextTable(columns=columns, rows=rows, caption=title))
    typer.echo(
        f"shown: of up to {report.trials} trials of a baseline, each under {len(GRID)} offsets, the points "
        f"that no other of them beats on both IID and OOD NDCG@{CUTOFF}; best: the best one on that part (on "
        "OOD, the choice uses the target shift). offset: popularity * log(1 + interactions) + cold * [no "
        "interaction], in units of the scores' spread, the same for all. Test parts stay sealed."
    )
    if report.duels:
        _duels(report)
    for one in report.baselines:
        if one.skipped is not None:
            typer.echo(f"{one.name} skipped: {one.skipped}")
        for point in one.points:
            failed = next((run for run in point.runs if run.failure is not None), None)
            if failed is not None and point.place == 0:  # a setting fails under all its offsets
                typer.echo(f"{one.name} trial {point.trial} failed with seed {failed.seed}: {failed.failure}")


def _duels(report: ComparisonReport) -> None:
    """Print each baseline's point beside the own one that comes nearest to beating it on both."""
    from painvrl.baselines.report import CUTOFF

    own = report.baselines[0]
    rows = [
        [
            duel.baseline,
            duel.rival.name,
            duel.own.name,
            f"{duel.iid:+.4f}",
            f"{duel.ood:+.4f}",
            duel.verdict,
            str(len(duel.beats)),
        ]
        for duel in report.duels
    ]
    metrics = [f"{part} NDCG@{CUTOFF}, own - it" for part in ("IID", "OOD")]
    columns = ["baseline", "trial", "nearest own", *metrics, "own is", "own beaten"]
    show(TextTable(columns=columns, rows=rows, caption="the file's own model against each of them"))
    beaten = {point.name for duel in report.duels for point in duel.beats}
    typer.echo(
        "95% intervals, paired by seed and user. Beaten: surely lower on both; "
        f"of the {len(own.front())} own points shown (of {own.trials} trials), {len(beaten)} are beaten "
        "by some baseline's."
    )


def _offset(offset: Offset) -> str:
    """The weights that are not 0."""
    return numbers({name: value for name, value in asdict(offset).items() if value != 0})


def _baseline_rows(report: BaselineReport, metrics: Sequence[str]) -> list[list[str]]:
    from painvrl.baselines.report import IID, OOD

    marks = {"IID": report.best(IID), "OOD": report.best(OOD)}
    return [
        [
            report.name,
            point.name,
            " ".join(mark for mark, best in marks.items() if best is point),
            numbers(point.settings),
            _offset(point.offset),
            *(number(point.mean(metric)) for metric in metrics),
            f"{report.shared_seconds + point.seconds:.1f}",
        ]
        for point in report.front()
    ]
