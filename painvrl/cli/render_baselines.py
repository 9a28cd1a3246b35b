"""What ``painvrl baselines`` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from painvrl.cli.render import make_table, number, print_table

if TYPE_CHECKING:
    from painvrl.baselines.report import BaselineReport, BaselineTrial, ComparisonReport


def baselines(report: ComparisonReport) -> None:
    """Print each baseline's front, with its best by IID and by OOD marked; then who is missing, and why."""
    from painvrl.baselines.report import CUTOFF

    metrics = [f"{part}/{metric}_at_{CUTOFF}" for part in ("iid", "ood") for metric in ("ndcg", "recall")]
    columns = ["baseline", "best", "settings", *metrics, "seconds"]
    rows = [row for one in report.baselines for row in _baseline_rows(one, metrics)]
    splits = f"{len(report.seeds)} seed{'s' if len(report.seeds) != 1 else ''}"
    title = f"baselines on {report.data}, {report.split}: valid parts, mean of {splits}"
    print_table(make_table(columns, rows, title=title))
    typer.echo(
        f"shown: of up to {report.trials} trials of a baseline those that no other of them beats on both IID "
        f"and OOD NDCG@{CUTOFF}; best: the best one on that part (on OOD, the choice uses the target shift). "
        "Test parts stay sealed."
    )
    if report.duels:
        _duels(report)
    for one in report.baselines:
        if one.skipped is not None:
            typer.echo(f"{one.name} skipped: {one.skipped}")
        for place, trial in enumerate(one.trials):
            failed = next((run for run in trial.runs if run.failure is not None), None)
            if failed is not None:
                typer.echo(f"{one.name} trial {place} failed with seed {failed.seed}: {failed.failure}")


def _duels(report: ComparisonReport) -> None:
    """Print each baseline's trial beside the own one that comes nearest to beating it on both."""
    from painvrl.baselines.report import CUTOFF

    own, reports = report.baselines[0], {one.name: one for one in report.baselines}
    rows = [
        [
            duel.baseline,
            _settings(reports[duel.baseline].trials[duel.trial]),
            _settings(own.trials[duel.own]) if duel.own else "as in the file",
            str(duel.iid),
            str(duel.ood),
            duel.verdict,
            str(len(duel.beats)),
        ]
        for duel in report.duels
    ]
    metrics = [f"{part} NDCG@{CUTOFF}, own - it" for part in ("IID", "OOD")]
    columns = ["baseline", "settings", "nearest own trial", *metrics, "own is", "own trials beaten"]
    print_table(make_table(columns, rows, title="the file's own model against each of them"))
    beaten = {trial for duel in report.duels for trial in duel.beats}
    typer.echo(
        "95% intervals, paired by seed and user. Beaten: surely lower on both; "
        f"of the {len(own.front())} own trials shown (of {len(own.trials)} tried), {len(beaten)} are beaten "
        "by some baseline's."
    )


def _settings(trial: BaselineTrial) -> str:
    return ", ".join(f"{knob} {number(value)}" for knob, value in trial.settings.items())


def _baseline_rows(report: BaselineReport, metrics: Sequence[str]) -> list[list[str]]:
    from painvrl.baselines.report import IID, OOD

    marks = {"IID": report.best(IID), "OOD": report.best(OOD)}
    rows = []
    for place in report.front():
        trial = report.trials[place]
        rows.append(
            [
                report.name,
                " ".join(mark for mark, best in marks.items() if best == place),
                _settings(trial),
                *(number(trial.mean(metric)) for metric in metrics),
                f"{report.shared_seconds + trial.seconds:.1f}",
            ]
        )
    return rows
