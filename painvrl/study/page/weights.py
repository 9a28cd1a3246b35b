"""The inner Pareto weights while masks were learned: which risk led, and how far the two disagreed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from painvrl.engine.outcomes import Completed
from painvrl.study.page.trials import name_of
from painvrl.study.pictures.figure import safe
from painvrl.study.pictures.theme import GRID, LOW_TO_HIGH, MUTED, style
from painvrl.study.store.records import TrialRecord
from painvrl.study.store.storage import StoredStudy

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PANELS = (
    ("epsilon", "ε: weight of the empirical risk"),
    ("cosine", "cosine of the two gradients"),
    ("risk", "empirical risk"),
    ("penalty", "penalty"),
)


@dataclass(frozen=True, kw_only=True)
class WeightCurve:
    """How one trial's mask was learned.

    Attributes:
        name: the trial, with its preset. irm_weight: the preference that it trained with.
        points: as the trial keeps them (:class:`painvrl.engine.outcomes.Completed`).
    """

    trial: int
    name: str
    irm_weight: float
    points: tuple[Mapping[str, float], ...]


def weight_curves(study: StoredStudy, records: Sequence[TrialRecord]) -> tuple[WeightCurve, ...]:
    """The curves of those of ``records`` that kept one, the lightest IRM weight first."""
    curves = [
        WeightCurve(
            trial=record.number,
            name=name_of(record),
            irm_weight=float(study.config_of(record).mask.irm_weight),
            points=record.outcome.mask_trace,
        )
        for record in records
        if isinstance(record.outcome, Completed) and record.outcome.mask_trace
    ]
    return tuple(sorted(curves, key=lambda curve: (curve.irm_weight, curve.trial)))


def picture(curves: tuple[WeightCurve, ...]) -> Figure | None:
    """A panel a quantity, a line a trial coloured by its IRM weight; ``None`` without a curve."""
    if not curves:
        return None
    from plotly.colors import sample_colorscale
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2,
        cols=2,
        subplot_titles=[title for _, title in PANELS],
        horizontal_spacing=0.09,
        vertical_spacing=0.14,
    )
    logs = [math.log10(curve.irm_weight) for curve in curves]
    low, high = min(logs), max(logs)
    width = _round_width(curves)
    for curve, log in zip(curves, logs, strict=True):
        share = (log - low) / (high - low) if high > low else 0.5
        (colour,) = sample_colorscale([list(stop) for stop in LOW_TO_HIGH], [share])
        for place, (quantity, _) in enumerate(PANELS):
            figure.add_scatter(
                x=[(point["round"] - 1) * width + point["step"] for point in curve.points],
                y=[point[quantity] for point in curve.points],
                mode="lines",
                line={"color": colour, "width": 1.8},
                name=safe(curve.name),
                showlegend=False,
                hovertemplate=f"{safe(curve.name)}, IRM weight {curve.irm_weight:.3g}"
                "<br>%{y:.4g}<extra></extra>",
                row=place // 2 + 1,
                col=place % 2 + 1,
            )
    figure.add_scatter(  # carries the scale of colours, and no point
        x=[None],
        y=[None],
        mode="markers",
        showlegend=False,
        hoverinfo="skip",
        marker={
            "color": [low],
            "cmin": low,
            "cmax": high if high > low else low + 1,
            "colorscale": [list(stop) for stop in LOW_TO_HIGH],
            "showscale": high > low,
            "colorbar": {
                "title": {"text": "IRM weight", "side": "right"},
                "thickness": 12,
                "outlinewidth": 0,
                "tickvals": _ticks(low, high),
                "ticktext": [f"{10**tick:.3g}" for tick in _ticks(low, high)],
            },
        },
        row=1,
        col=1,
    )
    style(figure, height=620)
    rounds = int(max(point["round"] for curve in curves for point in curve.points))
    for boundary in range(1, rounds):
        figure.add_vline(x=boundary * width - 0.5, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="step of learning the mask, round after round", row=2)
    figure.update_yaxes(range=[-0.03, 1.03], row=1, col=1)
    figure.add_hline(y=0, line={"color": GRID, "width": 2}, layer="below", row=1, col=2)
    return figure


def _round_width(curves: tuple[WeightCurve, ...]) -> float:
    """Steps of the longest round: rounds are drawn side by side."""
    return 1 + max(point["step"] for curve in curves for point in curve.points)


def _ticks(low: float, high: float) -> list[float]:
    """Whole powers of ten inside, and both ends."""
    inside = [float(power) for power in range(math.ceil(low), math.floor(high) + 1)]
    return inside if len(inside) > 1 else [low, high]
