"""Constraints of a study: bounds on a trial's cost and metrics that its front must keep to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from painvrl.core.settings import Settings
from painvrl.evaluation.measured import valid_part_metric

COSTS = {"time": "s", "peak_memory": "MiB"}
"""What a trial costs, with the unit: its wall time, and the most memory that it took."""


def _cost_or_metric(name: str) -> str:
    if name in COSTS:
        return name
    try:
        return valid_part_metric(name)
    except ValueError as error:
        if "is sealed" in str(error):
            raise
        raise ValueError(f"must be {' or '.join(COSTS)} or a metric: {error}") from None


class Constraint(Settings):
    """A bound on one measurement of a trial: either ``max`` or ``min``."""

    metric: Annotated[str, AfterValidator(_cost_or_metric)]
    """``time`` (seconds of the trial), ``peak_memory`` (MiB) or a metric of a valid part, such as
    ``iid/recall_at_20``.
    """
    max: float | None = Field(default=None)
    """Largest value that is still good."""
    min: float | None = Field(default=None)
    """Smallest value that is still good."""

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.max is None) == (self.min is None):
            found = "none" if self.max is None else f"max {self.max} and min {self.min}"
            raise ValueError(f"needs one of max and min (found {found})")
        return self

    @property
    def side(self) -> Literal["max", "min"]:
        """Which bound it is."""
        return "min" if self.max is None else "max"

    @property
    def bound(self) -> float:
        """Where the bound lies."""
        (bound,) = (value for value in (self.max, self.min) if value is not None)
        return bound

    @property
    def name(self) -> str:
        """``METRIC/max`` or ``METRIC/min``: the same wherever the bound lies."""
        return f"{self.metric}/{self.side}"

    def excess(self, value: float) -> float:
        """How far ``value`` lies beyond the bound, in its own unit; at most 0 where it keeps to it."""
        return self.bound - value if self.side == "min" else value - self.bound


def excess(constraints: Iterable[Constraint], measured: Mapping[str, float]) -> dict[str, float]:
    """How far a trial lies beyond each bound, by the constraint's name; at most 0 is feasible.

    Args:
        constraints: of the study.
        measured: the metrics of the valid parts and the trial's costs, by name.

    Returns:
        Without the constraints on what was not measured.
    """
    return {one.name: one.excess(measured[one.metric]) for one in constraints if one.metric in measured}


def violated(constraints: Iterable[Constraint], measured: Mapping[str, float]) -> tuple[str, ...]:
    """What of the constraints a trial breaks, a phrase each; the arguments are those of :func:`excess`."""
    return tuple(
        f"{one.metric} {_shown(measured[one.metric], one)} is {'below' if one.side == 'min' else 'above'} "
        f"{one.side} {_shown(one.bound, one)}"
        for one in constraints
        if one.metric in measured and one.excess(measured[one.metric]) > 0
    )


def _shown(value: float, constraint: Constraint) -> str:
    unit = COSTS.get(constraint.metric)
    return f"{value:.6g}" + ("" if unit is None else f" {unit}")
