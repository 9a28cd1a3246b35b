"""A front as text: the panels below each other, drawn by plotext."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from painvrl.study.pictures.figure import ALONE_LABEL
from painvrl.study.pictures.panels import Dot, Panel
from painvrl.study.report import FrontRow, counted

_MARGIN = 0.06  # of an axis' extent, left free at each end
_NAMES = 8  # of points that share trainings, up to which a legend names them
_MARKS = {
    "dominated": ("·", "gray"),
    "breaks a constraint": ("x", "gray"),
    "front": ("●", "red"),
    "preset": ("◆", "blue"),
    ALONE_LABEL: ("◎", "magenta"),
    "picked": ("★", "orange"),
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
        for name, dots in _groups(panel):
            if dots:
                sign, shade = _MARKS[name]
                marker = plotext.colorize(sign, shade)
                figure.draw(figure.signal([dot.x for dot in dots], [dot.y for dot in dots], marker=marker))
        everything = [*panel.front, *panel.dominated, *panel.infeasible]
        left, right = _limits([dot.x for dot in everything])
        figure.ruler("x").lim(left, right)
        figure.ruler("y").lim(*_limits([dot.y for dot in everything]))
        for kind, named in (("preset", panel.presets), ("picked", panel.picks)):
            sign, shade = _MARKS[kind]
            for name, dot in named:
                # The sign stands on the trial, the name on the side that has more room.
                before = dot.x > (left + right) / 2
                label = plotext.colorize(f"{name} {sign}" if before else f"{sign} {name}", shade)
                figure.draw(figure.text(dot.x, dot.y, label, alignment="right" if before else "left"))
        figure.title(f"{panel.y} against {panel.x}")
        return str(figure.build().string())
    finally:
        figure.clear()
        plotext.terminal.limit()


def _groups(panel: Panel) -> Iterator[tuple[str, Sequence[Dot]]]:
    """What is drawn, the lowest first."""
    yield "dominated", panel.dominated
    yield "breaks a constraint", panel.infeasible
    yield "front", panel.front
    yield "preset", [dot for _, dot in panel.presets]
    yield ALONE_LABEL, [] if panel.iid_only is None else [panel.iid_only]
    yield "picked", [dot for _, dot in panel.picks]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    free = _MARGIN * (high - low) or _MARGIN * (abs(high) or 1.0)
    return low - free, high + free


def _legend(panel: Panel) -> Iterator[str]:
    for name, dots in _groups(panel):
        if dots:
            yield f"{_MARKS[name][0]} {name}: {_named([dot.row for dot in dots])}"


def _named(rows: Sequence[FrontRow]) -> str:
    if len(rows) > _NAMES and len({row.trial for row in rows}) < len(rows):
        return counted(rows)
    return f"trial{'' if len(rows) == 1 else 's'} {', '.join(row.name for row in rows)}"
