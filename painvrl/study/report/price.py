"""The price of invariance: IID given up per OOD gained along each hyperparameter, with intervals.

Both axes are regressed on all hyperparameters at once, over the complete and feasible trials that trained a
point of the space. A training that was swept stands with one of its points, and what was swept is no
hyperparameter. The intervals are percentiles over resamples of the trials. What they say: how IID and OOD
change on average over the region that the study visited, with the other hyperparameters kept. What they do
not: bends and interactions (the share of variance explained tells how much of the trials is left out).

Shape letters: ``T`` trials, ``B`` resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from painvrl.run.distributions import Distribution, Value
from painvrl.run.hyperparameters import Point
from painvrl.stats.intervals import Bounded, percentiles
from painvrl.stats.regression import Array, effects_of, exchange
from painvrl.study.plots.figure import safe
from painvrl.study.plots.theme import ACCENT, MAIN, MUTED, OTHERS, facets, number
from painvrl.study.report.design import Change, design
from painvrl.study.report.trials import Trials

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

RESAMPLES = 2000

TOGETHER = "moved along with other hyperparameters: the trials cannot tell them apart"
TOO_FEW = "has too few trials for an interval"

_DETERMINED = 0.9  # share of the resamples that must tell a change apart

Verdict: TypeAlias = Literal["trade", "free", "no clear cost", "no clear OOD effect"]

COLOURS: Mapping[str, str] = {
    "trade": ACCENT,
    "no clear cost": MUTED,
    "free": MAIN,
    "no clear OOD effect": OTHERS,
}


@dataclass(frozen=True, kw_only=True)
class HyperparameterPrice:
    """What one hyperparameter, turned from ``low`` to ``high``, does to both axes.

    Attributes:
        iid, ood: changes of the two metrics.
        verdict: ``trade``: OOD is paid with IID. ``free``: both rise together, there is no trade.
            ``no clear cost``: OOD changes, and the price may be zero. ``no clear OOD effect``: the interval
            of the OOD change holds zero, so there is nothing to divide by.
        price: IID given up per OOD gained, in whichever direction OOD rises; ``None`` unless the
            verdict is ``trade`` or ``no clear cost``.
    """

    hyperparameter: str
    low: Value
    high: Value
    iid: Bounded
    ood: Bounded
    verdict: Verdict
    price: Bounded | None


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of invariance along each hyperparameter.

    Attributes:
        metrics: the IID and the OOD axis.
        trials: how many the regression saw. needed: how many it takes at least.
        explained: share of the variance of the two axes that it explains, by metric.
        hyperparameters: the clear trades first, the dearest of them on top.
        left_out: hyperparameters without a price, and why; of a categorical hyperparameter its changes, one
            by one.
        note: why there is none at all.
    """

    metrics: tuple[str, str] | None
    trials: int
    needed: int
    explained: Mapping[str, float] = field(default_factory=dict)
    hyperparameters: tuple[HyperparameterPrice, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None


def price_of_invariance(trials: Trials, *, seed: int = 0) -> Price:
    """The price of invariance in a study."""
    if trials.iid is None or trials.ood is None:
        note = "There is no OOD metric beside an IID one, so nothing is traded."
        return Price(metrics=None, trials=len(trials.searched), needed=0, note=note)
    axes = (trials.iid, trials.ood)
    values = [[record.metrics[axis] for axis in axes] for record in trials.searched]
    return price(
        [record.point for record in trials.searched],
        np.array(values, dtype=float).reshape(-1, 2),
        trials.sampled,
        axes,
        seed=seed,
    )


def price(
    points: Sequence[Point],
    values: Array,
    space: Mapping[str, Distribution],
    metrics: tuple[str, str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Price:
    """Regress both axes on all hyperparameters, and resample the trials for intervals.

    Args:
        points: ``T`` values of the hyperparameters; a conditional hyperparameter may be missing.
        values: ``[T, 2]``: IID and OOD.
        space: scale of each hyperparameter.
        metrics: names of the axes.
        seed: of the resamples.
        resamples: ``B``.
    """
    made = design(points, space)
    needed = made.matrix.shape[1] + 2
    if len(points) < needed or not made.changes:
        few = (
            f"It takes {needed} complete trials, presets apart, to tell the hyperparameters apart; there are "
            f"{len(points)}."
        )
        note = few if len(points) < needed else "No hyperparameter was turned."
        return Price(metrics=metrics, trials=len(points), needed=needed, left_out=made.left_out, note=note)
    rng = np.random.default_rng(seed)
    effects = effects_of(made.matrix, values, made.along, resamples=resamples, rng=rng)
    left_out = dict(made.left_out)
    found = []
    for place, change in enumerate(made.changes):
        reported_in = effects.reported_in[:, place]
        if not effects.reported[place]:
            left_out[change.name] = TOGETHER
        elif reported_in.mean() < _DETERMINED:
            left_out[change.name] = TOO_FEW
        else:
            found.append(_judged(change, effects.values[place], effects.drawn[reported_in, place]))
    # A resample holds two thirds of the trials, so intervals take more of them than estimates.
    few = f"There are {len(points)} complete trials: enough to tell effects apart, too few for intervals."
    return Price(
        metrics=metrics,
        trials=len(points),
        needed=needed,
        explained=dict(zip(metrics, effects.explained.tolist(), strict=True)),
        hyperparameters=tuple(sorted(found, key=_rank)),
        left_out=left_out,
        note=few if not found and TOO_FEW in left_out.values() else None,
    )


def change_of(one: HyperparameterPrice, *, rising: bool = False) -> str:
    """The hyperparameter and its two values; with ``rising`` in the direction in which OOD rises."""
    low, high = (one.high, one.low) if rising and one.ood.value < 0 else (one.low, one.high)
    return f"{one.hyperparameter}: {_short(low)} → {_short(high)}"


def picture(found: Price) -> Figure | None:
    """A row a hyperparameter, OOD rising: both changes with their intervals; ``None`` if empty."""
    if not found.hyperparameters or found.metrics is None:
        return None
    rows = []
    for one in found.hyperparameters:
        sign = -1 if one.ood.value < 0 else 1
        for metric, change in zip(found.metrics, (one.iid, one.ood), strict=True):
            reaches = [abs((end or 0.0) - change.value) for end in (change.low, change.high)]
            below, above = reaches[::sign]
            rows.append(
                {
                    "x": sign * change.value,
                    "below": below,
                    "above": above,
                    "y": safe(change_of(one, rising=True)),
                    "across": f"change of {safe(metric)}",
                    "group": one.verdict,
                }
            )
    hyperparameters = list(dict.fromkeys(row["y"] for row in rows))
    figure = facets(
        "scatter",
        rows,
        COLOURS,
        height=150 + 34 * len(hyperparameters),
        error_x="above",
        error_x_minus="below",
        orders={"y": hyperparameters},
    )
    figure.update_traces(marker_size=10, error_x={"thickness": 2, "width": 0})
    figure.update_yaxes(ticks="", showticklabels=False, col=2)
    figure.add_vline(x=0, line={"color": MUTED, "width": 1})
    return figure


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else number(value)


def _judged(change: Change, effect: Array, drawn: Array) -> HyperparameterPrice:
    """Intervals and verdict from an effect ``[2]`` and its resamples ``[b, 2]``."""
    (iid_low, ood_low), (iid_high, ood_high) = percentiles(drawn)
    verdict: Verdict = "no clear OOD effect"
    paid: Bounded | None = None
    if ood_low > 0 or ood_high < 0:
        paid = exchange(effect, drawn)
        if paid.high is not None and paid.high < 0:
            verdict, paid = "free", None
        elif paid.low is not None and paid.low > 0:
            verdict = "trade"
        else:
            verdict = "no clear cost"
    return HyperparameterPrice(
        hyperparameter=change.hyperparameter,
        low=change.low,
        high=change.high,
        iid=Bounded(value=float(effect[0]), low=float(iid_low), high=float(iid_high)),
        ood=Bounded(value=float(effect[1]), low=float(ood_low), high=float(ood_high)),
        verdict=verdict,
        price=paid,
    )


def _rank(one: HyperparameterPrice) -> tuple[int, float]:
    order: tuple[Verdict, ...] = ("trade", "no clear cost", "free", "no clear OOD effect")
    return order.index(one.verdict), -(one.price.value if one.price else abs(one.ood.value))
