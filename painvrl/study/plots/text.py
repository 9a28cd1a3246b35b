"""A front as text: the panels below each other, drawn by plotext."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from painvrl.study.front import FrontRow, counted
from painvrl.study.plots.panels import Panel, Sign, layers

_MARGIN = 0.06  # of an axis' extent, left free at each end
_NAMES = 8  # of points that share trainings, up to which a legend names them
_SIGNS: dict[Sign, tuple[str, str]] = {
    "small": ("·", "gray"),
    "cross": ("x", "gray"),
    "dot": ("●", "red"),
    "diamond": ("◆", "blue"),
    "hollow": ("◇", "blue"),
    "ring": ("◎", "magenta"),
    "star": ("★", "orange"),
}


def front_text(panels: Sequence[Panel], *, width: int, height: int, colour: bool) -> str:
    """The panels and what their signs mean.

    Args:
        panels: at least one.
        width: columns.
        height: lines of a panel.
        colour: with codes for a terminal's colours.
    """
    import plotext

    drawn = [_drawn(panel, width, height) for panel in panels]
    text = "\n".join(drawn)
    return "\n".join([text if colour else plotext.uncolorize(text), *_legend(panels[0])])


def _drawn(panel: Panel, width: int, height: int) -> str:
    import plotext

    figure = plotext.figure  # plotext has one figure; it is left as it was found
    plotext.terminal.limit(False, False)  # noqa: FBT003 # plotext's own signature
    try:
        figure.clear()
        figure.plot_size(width, height)
        figure.theme("colorless")
        drawn = list(layers(panel))
        for layer in drawn:
            if layer.rows:
                figure.draw(
                    figure.signal(*panel.at(layer.rows), marker=plotext.colorize(*_SIGNS[layer.sign]))
                )
        (left, right), heights = (_limits(values) for values in panel.at(panel.everything))
        figure.ruler("x").lim(left, right)
        figure.ruler("y").lim(*heights)
        for layer in drawn:
            sign, shade = _SIGNS[layer.sign]
            for name, x, y in zip(layer.names, *panel.at(layer.rows), strict=False):  # most have no names
                # The sign stands on the trial, the name on the side that has more room.
                before = x > (left + right) / 2
                label = plotext.colorize(f"{name} {sign}" if before else f"{sign} {name}", shade)
                figure.draw(figure.text(x, y, label, alignment="right" if before else "left"))
        figure.title(f"{panel.y} against {panel.x}")
        return str(figure.build().string())
    finally:
        figure.clear()
        plotext.terminal.limit()


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    free = _MARGIN * (high - low) or _MARGIN * (abs(high) or 1.0)
    return low - free, high + free


def _legend(panel: Panel) -> Iterator[str]:
    for layer in layers(panel, trainings=0):
        if layer.rows:
            yield f"{_SIGNS[layer.sign][0]} {layer.name}: {_named(layer.rows)}"


def _named(rows: Sequence[FrontRow]) -> str:
    if len(rows) > _NAMES and len({row.trial for row in rows}) < len(rows):
        return counted(rows)
    return f"trial{'' if len(rows) == 1 else 's'} {', '.join(row.name for row in rows)}"
