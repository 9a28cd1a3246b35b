"""Sizes of environments and density of the mask, against what the trials reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from painvrl.study.page.trials import Trials
from painvrl.study.pictures.figure import safe
from painvrl.study.pictures.theme import FRONT, OTHERS, facets
from painvrl.study.trial.outcomes import Completed

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SIZE = "environments/size_"

QUANTITIES = (
    ("largest", "share of the largest environment"),
    ("smallest", "share of the smallest environment"),
    ("density", "mean gate of the mask"),
)


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What a trial's last round came to.

    Attributes:
        on_front: whether a point of the trial is.
        count: environments. largest, smallest: share of the pairs that they hold; ``None`` without any.
        density: mean gate. sparsity: share of closed gates.
        iid, ood: what the trial reached; of a swept one at the point that stands for it.
    """

    trial: int
    on_front: bool
    count: int
    largest: float | None
    smallest: float | None
    density: float | None
    sparsity: float | None
    iid: float | None
    ood: float | None


def insides(trials: Trials) -> tuple[Inside, ...]:
    """The feasible trials that learned a mask, presets included."""
    of_front = {record.number for record in trials.of_front}
    found = []
    for record in trials.trainings:
        if not isinstance(record.outcome, Completed) or not record.outcome.rounds:
            continue
        last = record.outcome.rounds[-1]
        sizes = [value for name, value in last.items() if name.startswith(SIZE)]
        total = sum(sizes)
        inside = Inside(
            trial=record.number,
            on_front=record.number in of_front,
            count=len(sizes),
            largest=max(sizes) / total if total > 0 else None,
            smallest=min(sizes) / total if total > 0 else None,
            density=last.get("mask/density"),
            sparsity=last.get("mask/sparsity"),
            iid=None if trials.iid is None else record.metrics[trials.iid],
            ood=None if trials.ood is None else record.metrics[trials.ood],
        )
        found.append(inside)
    return tuple(found)


def picture(trials: Trials, rows: tuple[Inside, ...]) -> Figure | None:
    """One panel for each quantity and axis; ``None`` if no trial learned a mask."""
    shown = [
        {
            "x": x,
            "across": title,
            "y": y,
            "down": safe(metric),
            "group": "front" if row.on_front else "dominated",
            "hover": f"trial {row.trial}, {row.count} environments",
        }
        for row in rows
        for quantity, title in QUANTITIES
        for metric, y in ((trials.iid, row.iid), (trials.ood, row.ood))
        if (x := getattr(row, quantity)) is not None and y is not None
    ]
    if not shown:
        return None
    height = 120 + 240 * len({row["down"] for row in shown})
    figure = facets("scatter", shown, {"dominated": OTHERS, "front": FRONT}, height=height)
    figure.update_traces(marker_size=8)
    return figure
