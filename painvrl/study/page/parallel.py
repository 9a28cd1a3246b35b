"""Parallel coordinates: every trial a line through its knobs and its objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from painvrl.study.page.theme import FONT, FRONT, INK, MUTED, OTHERS, safe
from painvrl.study.page.trials import Trials
from painvrl.study.space import Categorical, Distribution, Value

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def picture(trials: Trials) -> Figure | None:
    """Lines of the trials of the space, the front's in colour and on top; ``None`` below two trials."""
    on_front = trials.on_front
    # plotly draws lines in the order of the rows: the front comes last.
    records = sorted(trials.searched, key=lambda record: (record.number in on_front, record.number))
    if len(records) < 2:
        return None
    import plotly.graph_objects as go

    dimensions = [
        dimension
        for path, distribution in trials.space.items()
        if (dimension := _knob(path, [record.point.get(path, _ABSENT) for record in records], distribution))
    ]
    dimensions += [
        {"label": _label(name), "values": [(record.values or ())[place] for record in records]}
        for place, name in enumerate(trials.objectives)
    ]
    figure = go.Figure(
        go.Parcoords(
            line={
                "color": [float(record.number in on_front) for record in records],
                "colorscale": [[0, OTHERS], [1, FRONT]],
                "cmin": 0,
                "cmax": 1,
            },
            dimensions=dimensions,
            labelfont={"size": 12, "color": INK},
            tickfont={"size": 11, "color": MUTED},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # of a logarithm it would mislead
            labelangle=-16,
            labelside="top",
        )
    )
    figure.update_layout(
        height=460,
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        margin={"l": 70, "r": 50, "t": 110, "b": 30},
    )
    return figure


_ABSENT = object()  # ``None`` is a value that a knob may have


def _label(name: str) -> str:
    return safe(name)


def _knob(path: str, values: Sequence[object], distribution: Distribution) -> dict[str, object] | None:
    """One axis; ``None`` for a knob that no trial has. A trial without the knob lies below the others."""
    there = [value for value in values if value is not _ABSENT]
    if not there:
        return None
    if isinstance(distribution, Categorical):
        codes: dict[object, float] = {}
        for choice in distribution.choices:
            codes.setdefault(_key(choice), float(len(codes)))
        for value in there:
            codes.setdefault(_key(value), float(len(codes)))
        texts = {code: safe(str(key[1])) for key, code in codes.items() if isinstance(key, tuple)}
        numbers = [None if value is _ABSENT else codes[_key(value)] for value in values]
    else:
        log = distribution.log
        numbers = [None if value is _ABSENT else _scaled(value, log=log) for value in values]
        known = [number for number in numbers if number is not None]
        low, high = min(known), max(known)
        ticks = [low + (high - low) * step / 4 for step in range(5)] if high > low else [low]
        texts = {tick: f"{10**tick if log else tick:.3g}" for tick in ticks}
    known = [number for number in numbers if number is not None]
    below = min(known) - 0.12 * ((max(known) - min(known)) or 1.0)
    if len(known) < len(numbers):
        texts[below] = "absent"
    return {
        "label": _label(path),
        "values": [below if number is None else number for number in numbers],
        "tickvals": list(texts),
        "ticktext": list(texts.values()),
    }


def _key(value: object) -> tuple[str, Value]:
    """``True`` and 1 are equal, and different choices."""
    assert value is None or isinstance(value, bool | int | float | str)
    return type(value).__name__, value


def _scaled(value: object, *, log: bool) -> float:
    assert isinstance(value, int | float)
    return math.log10(value) if log else float(value)
