"""The price of invariance as a picture: what each knob does to both axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from painvrl.stats.intervals import Bounded
from painvrl.study.page.price import KnobPrice, Price, Verdict
from painvrl.study.pictures.figure import safe
from painvrl.study.pictures.theme import ACCENT, MAIN, MUTED, OTHERS, number, style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS: dict[Verdict, str] = {
    "trade": ACCENT,
    "no clear cost": MUTED,
    "free": MAIN,
    "no clear OOD effect": OTHERS,
}


def change_of(one: KnobPrice, *, rising: bool = False) -> str:
    """The knob and its two values; with ``rising`` in the direction in which OOD rises."""
    low, high = (one.high, one.low) if rising and one.ood.value < 0 else (one.low, one.high)
    return f"{one.knob}: {_short(low)} → {_short(high)}"


def picture(price: Price) -> Figure | None:
    """A row a knob, turned so that OOD rises: both changes with their intervals; ``None`` if empty."""
    if not price.knobs or price.metrics is None:
        return None
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.06,
        subplot_titles=[f"change of {safe(name)}" for name in price.metrics],
    )
    rows = [safe(change_of(one, rising=True)) for one in reversed(price.knobs)]
    for column in (1, 2):
        for verdict, colour in COLOURS.items():
            shown = [
                (row, _turned(one.iid if column == 1 else one.ood, one))
                for row, one in zip(rows, reversed(price.knobs), strict=True)
                if one.verdict == verdict
            ]
            figure.add_scatter(
                x=[interval.value for _, interval in shown],
                y=[row for row, _ in shown],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [(interval.high or 0.0) - interval.value for _, interval in shown],
                    "arrayminus": [interval.value - (interval.low or 0.0) for _, interval in shown],
                    "color": colour,
                    "thickness": 2,
                    "width": 0,
                },
                mode="markers",
                marker={"color": colour, "size": 10},
                name=verdict,
                legendgroup=verdict,
                showlegend=column == 1 and bool(shown),
                hovertemplate="%{y}<br>%{x:.4f}<extra></extra>",
                row=1,
                col=column,
            )
    style(figure, height=150 + 34 * len(rows))
    figure.update_layout(legend={"y": -0.16, "yanchor": "top"})
    figure.update_yaxes(categoryorder="array", categoryarray=rows, ticks="")
    figure.add_vline(x=0, line={"color": MUTED, "width": 1})
    return figure


def _turned(interval: Bounded, one: KnobPrice) -> Bounded:
    """The interval for the change in the direction in which OOD rises."""
    if one.ood.value >= 0:
        return interval
    low, high = interval.low or 0.0, interval.high or 0.0
    return Bounded(value=-interval.value, low=-high, high=-low)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else number(value)
