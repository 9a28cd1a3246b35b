"""Which points a picture of a front shows, and where: a panel for each plane of IID and OOD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from painvrl.stats.dominance import non_dominated
from painvrl.study.report import FrontRow, FrontTable

ALWAYS = ("recall", "ndcg")
"""Metrics that have a panel at the objectives' cut-offs even where they are no objectives."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A point at its place."""

    row: FrontRow
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The feasible points of a training with several, by ``x``, and those of them on the study's front."""

    trial: int
    dots: tuple[Dot, ...]
    front: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A plane.

    Attributes:
        x: the IID metric. y: the OOD metric.
        front: points on the study's front, by ``x``.
        edge: those of them that no other beats on this plane alone, by ``x``: what a line may connect.
        curves: of the trainings with several points and one on the front; the most on the front first.
        dominated: the other feasible points. infeasible: those that break a constraint.
        presets: presets as they are, not scored otherwise, among all these, by name.
        picks: picked points, with what they were picked as.
        iid_only: the point that IID alone would have chosen.
    """

    x: str
    y: str
    front: tuple[Dot, ...]
    edge: tuple[Dot, ...]
    curves: tuple[Curve, ...]
    dominated: tuple[Dot, ...]
    infeasible: tuple[Dot, ...]
    presets: tuple[tuple[str, Dot], ...]
    picks: tuple[tuple[str, Dot], ...]
    iid_only: Dot | None


def panels_of(table: FrontTable) -> tuple[Panel, ...]:
    """A panel for recall, for NDCG and for the objectives' own metrics, at each K of the objectives.

    Only where the trials have that metric of both parts; of several OOD parts each has its panels. Without
    trials on the front there is none.
    """
    if not table.rows:
        return ()
    measured = table.rows[0].metrics
    parts = dict.fromkeys(part for part in (name.partition("/")[0] for name in measured) if _is_ood(part))
    metrics = _metrics(table.objectives)
    planes = [(f"iid/{metric}", f"{part}/{metric}") for part in parts for metric in metrics]
    return tuple(_panel(table, x, y) for x, y in planes if x in measured and y in measured)


def _is_ood(part: str) -> bool:
    return part == "ood" or part.startswith("ood_")


def _metrics(objectives: Sequence[str]) -> list[str]:
    """Such as ``ndcg_at_20``: by K, recall and NDCG first."""
    named = [objective.partition("/")[2].rpartition("_at_") for objective in objectives]
    cutoffs = sorted({int(cutoff) for _, _, cutoff in named})
    return [
        f"{metric}_at_{cutoff}"
        for cutoff in cutoffs
        for metric in dict.fromkeys([*ALWAYS, *(name for name, _, k in named if int(k) == cutoff)])
    ]


def _panel(table: FrontTable, x: str, y: str) -> Panel:
    def dots(rows: Iterable[FrontRow]) -> tuple[Dot, ...]:
        there = [row for row in rows if x in row.metrics and y in row.metrics]
        placed = [Dot(row=row, x=row.metrics[x], y=row.metrics[y]) for row in there]
        return tuple(sorted(placed, key=lambda dot: (dot.x, -dot.y)))

    front = dots(table.rows)
    dominated = dots(row for row in table.dominated if not row.violated)
    everything = {dot.row.name: dot for dot in dots([*table.rows, *table.dominated])}
    picked: dict[str, list[str]] = {}
    for alias, point in table.picks.items():
        picked.setdefault(point, []).append(alias)
    on_edge = non_dominated([[dot.x, dot.y] for dot in front])
    return Panel(
        x=x,
        y=y,
        front=front,
        edge=tuple(dot for dot, edge in zip(front, on_edge, strict=True) if edge),
        curves=_curves(front, dominated),
        dominated=dominated,
        infeasible=dots(row for row in table.dominated if row.violated),
        presets=tuple(
            (dot.row.preset, dot)
            for dot in everything.values()
            if dot.row.preset is not None and dot.row.is_own
        ),
        picks=tuple(
            (", ".join(names), everything[point]) for point, names in picked.items() if point in everything
        ),
        iid_only=None if table.iid_only is None else everything.get(table.iid_only.name),
    )


def _curves(front: Sequence[Dot], dominated: Sequence[Dot]) -> tuple[Curve, ...]:
    of_front = {dot.row.name for dot in front}
    of_training: dict[int, list[Dot]] = {}
    for dot in sorted([*front, *dominated], key=lambda dot: (dot.x, -dot.y)):
        of_training.setdefault(dot.row.trial, []).append(dot)
    curves = [
        Curve(
            trial=trial,
            dots=tuple(dots),
            front=tuple(dot for dot in dots if dot.row.name in of_front),
        )
        for trial, dots in of_training.items()
        if len(dots) > 1
    ]
    return tuple(sorted((one for one in curves if one.front), key=lambda one: (-len(one.front), one.trial)))
