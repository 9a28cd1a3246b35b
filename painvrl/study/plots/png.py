"""A front as a PNG: the panels beside each other, drawn by matplotlib without a screen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from painvrl.study.front import FrontRow
from painvrl.study.plots.panels import Panel, Sign, layers
from painvrl.study.plots.theme import ALONE, FRONT, PRESET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_DPI = 88
_WIDTH, _HEIGHT = 5.6, 4.9  # inches of a panel
_LEGEND_COLUMNS = 3  # entries beside each other under a panel
_REACH = (9, 16, 26, 40)  # points between a trial and its label, the nearest first
_BESIDE = 2  # of these so many need no line from the label to its point
_AROUND = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))

_SIGNS: dict[Sign, dict[str, Any]] = {
    "small": {"s": 34},
    "cross": {"s": 34, "marker": "x"},
    "dot": {"s": 46},
    "diamond": {"s": 52, "marker": "D"},
    "hollow": {"s": 46, "marker": "D", "facecolor": "none", "linewidth": 1.8},
    "ring": {"s": 210, "facecolor": "none", "linewidth": 1.4},
    "star": {"s": 240, "marker": "*", "edgecolor": ALONE},
}


@dataclass(frozen=True, kw_only=True)
class _Label:
    """``must``: shown even where nothing is free."""

    row: FrontRow
    text: str
    colour: str
    must: bool


def front_png(panels: Sequence[Panel], title: str) -> bytes:
    """The panels, two a line, as a PNG file's content.

    Args:
        panels: at least one.
        title: what stands above them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.03)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows + 0.7), dpi=_DPI, layout=layout)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for each, panel in zip(axes, panels, strict=False):
        _draw(each, panel)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    drawn = [each.get_legend_handles_labels() for each in axes[: len(panels)]]
    legend = {name: handle for handles, names in drawn for handle, name in zip(handles, names, strict=True)}
    ncols = min(len(legend), _LEGEND_COLUMNS * columns)
    figure.legend(list(legend.values()), list(legend), loc="outside lower center", ncols=ncols, frameon=False)
    canvas.draw()  # labels are placed among things that have their place
    for each, panel in zip(axes, panels, strict=False):
        _place(each, _labels(panel), panel, canvas.get_renderer())
    figure.set_layout_engine("none")
    content = io.BytesIO()
    canvas.print_png(content, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return content.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    """Everything but the labels."""
    if len(panel.edge) > 1:
        axes.plot(*panel.at(panel.edge), color=FRONT, linewidth=1.2, alpha=0.5, zorder=1)
    for place, layer in enumerate(layers(panel)):
        if layer.curve:
            axes.plot(*panel.at(layer.curve), color=layer.colour, linewidth=0.9, alpha=0.6, zorder=2)
        if layer.rows:
            look = _SIGNS[layer.sign]
            axes.scatter(
                *panel.at(layer.rows), color=layer.colour, **look, label=layer.name, zorder=3 + place
            )
    axes.set_xlabel(panel.x, fontsize=11)
    axes.set_ylabel(panel.y, fontsize=11)
    axes.margins(0.12)
    axes.grid(visible=True, color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _labels(panel: Panel) -> list[_Label]:
    """The most important first: picks, presets, the choice by IID alone, then the numbers of the front."""
    labels = [
        _Label(row=row, text=f"{names}: trial {row.name}", colour="black", must=True)
        for names, row in panel.picks
    ]
    labels += [_Label(row=row, text=name, colour=PRESET, must=True) for name, row in panel.presets]
    named = {label.row.name for label in labels}
    rest = [row for row in panel.front if row.name not in named]
    alone = [panel.iid_only] if panel.iid_only is not None and panel.iid_only not in panel.front else []
    return labels + [_Label(row=row, text=row.name, colour="#666666", must=False) for row in [*alone, *rest]]


def _place(axes: Axes, labels: Sequence[_Label], panel: Panel, renderer: RendererBase) -> None:
    """Write each label where it covers nothing, as near to its point as that allows; else leave it out."""
    from matplotlib.transforms import Bbox

    points = axes.transData.transform(np.column_stack(panel.at(panel.everything)))
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in points]
    taken += [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in _along(axes, panel)]
    inside = axes.get_window_extent()
    for label in labels:
        # Of many points of few trainings, leading lines would hide more than names tell.
        reaches = _REACH if label.must or not panel.curves else _REACH[:_BESIDE]
        places = [(reach, *way) for reach in reaches for way in _AROUND]
        for reach, right, up in places:
            note = axes.annotate(
                label.text,
                (label.row.metrics[panel.x], label.row.metrics[panel.y]),
                xytext=(reach * right, reach * up),
                textcoords="offset points",
                fontsize=9.5 if label.must else 8,
                color=label.colour,
                fontweight="bold" if label.must else "normal",
                ha=("right", "center", "left")[right + 1],
                va=("top", "center", "bottom")[up + 1],
                arrowprops={"arrowstyle": "-", "color": label.colour, "lw": 0.6}
                if reach not in _REACH[:_BESIDE]
                else None,
                zorder=7,
            )
            box = _text_box(note, renderer)
            if _is_free(box, taken, inside):
                taken.append(box)
                break
            if not label.must or (reach, right, up) != places[-1]:
                note.remove()


def _text_box(note: Annotation, renderer: RendererBase) -> Bbox:
    """The box of the words alone, without the line that leads to them."""
    from matplotlib.text import Text

    note.update_positions(renderer)
    return Text.get_window_extent(note, renderer).padded(1)


def _is_free(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> bool:
    within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    return within and not any(box.overlaps(other) for other in taken)


def _along(axes: Axes, panel: Panel) -> list[tuple[float, float]]:
    """Pixels every few pixels along the panel's edge."""
    corners = axes.transData.transform(np.column_stack(panel.at(panel.edge)))
    found: list[tuple[float, float]] = []
    for start, end in pairwise(corners):
        steps = max(2, int(np.hypot(*(end - start)) // 5))
        found += [tuple(start + (end - start) * share) for share in np.linspace(0, 1, steps)]
    return found
