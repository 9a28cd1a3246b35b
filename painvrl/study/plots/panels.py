"""Which points a picture of a front shows, and where: a panel for each plane of IID and OOD, in layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from painvrl.stats.dominance import non_dominated
from painvrl.study.front import FrontRow, FrontTable
from painvrl.study.plots.theme import ALONE, FRONT, OTHERS, PICK, PRESET, TRAININGS

ALWAYS = ("recall", "ndcg")
"""Metrics that have a panel at the objectives' cut-offs even where they are no objectives."""


Rows: TypeAlias = tuple[FrontRow, ...]

Sign: TypeAlias = Literal["small", "cross", "dot", "diamond", "hollow", "ring", "star"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A plane.

    Attributes:
        x: the IID metric. y: the OOD metric.
        front: points on the study's front, by ``x``.
        edge: those of them that no other beats on this plane alone, by ``x``: what a line may connect.
        curves: the feasible points, by ``x``, of the trainings with several and one of them on the front; the
            most on the front first.
        dominated: the other feasible points. infeasible: those that break a constraint.
        presets: presets as they are, not scored otherwise, among all these, by name.
        picks: picked points, with what they were picked as.
        iid_only: the point that IID alone would have chosen.
    """

    x: str
    y: str
    front: Rows
    edge: Rows
    curves: tuple[Rows, ...]
    dominated: Rows
    infeasible: Rows
    presets: tuple[tuple[str, FrontRow], ...]
    picks: tuple[tuple[str, FrontRow], ...]
    iid_only: FrontRow | None

    @property
    def everything(self) -> Rows:
        """All points."""
        return (*self.front, *self.dominated, *self.infeasible)

    def at(self, rows: Iterable[FrontRow]) -> tuple[list[float], list[float]]:
        """Where points stand."""
        placed = [(row.metrics[self.x], row.metrics[self.y]) for row in rows]
        return [x for x, _ in placed], [y for _, y in placed]


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
    rows: Rows
    names: tuple[str, ...] = ()
    curve: Rows = ()


def panels_of(table: FrontTable) -> tuple[Panel, ...]:
    """A panel for recall, for NDCG and for the objectives' own metrics, at each K of the objectives.

    Only where the trials have that metric of both parts; of several OOD parts each has its panels. Without
    trials on the front there is none.
    """
    if not table.rows:
        return ()
    measured = table.rows[0].metrics
    parts = dict.fromkeys(name.partition("/")[0] for name in measured if name.startswith(("ood/", "ood_")))
    metrics = _metrics(table.objectives)
    planes = [(f"iid/{metric}", f"{part}/{metric}") for part in parts for metric in metrics]
    return tuple(_panel(table, x, y) for x, y in planes if x in measured and y in measured)


def _metrics(objectives: Sequence[str]) -> list[str]:
    """Such as ``ndcg_at_20``: by K, recall and NDCG first."""
    named = [objective.partition("/")[2].rpartition("_at_") for objective in objectives]
    cutoffs = sorted({int(cutoff) for _, _, cutoff in named})
    return [
        f"{metric}_at_{cutoff}"
        for cutoff in cutoffs
        for metric in dict.fromkeys([*ALWAYS, *(name for name, _, k in named if int(k) == cutoff)])
    ]


def layers(panel: Panel, trainings: int = len(TRAININGS)) -> Iterator[Layer]:
    """All of them, the lowest first; some have no points.

    Args:
        panel: which.
        trainings: so many have a colour: those with the most points on the front.
    """
    yield Layer(name="dominated", sign="small", colour=OTHERS, rows=panel.dominated)
    yield Layer(name="breaks a constraint", sign="cross", colour=OTHERS, rows=panel.infeasible)
    curves = panel.curves[:trainings]
    shown = {curve[0].trial for curve in curves}
    rest = tuple(row for row in panel.front if row.trial not in shown)
    yield Layer(name="front, other trainings" if curves else "front", sign="dot", colour=FRONT, rows=rest)
    for colour, curve in zip(TRAININGS, curves, strict=False):
        name = f"front, training {curve[0].trial}"
        of_front = tuple(row for row in curve if row in panel.front)
        yield Layer(name=name, sign="dot", colour=colour, rows=of_front, curve=curve)
    on_front, behind = (
        [preset for preset in panel.presets if (preset[1] in panel.front) is on] for on in (True, False)
    )
    yield _named("preset on the front", "diamond", PRESET, on_front)
    yield _named("preset behind the front", "hollow", PRESET, behind)
    alone = () if panel.iid_only is None else (panel.iid_only,)
    yield Layer(name="what IID alone would choose", sign="ring", colour=ALONE, rows=alone)
    yield _named("picked", "star", PICK, panel.picks)


def _named(name: str, sign: Sign, colour: str, points: Sequence[tuple[str, FrontRow]]) -> Layer:
    rows, names = tuple(row for _, row in points), tuple(name for name, _ in points)
    return Layer(name=name, sign=sign, colour=colour, rows=rows, names=names)


def _panel(table: FrontTable, x: str, y: str) -> Panel:
    def sorted_rows(rows: Iterable[FrontRow]) -> Rows:
        there = [row for row in rows if x in row.metrics and y in row.metrics]
        return tuple(sorted(there, key=lambda row: (row.metrics[x], -row.metrics[y])))

    front = sorted_rows(table.rows)
    dominated = sorted_rows(row for row in table.dominated if not row.violated)
    everything = {row.name: row for row in sorted_rows([*table.rows, *table.dominated])}
    picked: dict[str, list[str]] = {}
    for alias, point in table.picks.items():
        picked.setdefault(point, []).append(alias)
    on_edge = non_dominated([[row.metrics[x], row.metrics[y]] for row in front])
    return Panel(
        x=x,
        y=y,
        front=front,
        edge=tuple(row for row, edge in zip(front, on_edge, strict=True) if edge),
        curves=_curves(front, sorted_rows([*front, *dominated])),
        dominated=dominated,
        infeasible=sorted_rows(row for row in table.dominated if row.violated),
        presets=tuple(
            (row.preset, row) for row in everything.values() if row.preset is not None and row.is_own
        ),
        picks=tuple(
            (", ".join(names), everything[point]) for point, names in picked.items() if point in everything
        ),
        iid_only=None if table.iid_only is None else everything.get(table.iid_only.name),
    )


def _curves(front: Rows, feasible: Rows) -> tuple[Rows, ...]:
    of_front = Counter(row.trial for row in front)
    of_training: dict[int, list[FrontRow]] = {}
    for row in feasible:
        of_training.setdefault(row.trial, []).append(row)
    several = [trial for trial, rows in of_training.items() if len(rows) > 1 and of_front[trial]]
    return tuple(
        tuple(of_training[trial]) for trial in sorted(several, key=lambda trial: (-of_front[trial], trial))
    )
