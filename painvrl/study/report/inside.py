"""Inside the trainings: environments and masks, and how the inner Pareto weights came to the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from painvrl.engine.outcomes import Completed
from painvrl.study.plots.figure import safe
from painvrl.study.plots.theme import FRONT, GRID, LOW_TO_HIGH, MUTED, OTHERS, facets
from painvrl.study.report.trials import Trials, name_of
from painvrl.study.store.records import TrialRecord
from painvrl.study.store.storage import StoredStudy

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


def environments_picture(trials: Trials, rows: tuple[Inside, ...]) -> Figure | None:
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


PANELS = (
    ("epsilon", "ε: weight of the empirical risk"),
    ("cosine", "cosine of the two gradients"),
    ("risk", "empirical risk"),
    ("penalty", "penalty"),
)


@dataclass(frozen=True, kw_only=True)
class WeightCurve:
    """How one trial's mask was learned.

    Attributes:
        name: the trial, with its preset. irm_weight: the preference that it trained with.
        points: as the trial keeps them (:class:`painvrl.engine.outcomes.Completed`).
    """

    trial: int
    name: str
    irm_weight: float
    points: tuple[Mapping[str, float], ...]


def weight_curves(study: StoredStudy, records: Sequence[TrialRecord]) -> tuple[WeightCurve, ...]:
    """The curves of those of ``records`` that kept one, the lightest IRM weight first."""
    curves = [
        WeightCurve(
            trial=record.number,
            name=name_of(record),
            irm_weight=float(study.config_of(record).mask.irm_weight),
            points=tuple(map(dict, record.outcome.mask_trace)),
        )
        for record in records
        if isinstance(record.outcome, Completed) and record.outcome.mask_trace
    ]
    return tuple(sorted(curves, key=lambda curve: (curve.irm_weight, curve.trial)))


def weights_picture(curves: tuple[WeightCurve, ...]) -> Figure | None:
    """A panel a quantity, a line a trial coloured by its IRM weight; ``None`` without a curve."""
    if not curves:
        return None
    from plotly.colors import sample_colorscale

    # Rounds are drawn side by side, each as wide as the longest.
    width = 1 + max(point["step"] for curve in curves for point in curve.points)
    named = {f"{safe(curve.name)}, IRM weight {curve.irm_weight:.3g}": curve for curve in curves}
    rows = [
        {
            "x": (point["round"] - 1) * width + point["step"],
            "y": point[quantity],
            "across": title,
            "group": name,
        }
        for name, curve in named.items()
        for point in curve.points
        for quantity, title in PANELS
    ]
    shares = [place / max(1, len(named) - 1) for place in range(len(named))]
    colours = sample_colorscale([list(stop) for stop in LOW_TO_HIGH], shares)
    figure = facets(
        "line", rows, dict(zip(named, colours, strict=True)), height=620, right=True, facet_col_wrap=2
    )
    figure.update_xaxes(title_text="step of learning the mask, round after round", row=1)
    figure.update_yaxes(zeroline=True, zerolinecolor=GRID, zerolinewidth=2)
    for boundary in range(1, int(max(point["round"] for curve in curves for point in curve.points))):
        figure.add_vline(x=boundary * width - 0.5, line={"color": MUTED, "width": 1, "dash": "dot"})
    return figure
