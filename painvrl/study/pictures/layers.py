"""What the picture of a front draws over each other, however it is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from painvrl.study.pictures.panels import Dot, Panel
from painvrl.study.pictures.theme import ALONE, FRONT, OTHERS, PICK, PRESET, TRAININGS

Sign: TypeAlias = Literal["small", "cross", "dot", "diamond", "ring", "star"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Points that look alike.

    Attributes:
        name: in the legend.
        names: of the points, beside them; none where they have none.
        curve: of a training whose points have a colour: all of them, by ``x``, for a line.
    """

    name: str
    sign: Sign
    colour: str
    dots: tuple[Dot, ...]
    names: tuple[str, ...] = ()
    curve: tuple[Dot, ...] = ()


def layers(panel: Panel, trainings: int = len(TRAININGS)) -> Iterator[Layer]:
    """All of them, the lowest first; some have no points.

    Args:
        panel: which.
        trainings: so many have a colour: those with the most points on the front.
    """
    yield Layer(name="dominated", sign="small", colour=OTHERS, dots=panel.dominated)
    yield Layer(name="breaks a constraint", sign="cross", colour=OTHERS, dots=panel.infeasible)
    curves = panel.curves[:trainings]
    shown = {curve.trial for curve in curves}
    rest = tuple(dot for dot in panel.front if dot.row.trial not in shown)
    yield Layer(name="front, other trainings" if curves else "front", sign="dot", colour=FRONT, dots=rest)
    for colour, curve in zip(TRAININGS, curves, strict=False):
        name = f"front, training {curve.trial}"
        yield Layer(name=name, sign="dot", colour=colour, dots=curve.front, curve=curve.dots)
    yield _named("preset", "diamond", PRESET, panel.presets)
    alone = () if panel.iid_only is None else (panel.iid_only,)
    yield Layer(name="what IID alone would choose", sign="ring", colour=ALONE, dots=alone)
    yield _named("picked", "star", PICK, panel.picks)


def _named(name: str, sign: Sign, colour: str, points: Sequence[tuple[str, Dot]]) -> Layer:
    dots = tuple(dot for _, dot in points)
    return Layer(name=name, sign=sign, colour=colour, dots=dots, names=tuple(name for name, _ in points))
