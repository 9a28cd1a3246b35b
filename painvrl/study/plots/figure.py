"""A front as a page for the browser, drawn by plotly."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from painvrl.study.front import FrontRow, FrontTable
from painvrl.study.plots.panels import Layer, Panel, Sign, layers, panels_of
from painvrl.study.plots.theme import FRONT

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SIGNS: dict[Sign, dict[str, object]] = {
    "small": {"size": 8},
    "cross": {"size": 8, "symbol": "x-thin-open"},
    "dot": {"size": 10},
    "diamond": {"size": 11, "symbol": "diamond"},
    "hollow": {"size": 11, "symbol": "diamond-open", "line": {"width": 2}},
    "ring": {"size": 18, "symbol": "circle-open"},
    "star": {"size": 18, "symbol": "star", "line": {"width": 1}},
}

_AROUND = {
    f"{up} {right}": (x, y)
    for up, y in (("top", 1), ("bottom", -1), ("middle", 0))
    for right, x in (("right", 1), ("left", -1), ("center", 0))
    if (x, y) != (0, 0)
}
_SIDE, _LETTER, _LINE, _APART = 400, 7, 15, 8
"""Pixels that labels are placed for: a panel's side, a letter, a line, from a point to its label."""


def front_page(table: FrontTable) -> str | None:
    """An HTML page with all panels; ``None`` where no plane can be shown.

    It holds plotly itself, so that it shows without a network.
    """
    panels = panels_of(table)
    if not panels:
        return None
    return str(front_figure(panels, title_of(table)).to_html(include_plotlyjs=True, full_html=True))


def title_of(table: FrontTable) -> str:
    """What stands above a picture."""
    everything = [*table.rows, *table.dominated]
    trials, of_front = ({row.trial for row in rows} for rows in (everything, table.rows))
    if len(trials) == len(everything):
        return f"{table.study}: {len(table.rows)} of {len(everything)} trials on the front"
    points = f"{len(table.rows)} of {len(everything)} points on the front"
    return f"{table.study}: {points}, of {len(of_front)} of {len(trials)} trainings"


def front_figure(panels: Sequence[Panel], title: str | None = None) -> go.Figure:
    """The panels beside each other, two a line; hovering shows a trial's objectives and hyperparameters."""
    from plotly.subplots import make_subplots

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = make_subplots(rows=rows, cols=columns, horizontal_spacing=0.09, vertical_spacing=0.12 / rows)
    for place, panel in enumerate(panels):
        row, column = place // columns + 1, place % columns + 1
        for layer in _layers(panel):
            figure.add_scatter(**layer, showlegend=place == 0, row=row, col=column)
        figure.update_xaxes(title_text=safe(panel.x), row=row, col=column)
        figure.update_yaxes(title_text=safe(panel.y), row=row, col=column)
    figure.update_layout(
        title=None if title is None else safe(title),
        template="plotly_white",
        height=140 + 440 * rows,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
    )
    return figure


def _layers(panel: Panel) -> Iterator[dict[str, object]]:
    """What plotly draws, the lowest first; two groups stay without points, so that the legend is complete."""
    yield {
        **_at(panel, panel.edge),
        "mode": "lines",
        "line": {"color": FRONT, "width": 1},
        "opacity": 0.5,
        "name": "best on this plane",
        "legendgroup": "edge",
        "hoverinfo": "skip",
    }
    drawn = [layer for layer in layers(panel) if layer.rows or layer.name in {"dominated", "front"}]
    places = _label_places(panel, drawn)
    for layer in drawn:
        yield _trace(panel, layer, places)


def _label_places(panel: Panel, drawn: Sequence[Layer]) -> dict[tuple[str, str], str]:
    """Where each label stands beside its point: it covers the fewest labels there, then the fewest points.

    By names of the layer and the point.
    """
    points = np.column_stack(panel.at(panel.everything))
    extent = np.ptp(points, axis=0)
    scale = _SIDE / np.where(extent > 0, extent, 1.0)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2 * scale
    around = np.array(list(_AROUND.values()))
    found: dict[tuple[str, str], str] = {}
    taken = np.empty((0, 4))  # middle and half the size of the labels so far
    for layer in drawn:
        for name, row in zip(layer.names, layer.rows, strict=False):  # most have no names
            half = np.array([_LETTER * len(name), _LINE]) / 2
            middles = np.column_stack(panel.at([row])) * scale + around * (half + _APART)
            labels = np.abs(taken[:, :2] - middles[:, None]) < taken[:, 2:] + half
            hidden = np.abs(points * scale - middles[:, None]) < half
            outside = (np.abs(middles - centre) + half > 0.56 * _SIDE).any(axis=1)  # axes end a little beyond
            taking = labels.all(axis=2).sum(axis=1) + outside
            best = np.lexsort((hidden.all(axis=2).sum(axis=1), taking))[0]
            found[layer.name, row.name] = list(_AROUND)[best]
            taken = np.vstack([taken, [*middles[best], *half]])
    return found


def _trace(panel: Panel, layer: Layer, places: Mapping[tuple[str, str], str]) -> dict[str, object]:
    rows = layer.curve or layer.rows
    counted = layer.sign in {"small", "cross", "dot"}
    name = f"{layer.name} ({len(layer.rows)})" if counted else layer.name
    trace: dict[str, object] = {
        **_at(panel, rows),
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "marker": {"color": layer.colour, **_SIGNS[layer.sign]},
        "customdata": [row.name for row in rows],
        "hovertext": [_hover(row) for row in rows],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    if layer.names:
        labels = [safe(name) for name in layer.names]
        beside = [places[layer.name, row.name] for row in rows]
        return {**trace, "mode": "markers+text", "text": labels, "textposition": beside}
    if layer.curve:
        # Points of the curve that are off the front have another sign already.
        sizes = [_SIGNS[layer.sign]["size"] if row in layer.rows else 0 for row in rows]
        marker = {"color": layer.colour, "size": sizes, "opacity": 1}
        line = {"color": layer.colour, "width": 1}
        return {**trace, "mode": "lines+markers", "marker": marker, "line": line}
    return trace


def _at(panel: Panel, rows: Sequence[FrontRow]) -> dict[str, object]:
    # Plotly cannot draw an axis along which values differ by rounding alone.
    placed = ([round(value, 12) for value in values] for values in panel.at(rows))
    return dict(zip("xy", placed, strict=True))


def _hover(row: FrontRow) -> str:
    title = f"<b>trial {row.name}</b>" + (f", preset {safe(row.preset)}" if row.preset else "")
    lines = [f"{name}: {value:.4f}" for name, value in row.values.items()]
    lines += [
        f"{path}: {value:.4g}" if isinstance(value, float) else f"{path}: {value}"
        for path, value in row.point.items()
    ]
    return "<br>".join([title, *map(safe, lines), *map(safe, row.violated)])


def safe(text: object) -> str:
    """Text for a picture: plotly reads a little HTML in labels, so names are escaped there, too."""
    return html.escape(str(text))
