"""The report: all sections' numbers, and the one HTML file that shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from painvrl.core.errors import NothingFeasible
from painvrl.core.tables import Result
from painvrl.engine.user_value_store import UserStore
from painvrl.stats.intervals import Bounded
from painvrl.study.choice.picks import stored_picks
from painvrl.study.front import FrontTable, StudyStatus, front_table, of_trainings, status
from painvrl.study.plots.figure import front_figure
from painvrl.study.plots.panels import panels_of
from painvrl.study.plots.theme import ACCENT, DARK, GRID, INK, MAIN, MUTED, PAPER, div, number, style
from painvrl.study.report import history, importance, inside, parallel, price
from painvrl.study.report.header import Header, NotedGate, gate_of, header_of
from painvrl.study.report.history import Moment
from painvrl.study.report.importance import Importance
from painvrl.study.report.inside import Inside, WeightCurve, insides, weight_curves
from painvrl.study.report.learning_curves import Losses, losses
from painvrl.study.report.luck import Luck, luck
from painvrl.study.report.price import Price, price_of_invariance
from painvrl.study.report.trials import Trials, trials_of
from painvrl.study.store.records import why_no_front
from painvrl.study.store.storage import StoredStudy

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PAGE = "report.html"
"""The report's name among the artifacts of the study's own run."""

TEMPLATE, SCRIPT = (Path(__file__).with_name(name) for name in ("template.html", "page.js"))

PALETTE = {"paper": PAPER, "ink": INK, "muted": MUTED, "grid": GRID, "main": MAIN, "accent": ACCENT}
"""Colours that the page shares with its pictures, by their names in its style."""


@dataclass(frozen=True, kw_only=True)
class StudyReport(Result):
    """Everything that the report says in numbers."""

    status: StudyStatus
    header: Header | None
    gate: NotedGate | None
    front: FrontTable
    luck: Luck
    history: tuple[Moment, ...]
    price: Price
    importance: Importance
    environments: tuple[Inside, ...]
    weights: tuple[WeightCurve, ...]
    losses: Losses


def study_report(study: StoredStudy, users: UserStore, trials: Trials | None = None) -> StudyReport:
    """Compute the report of a study.

    Args:
        study: which.
        users: what each user got from its points.
        trials: its trials, where they have been read.

    Raises:
        NothingFeasible: no trial is complete and keeps to the constraints.
    """
    trials = trials or trials_of(study)
    if not trials.front:
        raise NothingFeasible(why_no_front(study.name, trials.records))
    return StudyReport(
        status=status(study, trials.records),
        header=header_of(study),
        gate=gate_of(study),
        front=front_table(study, stored_picks(study), trials.records),
        luck=luck(trials, users),
        history=history.history(trials.records),
        price=price_of_invariance(trials),
        importance=importance.importance(study, trials),
        environments=insides(trials),
        weights=weight_curves(study, trials.of_front),
        losses=losses(trials.records),
    )


def report_page(
    study: StoredStudy, users: UserStore, *, runs: str | None = None, refresh: int | None = None
) -> tuple[StudyReport, str]:
    """The report and its page: self-contained HTML, plotly included once, that asks no network for anything.

    Args:
        study: which.
        users: what each user got from its points.
        runs: where the pages of MLflow runs are, each under its id; without it the page links to none.
        refresh: seconds after which an open page loads itself anew.

    Raises:
        NothingFeasible: see :func:`study_report`.
    """
    trials = trials_of(study)
    report = study_report(study, users, trials)
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {
        "number": number,
        "interval": partial(_with_ends, shown=number),
        "ratio": partial(_with_ends, shown="{:.2f}".format),
        "change": price.change_of,
    }
    rows = (*report.front.rows, *report.front.dominated)
    template = pages.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        report=report,
        pictures={name: div(figure, name) for name, figure in _pictures(trials, report).items()},
        hyperparameters=list(dict.fromkeys([*trials.space, *(name for row in rows for name in row.point)])),
        runs=runs,
        refresh=refresh,
        palette=PALETTE,
        dark=DARK,
        script=SCRIPT.read_text(encoding="utf-8"),
        swept=trials.swept,
        of_trainings=of_trainings(report.status.front_size, report.status.front_trainings),
        plotly=get_plotlyjs(),
    )
    return report, page


def _pictures(trials: Trials, report: StudyReport) -> dict[str, Figure]:
    """The pictures that there are, by section."""
    made = {
        "front": _front(report.front),
        "history": history.picture(report.history, swept=trials.swept),
        "price": price.picture(report.price),
        "importance": importance.picture(report.importance, trials.objectives),
        "parallel": parallel.picture(trials),
        "environments": inside.environments_picture(trials, report.environments),
        "weights": inside.weights_picture(report.weights),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def _front(table: FrontTable) -> Figure | None:
    """The same picture as that of ``study front --html``, in the page's looks."""
    panels = panels_of(table)
    if not panels:
        return None
    figure = front_figure(panels)
    figure.update_layout(dragmode="select")
    return style(figure, height=int(figure.layout.height) + 40)


def _with_ends(value: Bounded, shown: Callable[[float], str]) -> str:
    low, high = ("unbounded" if end is None else shown(end) for end in (value.low, value.high))
    return f"{shown(value.value)} [{low}, {high}]"
