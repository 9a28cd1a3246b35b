"""What commands print on stdout: tables for people, JSON for programs."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from painvrl.cli.output import takes_unicode
from painvrl.core.tables import TextTable, number

if TYPE_CHECKING:
    from painvrl.cli.installation import Diagnosis
    from painvrl.run.checkpoint import Recommendation
    from painvrl.serving.retrain import TrainReport
    from painvrl.study.ablation.spec import AblationSpec
    from painvrl.study.ablation.table import AblationTable
    from painvrl.study.confirmation.table import Confirmation
    from painvrl.study.report import FrontTable, StudyStatus

PIPE_WIDTH = 200  # columns of a table in a file or a pipe, where there is no screen to fit into


def json(value: Mapping[str, object]) -> None:
    """Print JSON; a NaN is an error, since JSON has none."""
    typer.echo(json_module.dumps(value, indent=2, allow_nan=False, ensure_ascii=not takes_unicode()))


def front(table: FrontTable) -> None:
    """Print a front: one row a point, objectives first, then the knobs; the IID-only choice below it."""
    from painvrl.study.report import counted, of_seeds

    knobs = sorted({knob for row in table.rows for knob in row.point})
    title = f"front of {table.study}: {counted(table.rows)}, hypervolume {number(table.hypervolume)}"
    title += of_seeds(table.seeds)
    presets = any(row.preset is not None for row in table.rows)
    taken_over = any(row.taken_from is not None for row in table.rows)

    def with_knobs(shown: Sequence[str]) -> TextTable:
        rows = [
            [
                row.name,
                *([row.preset or ""] if presets else []),
                *([str(row.taken_from or "")] if taken_over else []),
                *(number(row.values[name]) for name in table.objectives),
                *(number(row.point.get(knob, "")) for knob in shown),
            ]
            for row in table.rows
        ]
        named = ["trial", *(["preset"] if presets else []), *(["taken over from"] if taken_over else [])]
        return TextTable(columns=[*named, *table.objectives, *shown], rows=rows, caption=title)

    if not print_table(with_knobs(knobs), only_if_it_fits=True):
        print_table(with_knobs([]))
        typer.echo(f"the terminal is too narrow for the knobs ({', '.join(knobs)}); --json has them")
    if table.iid_only is not None:
        values = ", ".join(f"{name} {number(value)}" for name, value in table.iid_only.values.items())
        typer.echo(f"chosen by IID alone, without a look at OOD: trial {table.iid_only.name} ({values})")


def ablation(table: AblationTable) -> None:
    """Print the tables of an ablation, one a metric, and what failed."""
    for metric in table.metrics:
        whole = table.text(metric)
        if not print_table(whole, only_if_it_fits=True):
            columns, rows = whole.columns, whole.rows
            compared = next(place for place, column in enumerate(columns) if " - " in column)
            figures = [row[:compared] for row in rows]
            print_table(replace(whole, columns=columns[:compared], rows=figures))
            differences = [[row[0], *row[compared:]] for row in rows]
            print_table(TextTable(columns=["row", *columns[compared:]], rows=differences))
    for failure in table.failures():
        typer.echo(f"failed: {failure}")


def confirmation(found: Confirmation) -> None:
    """Print the candidates, what was measured first, and the confirmed front."""
    for table in found.tables():
        if table.rows:
            print_table(table)
    for line in found.sentences():
        typer.echo(line)


def ablation_rows(spec: AblationSpec) -> None:
    """Print what each row of an ablation turns, as comments of a YAML file."""
    for row, turned in spec.changes().items():
        knobs = ", ".join(f"{path}: {value}" for path, value in turned.items())
        typer.echo(f"# row {row} = config with {knobs or 'no change'}")


def status(now: StudyStatus) -> None:
    """Print a study's counts, best values and failures."""
    from painvrl.study.report import of_trainings

    counts = ", ".join(f"{count} {state}" for state, count in now.counts.items() if count) or "no trials"
    typer.echo(f"study {now.study}: {counts}; {now.wanted} wanted")
    if now.sampler is not None:
        typer.echo(f"sampler: {now.sampler} ({now.sampler_reason})")
    if now.warm_start is not None:
        typer.echo(f"of these taken over: {now.warm_start}")
    repeats(now)
    if now.seconds_per_trial is not None:
        typer.echo(f"median trial: {now.seconds_per_trial:.1f} s")
    if now.front_size:
        points = f"{now.front_size} points{of_trainings(now.front_size, now.front_trainings)}"
        typer.echo(f"front: {points}, hypervolume {number(now.hypervolume)}")
        rows = [[best.objective, number(best.value), best.name] for best in now.best]
        print_table(TextTable(columns=["objective", "best", "trial"], rows=rows))
    for failure in now.failures:
        typer.echo(f"trial {failure.trial} failed ({failure.reason}): {failure.message}")


def repeats(now: StudyStatus) -> None:
    """Print how often a trial was asked for that had been trained, and which presets were."""
    if count := now.counts.get("repeated", 0):
        presets = "".join(f"; preset {name} is trial {trial}" for name, trial in now.trained_as.items())
        typer.echo(f"asked for again and not trained twice: {count}{presets}")


def train_report(report: TrainReport) -> None:
    """Print the pick, whether it repeats, the metrics side by side, and where the model is."""
    if report.pick is not None:
        typer.echo(f"trial {report.pick.name} of the study: {report.pick.reason}")
    else:  # of a study's split, the study has printed it
        split_card(report.card.tables())
    data_warnings(report.card.provenance.warnings)
    _repetition(report)
    trial = {} if report.pick is None else report.pick.first
    test = {} if report.test is None else report.test.metrics
    columns = ["metric"]
    columns += ["trial's valid", "retrained valid"] if report.pick else ["valid"]
    columns += ["test"] if report.test else []
    rows = []
    for name in _shown(report.metrics):
        part, _, metric = name.partition("/")
        row = [f"{part.upper()} {metric}"]
        row += [number(trial.get(name, "-"))] if report.pick else []
        row += [number(report.metrics[name])]
        row += [number(test.get(f"{part}_test/{metric}", "-"))] if report.test else []
        rows.append(row)
    print_table(TextTable(columns=columns, rows=rows))
    if report.pick is not None and report.pick.iid_only is not None:
        other = report.pick.iid_only
        values = ", ".join(f"{name} {number(value)}" for name, value in other.values.items())
        typer.echo(f"chosen by IID alone it would have been trial {other.name} (valid: {values})")
    if report.trained_on != "train":
        typer.echo(f"the kept model (and its test column) was trained on {report.trained_on}")
    if report.test is not None:
        times = f"{report.test.reads} time{'s' if report.test.reads != 1 else ''}"
        typer.echo(f"test parts read: {times}, this one included")
    else:
        typer.echo("test parts stay sealed; --test reads them")
    typer.echo(f"seconds: {', '.join(f'{stage} {spent:.1f}' for stage, spent in report.seconds.items())}")
    typer.echo(f"checkpoint: {report.checkpoint}")
    if report.model is not None:
        if report.model.alias_uri is not None:
            typer.echo(f"alias: {report.model.alias_uri}")
        typer.echo(f"registered model: {report.model.uri}")
    else:
        typer.echo(f"warning: the model is not registered: {report.not_registered}", err=True)


def split_card(tables: Sequence[TextTable]) -> None:
    """Print what each part of a split holds, what filters took and what was joined."""
    for place, table in enumerate(tables):
        print_table(table if place else replace(table, caption="split"))


def data_warnings(warnings: Sequence[str]) -> None:
    """Say what of the data looks wrong."""
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def recommendations(items: Sequence[Recommendation]) -> None:
    """Print recommended items, best first."""
    rows = [[str(one.rank), f"{one.score:.4f}", one.item, one.title] for one in items]
    print_table(TextTable(columns=["rank", "score", "item", "title"], rows=rows))


def diagnosis(found: Diagnosis) -> None:
    """Print every check, and its remedy where it needs one."""
    for check in found.checks:
        remedy = f" -> {check.remedy}" if check.remedy else ""
        typer.echo(f"{check.status:<4}  {check.name:<16}  {check.detail}{remedy}")
    typer.echo("painvrl is ready" if found.healthy else "something essential is broken")


def _repetition(report: TrainReport) -> None:
    repetition = report.repetition
    if repetition is None:
        if report.pick is not None:
            typer.echo("another seed means another split: the trial's metrics are not comparable")
        return
    pick = report.pick
    means = pick is not None and pick.first != pick.metrics
    whose = f"the trial's under seed {report.config.seed}" if means else "the trial's"
    if means:
        typer.echo("the study shows means over several seeds; what follows is of the first of them")
    if repetition.exact:
        typer.echo(
            f"retrained valid metrics repeat {whose} to the last digit ({repetition.compared} metrics)"
        )
    else:
        typer.echo(
            f"retrained valid metrics differ from {whose} by at most {repetition.largest_difference:.3g} "
            f"({repetition.worst}): another device, thread count or library sums in another order"
        )


def _shown(metrics: Mapping[str, float]) -> list[str]:
    """Recall and NDCG of every K, by part; the rest is in MLflow."""
    wanted = [name for name in metrics if name.partition("/")[2].startswith(("recall_at_", "ndcg_at_"))]
    return sorted(wanted, key=lambda name: (name.partition("/")[0], _cutoff(name), name))


def _cutoff(name: str) -> int:
    return int(name.rpartition("_")[2])


TEXTUAL = {"item", "title", "best", "settings", "preset", "rule", "largest column"}
"""Columns that are text, beside the first one of each table."""


def print_table(table: TextTable, *, only_if_it_fits: bool = False) -> bool:
    """Print a table as wide as the terminal, or as it needs to be anywhere else; whether it was printed.

    The first column is text, and the others are numbers, but for those with a name of text.
    """
    drawn = Table(title=table.caption, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for position, column in enumerate(table.columns):
        numeric = position > 0 and column not in TEXTUAL
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*row)
    console = Console(highlight=False, markup=False, file=sys.stdout)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, file=sys.stdout, width=PIPE_WIDTH)
    else:
        unbounded = console.options.update(max_width=10_000)
        if only_if_it_fits and console.measure(drawn, options=unbounded).maximum > console.width:
            return False
    console.print(drawn)
    return True
