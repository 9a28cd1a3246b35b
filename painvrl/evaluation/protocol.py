"""What is measured: the cut-offs, and the metric that early stopping monitors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from painvrl.core.settings import Settings
from painvrl.evaluation.metrics import METRICS, STANDARD, AnyMetric, Metric


class EvaluationConfig(Settings):
    """What is measured, all of it from one ranking."""

    ks: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = (5, 10, 20, 50)
    """Cut-offs of the metrics: how many items a list holds."""
    block_cells: int = Field(default=2**22, ge=1)
    """Scores (users times candidates) held at once; 16 MiB of float32 suit a processor's cache and keep a GPU
    busy. A sweep holds up to five times as many.
    """
    # Both are left out of what is written while nothing is in them, as configurations of old have none.
    also: tuple[AnyMetric, ...] = Field(default=(), exclude_if=lambda also: not also)
    """Metrics beside the standard ones, each a name or, with settings, a mapping with its ``name``."""

    loeo: bool = Field(default=False, exclude_if=lambda loeo: not loeo)
    """Also measure ``loeo/...``: the final model is trained without each environment of
    ``environments.column`` and asked for it. It reads no OOD part. A study by it prunes nothing. Losses of
    ``backbone.risks`` need three environments for it.
    """

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that is measured."""
        return (*STANDARD, *self.also)

    @property
    def names(self) -> tuple[str, ...]:
        """What the metrics are called."""
        return tuple(metric.name for metric in self.metrics)

    def check_measured(self, metric: str) -> None:
        """Refuse the name of a metric that is not measured.

        Raises:
            ValueError: with the remedy, where there is such a metric.
        """
        if metric not in self.names:
            if metric not in METRICS:
                raise ValueError(f"must name a metric; known: {', '.join(METRICS.names())}")
            raise ValueError(f"is not measured; add {metric} to evaluation.also")

    @field_validator("also")
    @classmethod
    def _named_once(cls, also: tuple[Metric, ...]) -> tuple[Metric, ...]:
        names = [metric.name for metric in (*STANDARD, *also)]
        if len(set(names)) != len(names):
            raise ValueError(
                f"must not name a metric twice, nor a standard one (found {names[len(STANDARD) :]})"
            )
        return also

    @field_validator("ks")
    @classmethod
    def _sorted_and_distinct(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if not ks:
            raise ValueError("must name at least one cut-off")
        if len(set(ks)) != len(ks):
            raise ValueError("must not name a cut-off twice")
        return tuple(sorted(ks))
