"""Parallel coordinates: every point a line through its hyperparameters and its objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from painvrl.run.distributions import Categorical, Distribution, Fixed, IntRange, Value
from painvrl.run.hyperparameters import Point
from painvrl.study.plots.figure import safe
from painvrl.study.plots.theme import FRONT, INK, MUTED, OTHERS, style
from painvrl.study.report.trials import Trials

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def picture(trials: Trials) -> Figure | None:
    """Lines of the points of the space, the front's in colour and on top; ``None`` below two points."""
    on_front = trials.on_front
    # plotly draws lines in the order of the rows: the front comes last.
    of_space = [record for record in trials.points if record.preset is None and record.point]
    records = sorted(of_space, key=lambda record: record.name in on_front)
    if len(records) < 2:
        return None
    import plotly.graph_objects as go

    dimensions = [
        dimension
        for path, distribution in trials.space.items()
        if (dimension := _hyperparameter(path, [record.point for record in records], distribution))
    ]
    dimensions += [
        {"label": safe(name), "values": [(record.values or ())[place] for record in records]}
        for place, name in enumerate(trials.objectives)
    ]
    figure = go.Figure(
        go.Parcoords(
            line={
                "color": [float(record.name in on_front) for record in records],
                "colorscale": [[0, OTHERS], [1, FRONT]],
                "cmin": 0,
                "cmax": 1,
            },
            dimensions=dimensions,
            customdata=[record.name for record in records],
            labelfont={"size": 12, "color": INK},
            tickfont={"size": 11, "color": MUTED},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # of a logarithm it would mislead
            labelangle=-16,
            labelside="top",
        )
    )
    style(figure, height=460)
    return figure.update_layout(margin={"l": 70, "r": 50, "t": 110, "b": 30})


def _hyperparameter(
    path: str, points: Sequence[Point], distribution: Distribution
) -> dict[str, object] | None:
    """One axis; ``None`` for what no point has. A point without it lies below the others."""
    if isinstance(distribution, Categorical | Fixed):
        codes = {choice: float(place) for place, choice in enumerate(distribution.values())}
        texts = {code: safe(choice) for choice, code in codes.items()}
        numbers = [codes[point[path]] if path in point else None for point in points]
    else:
        texts, log = {}, distribution.log
        numbers = [_scaled(point[path], log=log) if path in point else None for point in points]
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    low, high, absent = min(known), max(known), len(known) < len(numbers)
    if isinstance(distribution, IntRange):
        values = sorted({value for point in points if isinstance(value := point.get(path), int)})
        shown = [values[round(share * (len(values) - 1) / 6)] for share in range(7)]  # such as some trial had
        texts = {_scaled(value, log=distribution.log): str(value) for value in shown}
    elif not isinstance(distribution, Categorical | Fixed) and (distribution.log or absent):
        ticks = [low + (high - low) * step / 4 for step in range(5)] if high > low else [low]
        texts = {tick: f"{10**tick if distribution.log else tick:.3g}" for tick in ticks}
    below = low - 0.12 * ((high - low) or 1.0)
    if absent:
        texts[below] = "absent"
    return {
        "label": safe(path),
        "values": [below if number is None else number for number in numbers],
        "tickformat": ".3~g",
        # A selection along the axis snaps to ticks of ours, so there are none where Plotly has some.
        "tickvals": list(texts) or None,
        "ticktext": list(texts.values()) or None,
    }


def _scaled(value: Value, *, log: bool) -> float:
    assert isinstance(value, int | float)
    return math.log10(value) if log else float(value)
