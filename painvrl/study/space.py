"""The search space: which knobs of a configuration a study turns, and how far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Literal, Protocol, Self, TypeAlias

from pydantic import ConfigDict, Field, RootModel, model_validator

from painvrl.config import TrainConfig
from painvrl.settings import Settings

Value: TypeAlias = bool | int | float | str | None
Point: TypeAlias = Mapping[str, Value]
"""Values of knobs by their path, such as ``mask.sparsity``."""

FIXED_SECTIONS = ("data", "split", "evaluation", "seed")
"""What all trials of a study share: values measured on different parts do not compare."""


class Suggester(Protocol):
    """The part of an Optuna trial that a distribution talks to."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number."""
        ...

    def suggest_categorical(self, name: str, choices: tuple[Value, ...]) -> Value:
        """One of the choices."""
        ...


def _check_range(low: float, high: float, step: float | None, *, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low must be below high; found low {low} and high {high}")
    if log and low <= 0:
        raise ValueError(f"a log range must start above 0; found low {low}")
    if log and step is not None:
        raise ValueError("a log range has no step")
    if step is not None and (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
        raise ValueError(f"high must be low plus a whole number of steps of {step}")


class IntRange(Settings):
    """A whole number from ``low`` to ``high``, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(default=1, ge=1)
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, None if self.step == 1 else self.step, log=self.log)
        return self

    def suggest(self, trial: Suggester, name: str) -> int:
        """Ask the sampler for a value."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Whether the sampler could suggest ``value``."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value - self.low) % self.step == 0
        )

    def probes(self) -> Iterator[tuple[str, Value]]:
        """Values that a configuration must accept, each with the key that it comes from."""
        yield from (("low", self.low), ("high", self.high))


class FloatRange(Settings):
    """A number from ``low`` to ``high``, both included; uniform in its logarithm with ``log``."""

    type: Literal["float"]
    low: float
    high: float
    step: float | None = Field(default=None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, self.step, log=self.log)
        return self

    def suggest(self, trial: Suggester, name: str) -> float:
        """Ask the sampler for a value."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Whether the sampler could suggest ``value``."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        # Optuna suggests low + n * step in binary, so that 0.1 + 0.2 must count as 0.3.
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        if abs(steps - round(steps)) > 1e-8:
            return False
        return self.low <= value <= self.high

    def probes(self) -> Iterator[tuple[str, Value]]:
        """As for :class:`IntRange`, and a value between, which a knob for whole numbers refuses."""
        yield from (("low", self.low), ("high", self.high))
        if self.step is not None:
            yield "step", self.low + self.step
        elif self.log:
            yield "type", math.exp(math.log(self.low) + 0.382 * math.log(self.high / self.low))
        else:
            yield "type", self.low + 0.382 * (self.high - self.low)


class Categorical(Settings):
    """One of ``choices``, without an order."""

    type: Literal["categorical"]
    choices: tuple[Value, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.choices)) != len(self.choices):
            raise ValueError("choices must differ from each other")
        return self

    def suggest(self, trial: Suggester, name: str) -> Value:
        """Ask the sampler for a value."""
        return trial.suggest_categorical(name, self.choices)

    def contains(self, value: Value) -> bool:
        """Whether the sampler could suggest ``value``."""
        return value in self.choices

    def probes(self) -> Iterator[tuple[str, Value]]:
        """Every choice."""
        yield from (("choices", choice) for choice in self.choices)


Distribution = Annotated[IntRange | FloatRange | Categorical, Field(discriminator="type")]


class Space(RootModel[dict[str, Distribution]]):
    """Distributions by the path of the knob that they turn."""

    model_config = ConfigDict(frozen=True)
    root: dict[str, Distribution] = Field(min_length=1)

    def suggest(self, trial: Suggester) -> dict[str, Value]:
        """A point, as the sampler behind ``trial`` wants it."""
        return {path: distribution.suggest(trial, path) for path, distribution in self.root.items()}

    def point_of(self, config: TrainConfig) -> dict[str, Value]:
        """The values that ``config`` gives the knobs, without those that lie outside the space."""
        values = knobs(config)
        return {
            path: values[path]
            for path, distribution in self.root.items()
            if path in values and distribution.contains(values[path])
        }


def apply(base: TrainConfig, point: Point) -> TrainConfig:
    """``base`` with the knobs of ``point`` turned.

    Raises:
        pydantic.ValidationError: a value breaks a rule of the configuration.
    """
    tree = base.model_dump(mode="json")
    for path, value in point.items():
        *sections, leaf = path.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[leaf] = value
    return TrainConfig.model_validate(tree)


def knobs(config: TrainConfig) -> dict[str, Value]:
    """Every knob of a configuration that a study may turn, by path, with its value.

    Knobs are scalars; which ones there are depends on the variants that ``config`` chose.
    """
    tree = config.model_dump(mode="json")
    return dict(_leaves({key: tree[key] for key in tree if key not in FIXED_SECTIONS}))


def _leaves(tree: Mapping[str, object], above: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        elif value is None or isinstance(value, bool | int | float | str):
            yield f"{above}{key}", value
