"""What commands print on stdout: tables for people, JSON for programs."""

from __future__ import annotations

import json as json_module
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from painvrl.cli.output import WIDE, as_it_is, columns, takes_unicode, whole_words
from painvrl.core.shown import redacted, visible, visible_json
from painvrl.core.tables import Block, Result, TextTable, number, numbers

if TYPE_CHECKING:
    from painvrl.baselines.offsets import Offset
    from painvrl.baselines.results import BaselineReport, ComparisonReport
    from painvrl.serving.retrain import TrainReport


def print_json(value: Mapping[str, object]) -> None:
    """Print JSON, in which nothing is left out; a NaN is an error, since JSON has none."""
    text = json_module.dumps(value, indent=2, allow_nan=False, ensure_ascii=not takes_unicode())
    typer.echo(visible_json(text), file=as_it_is(sys.stdout))


def answer(result: Result, *, json: bool) -> None:
    """Print what a command has found: figures for programs, or tables and sentences for people."""
    if json:
        print_json(result.as_dict())
    else:
        show(*result.blocks())


def train_report(report: TrainReport) -> None:
    """Print the pick, whether it repeats, the metrics side by side, and where the model is."""
    if report.pick is not None:
        typer.echo(f"trial {report.pick.name} of the study: {report.pick.reason}")
    else:  # of a study's split, the study has printed it
        print_split(report.statistics.tables())
    data_warnings(report.statistics.provenance.warnings)
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
    show(TextTable(columns=columns, rows=rows))
    if report.pick is not None and report.pick.iid_only is not None:
        other = report.pick.iid_only
        typer.echo(
            f"chosen by IID alone it would have been trial {other.name} (valid: {numbers(other.values)})"
        )
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
        typer.echo(f"`painvrl serve {report.model.name}` serves it over HTTP; in Python:")
        typer.echo(report.model.snippet)  # not indented: it is there to be pasted
    else:
        typer.echo(f"warning: the model is not registered: {report.not_registered}", err=True)


def baselines(report: ComparisonReport) -> None:
    """Print each baseline's front, with its best by IID and by OOD marked; then who is missing, and why."""
    from painvrl.baselines.offsets import GRID
    from painvrl.baselines.results import CUTOFF

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
    if report.comparisons:
        _comparisons(report)
    for one in report.baselines:
        if one.skipped is not None:
            typer.echo(f"{one.name} skipped: {one.skipped}")
        for point in one.points:
            failed = next((run for run in point.runs if run.failure is not None), None)
            if failed is not None and point.place == 0:  # a setting fails under all its offsets
                typer.echo(f"{one.name} trial {point.trial} failed with seed {failed.seed}: {failed.failure}")


def _comparisons(report: ComparisonReport) -> None:
    """Print each baseline's point beside the own one that comes nearest to beating it on both."""
    from painvrl.baselines.results import CUTOFF

    own = report.baselines[0]
    rows = [
        [
            comparison.baseline,
            comparison.rival.name,
            comparison.own.name,
            f"{comparison.iid:+.4f}",
            f"{comparison.ood:+.4f}",
            comparison.verdict,
            str(len(comparison.beats)),
        ]
        for comparison in report.comparisons
    ]
    metrics = [f"{part} NDCG@{CUTOFF}, own - it" for part in ("IID", "OOD")]
    columns = ["baseline", "trial", "nearest own", *metrics, "own is", "own beaten"]
    show(TextTable(columns=columns, rows=rows, caption="the reference model against each of them"))
    beaten = {point.name for comparison in report.comparisons for point in comparison.beats}
    typer.echo(
        "95% intervals, paired by seed and user. Beaten: surely lower on both; "
        f"of the {len(own.front())} own points shown (of {own.trials} trials), {len(beaten)} are beaten "
        "by some baseline's."
    )


def _offset(offset: Offset) -> str:
    """The weights that are not 0."""
    return numbers({name: value for name, value in asdict(offset).items() if value != 0})


def _baseline_rows(report: BaselineReport, metrics: Sequence[str]) -> list[list[str]]:
    from painvrl.baselines.results import IID, OOD

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


def print_split(tables: Sequence[TextTable]) -> None:
    """Print what each part of a split holds, what filters took and what was joined."""
    for place, table in enumerate(tables):
        show(table if place else replace(table, caption="split"))


def data_warnings(warnings: Sequence[str]) -> None:
    """Say what of the data looks wrong."""
    for warning in warnings:
        typer.echo(f"warning: {visible(warning)}", err=True)


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


TEXTUAL = {"item", "title", "best", "settings", "preset", "rule", "largest column", "reads", "there"}
"""Columns that are text, beside the first one of each table."""


def show(*blocks: Block) -> None:
    """Print tables and lines. On a terminal no word is broken: a table that is too wide goes on below."""
    console = Console(highlight=False, markup=False, file=as_it_is(sys.stdout), width=WIDE)
    for block in blocks:
        if isinstance(block, str):
            typer.echo(whole_words(visible(block)))
            continue
        table = block.each(_cell)
        for places, widths in _fitting(table, columns()):
            console.print(_drawn(table, places, widths))


def _cell(text: str) -> str:
    return visible(redacted(text))


def _fitting(table: TextTable, width: int) -> list[tuple[list[int], list[int]]]:
    """Which columns to draw side by side, and how wide: all, or in several tables that begin with the first.

    Headers are broken at their ends of sections first: ``mask.`` above ``sparsity``.
    """
    names, cells = table.columns, [list(column) for column in zip(*table.rows, strict=True)]
    cells = cells or [[] for _ in names]
    full = [max(map(cell_len, [name, *column])) for name, column in zip(names, cells, strict=True)]
    if sum(full) + _frame(len(full)) <= width:
        return [(list(range(len(full))), full)]
    least = [
        max(cell_len(word) for word in [*_SECTION.sub("\n", name).split(), *_words(place, name, column), " "])
        for place, (name, column) in enumerate(zip(names, cells, strict=True))
    ]
    groups = [[0]]
    for place in range(1, len(full)):
        if (
            len(groups[-1]) > 1
            and sum(least[one] for one in (*groups[-1], place)) + _frame(len(groups[-1]) + 1) > width
        ):
            groups.append([0])
        groups[-1].append(place)
    found = []
    for group in groups:
        spare = width - sum(least[one] for one in group) - _frame(len(group))
        widths = []
        for place in group:  # what is left goes to texts, from the left
            wish = full[place] - least[place] if _is_text(place, names[place]) else 0
            widths.append(least[place] + max(0, min(spare, wish)))
            spare -= widths[-1] - least[place]
        found.append((group, widths))
    return found


def _words(place: int, name: str, column: Sequence[str]) -> list[str]:
    """What must not be broken of a column's cells: numbers, and the words of texts."""
    return [word for text in column for word in text.split()] if _is_text(place, name) else list(column)


def _frame(columns: int) -> int:
    """Characters of a table beside those of its cells."""
    return 2 * columns + 1


_SECTION = re.compile(r"(?<=[/.])(?=[a-z])")


def _is_text(place: int, column: str) -> bool:
    """The first column is text, and the others are numbers, but for those with a name of text."""
    return place == 0 or column in TEXTUAL


def _drawn(table: TextTable, places: Sequence[int], widths: Sequence[int]) -> Table:
    caption = table.caption if places[1:2] in ([], [1]) else None  # once, where a table goes on below
    drawn = Table(
        title=caption, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for place, width in zip(places, widths, strict=True):
        name = table.columns[place]
        header = name if cell_len(name) <= width else _SECTION.sub("\n", name)
        drawn.add_column(header, justify="left" if _is_text(place, name) else "right", width=width)
    for row in table.rows:
        drawn.add_row(*(row[place] for place in places))
    return drawn
