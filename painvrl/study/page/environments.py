"""Sizes of environments and density of the mask, against what the trials reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from painvrl.engine.outcomes import Completed
from painvrl.study.page.trials import Trials
from painvrl.study.pictures.figure import safe
from painvrl.study.pictures.theme import FRONT, OTHERS, style
from painvrl.study.store.records import TrialRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SIZE = "environments/size_"

QUANTITIES = (
    ("largest", "share of the largest environment"),
    ("smallest", "share of the smallest environment"),
    ("density", "mean gate of the mask"),
)


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What a trial's last round came to.

    Attributes:
        on_front: whether a point of the trial is.
        count: environments. largest, smallest: share of the pairs that they hold; ``None`` without any.
        density: mean gate. sparsity: share of closed gates.
        iid, ood: what the trial reached; of a swept one at the point that stands for it.
    """

    trial: int
    on_front: bool
    count: int
    largest: float | None
    smallest: float | None
    density: float | None
    sparsity: float | None
    iid: float | None
    ood: float | None


def insides(trials: Trials) -> tuple[Inside, ...]:
    """The feasible trials that learned a mask, presets included."""
    of_front = {record.number for record in trials.of_front}
    return tuple(
        _inside(trials, record, record.outcome.rounds[-1], on_front=record.number in of_front)
        for record in trials.trainings
        if isinstance(record.outcome, Completed) and record.outcome.rounds
    )


def picture(trials: Trials, rows: tuple[Inside, ...]) -> Figure | None:
    """One panel for each quantity and axis; ``None`` if no trial learned a mask."""
    axes = [(name, key) for name, key in ((trials.iid, "iid"), (trials.ood, "ood")) if name is not None]
    shown = [(key, title) for key, title in QUANTITIES if any(getattr(row, key) is not None for row in rows)]
    if not axes or not shown:
        return None
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=len(axes), cols=len(shown), shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=0.08
    )
    for down, (metric, axis) in enumerate(axes):
        for across, (quantity, title) in enumerate(shown):
            for name, colour, on_front in (("dominated", OTHERS, False), ("front", FRONT, True)):
                points = [
                    row
                    for row in rows
                    if row.on_front is on_front
                    and getattr(row, quantity) is not None
                    and getattr(row, axis) is not None
                ]
                figure.add_scatter(
                    x=[getattr(row, quantity) for row in points],
                    y=[getattr(row, axis) for row in points],
                    mode="markers",
                    name=name,
                    legendgroup=name,
                    showlegend=down == across == 0,
                    marker={"color": colour, "size": 8},
                    text=[f"trial {row.trial}, {row.count} environments" for row in points],
                    hovertemplate="%{text}<br>%{x:.3f}, %{y:.4f}<extra></extra>",
                    row=down + 1,
                    col=across + 1,
                )
            if down == len(axes) - 1:
                figure.update_xaxes(title_text=title, row=down + 1, col=across + 1)
        figure.update_yaxes(title_text=safe(metric), row=down + 1, col=1)
    return style(figure, height=120 + 240 * len(axes))


def _inside(trials: Trials, record: TrialRecord, last: Mapping[str, float], *, on_front: bool) -> Inside:
    sizes = [value for name, value in last.items() if name.startswith(SIZE)]
    total = sum(sizes)
    metrics = record.metrics
    return Inside(
        trial=record.number,
        on_front=on_front,
        count=len(sizes),
        largest=max(sizes) / total if total > 0 else None,
        smallest=min(sizes) / total if total > 0 else None,
        density=last.get("mask/density"),
        sparsity=last.get("mask/sparsity"),
        iid=None if trials.iid is None else metrics[trials.iid],
        ood=None if trials.ood is None else metrics[trials.ood],
    )
