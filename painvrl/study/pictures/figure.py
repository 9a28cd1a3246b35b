"""A front as a page for the browser, and what its pictures share."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from painvrl.study.pictures.panels import Curve, Dot, Panel, panels_of
from painvrl.study.report import FrontTable

if TYPE_CHECKING:
    import plotly.graph_objects as go

FRONT, OTHERS, PRESET, PICK, ALONE = "#c0392b", "#b8bcc2", "#2c6fbb", "#e69f00", "#111111"
"""Colours: the front, other trials, presets, picks, the choice by IID alone."""

TRAININGS = ("#1b7f5c", "#7a5ab5", "#d6438a", "#8a6d1d", "#3a9fb0", "#7f9a1e")
"""Colours of the trainings that have the most points on the front; the points of others look alike."""

ALONE_LABEL = "what IID alone would choose"


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


def coloured(panel: Panel) -> tuple[dict[str, Curve], tuple[Dot, ...]]:
    """The curves that have a colour, by that, and the points of the front that are on none of them."""
    of_colour = dict(zip(TRAININGS, panel.curves, strict=False))
    shown = {curve.trial for curve in of_colour.values()}
    return of_colour, tuple(dot for dot in panel.front if dot.row.trial not in shown)


def front_figure(panels: Sequence[Panel], title: str | None = None) -> go.Figure:
    """The panels beside each other, two a line; hovering shows a trial's objectives and knobs."""
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
    """What plotly draws, the lowest first; groups without trials stay, so that the legend is complete."""
    yield {
        **_at(panel.edge),
        "mode": "lines",
        "line": {"color": FRONT, "width": 1},
        "opacity": 0.5,
        "name": "best on this plane",
        "legendgroup": "edge",
        "hoverinfo": "skip",
    }
    curves, rest = coloured(panel)
    front = f"front, other trainings ({len(rest)})" if curves else f"front ({len(rest)})"
    for group, dots, marker in (
        (f"dominated ({len(panel.dominated)})", panel.dominated, {"color": OTHERS, "size": 8}),
        (
            f"breaks a constraint ({len(panel.infeasible)})",
            panel.infeasible,
            {"color": OTHERS, "size": 8, "symbol": "x-thin-open"},
        ),
        (front, rest, {"color": FRONT, "size": 10}),
    ):
        if dots or not group.startswith(("breaks", "front, other")):
            yield _points(group, dots, marker)
    for colour, curve in curves.items():
        group = f"front, training {curve.trial} ({len(curve.front)})"
        sizes = [10 if dot in curve.front else 0 for dot in curve.dots]
        line = {"mode": "lines+markers", "line": {"color": colour, "width": 1}}
        yield {**_points(group, curve.dots, {"color": colour, "size": sizes, "opacity": 1}), **line}
    alone = () if panel.iid_only is None else (panel.iid_only,)
    if alone:
        yield _points(ALONE_LABEL, alone, {"color": ALONE, "size": 18, "symbol": "circle-open"})
    for group, named, marker in (
        ("preset", panel.presets, {"color": PRESET, "size": 11, "symbol": "diamond"}),
        ("picked", panel.picks, {"color": PICK, "size": 18, "symbol": "star", "line": {"width": 1}}),
    ):
        if named:
            labels = {
                "mode": "markers+text",
                "text": [safe(name) for name, _ in named],
                "textposition": "top right",
            }
            yield {**_points(group, tuple(dot for _, dot in named), marker), **labels}


def _points(name: str, dots: Sequence[Dot], marker: dict[str, object]) -> dict[str, object]:
    return {
        **_at(dots),
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "marker": marker,
        "hovertext": [_hover(dot) for dot in dots],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _at(dots: Sequence[Dot]) -> dict[str, object]:
    return {"x": [dot.x for dot in dots], "y": [dot.y for dot in dots]}


def _hover(dot: Dot) -> str:
    row = dot.row
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
