"""What rules choose among: the front's values, the plane of IID and OOD in them, and verdicts; NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Column: TypeAlias = NDArray[np.float64]
"""``[T]``: one number a trial."""


class Axes(NamedTuple):
    """The two metrics that rules look at; with one missing, the other stands alone."""

    iid: str | None
    ood: str | None


class Plane(NamedTuple):
    """The two metrics of the trials. ``names``: of the IID and of the OOD one."""

    names: tuple[str, str]
    iid: Column
    ood: Column


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rule takes.

    Attributes:
        place: a row of the candidates.
        reason: one sentence, with what was weighed and what it gives up against the best of each.
    """

    place: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The trials on a front.

    Attributes:
        values: ``[T, M]``, finite, larger is better, with T at least 1.
        objectives: the names of the M columns.
    """

    values: NDArray[np.float64]
    objectives: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def plane(self) -> Plane | None:
        """Both axes; ``None`` where one is missing."""
        iid, ood = axes_of(self.objectives)
        if iid is None or ood is None:
            return None
        return Plane((iid, ood), self.column(iid), self.column(ood))

    def column(self, objective: str) -> Column:
        """``[T]``: the values of one objective."""
        return self.values[:, self.objectives.index(objective)]

    def best(self, score: Column, *then: Column, tie: float = 0.0) -> int:
        """The row of the largest score.

        What lies within ``tie`` of it goes by ``then``, by the axes and by all objectives in turn: so of a
        score that never falls where an objective rises, the row taken is one that no other dominates.
        Equal rows go to the first.
        """
        rows = np.flatnonzero(score >= score.max() - tie)
        axes = () if self.plane is None else (self.plane.iid, self.plane.ood)
        keys = [*then, *axes, *self.values.T]
        # The last key of lexsort is the first that it sorts by.
        order = np.lexsort((rows, *(-key[rows] for key in reversed(keys))))
        return int(rows[order[0]])

    def verdict(self, place: int, why: str, *, reported: Sequence[str] = ()) -> Verdict:
        """A choice with its reason: ``why``, and what it has and loses on the axes and on ``reported``."""
        return Verdict(place=place, reason=f"{why}; {self.against_the_best(self.values[place], reported)}")

    def against_the_best(self, values: Sequence[float] | Column, reported: Sequence[str] = ()) -> str:
        """What a trial of ``values`` ``[M]`` has on the axes and on ``reported``, and loses to the best."""
        axes = [name for name in axes_of(self.objectives) if name is not None]
        given = []
        for name in dict.fromkeys([*axes, *reported]):
            value, best = float(values[self.objectives.index(name)]), float(self.column(name).max())
            loss = f"{1 - value / best:.1%}" if best > 0 else f"{best - value:.4g}"
            # An infeasible trial may be above the front.
            said = f"{loss} below the best, {best:.4f}" if value < best else "the best"
            given.append(f"{name} {value:.4f} ({said if value <= best else 'above the front'})")
        return ", ".join(given)


def axes_of(objectives: Sequence[str]) -> Axes:
    """The IID and the OOD objective that rules look at: NDCG if there is one, else the first.

    Objectives of OOD parts with names of their own are looked at where there is none of plain ``ood``.
    """

    def pick(part: str) -> str | None:
        names = [name for name in objectives if name.startswith(f"{part}/")]
        names = names or [name for name in objectives if name.startswith(f"{part}_")]
        return next((name for name in names if "/ndcg_at_" in name), next(iter(names), None))

    return Axes(iid=pick("iid"), ood=pick("ood"))


def scaled(column: Column) -> Column:
    """``[T]``: the column from its least value, 0, to its largest, 1; zeros where all are equal."""
    extent = float(np.ptp(column))
    return (column - column.min()) / extent if extent > 0 else np.zeros_like(column)
