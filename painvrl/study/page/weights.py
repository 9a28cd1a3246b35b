"""The inner Pareto weights while masks were learned: which risk led, and how far the two disagreed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from painvrl.study.page.trials import name_of
from painvrl.study.pictures.figure import safe
from painvrl.study.pictures.theme import GRID, LOW_TO_HIGH, MUTED, facets
from painvrl.study.store.records import TrialRecord
from painvrl.study.store.storage import StoredStudy
from painvrl.study.trial.outcomes import Completed

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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
        points: as the trial keeps them (:class:`painvrl.study.trial.outcomes.Completed`).
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
            points=record.outcome.mask_trace,
        )
        for record in records
        if isinstance(record.outcome, Completed) and record.outcome.mask_trace
    ]
    return tuple(sorted(curves, key=lambda curve: (curve.irm_weight, curve.trial)))


def picture(curves: tuple[WeightCurve, ...]) -> Figure | None:
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
