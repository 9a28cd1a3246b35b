"""What a hyperparameter's values are drawn from, and when it is drawn at all."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Literal, Protocol, Self, TypeAlias

from pydantic import Field, model_validator

from painvrl.core.settings import Settings

Value: TypeAlias = bool | int | float | str | None


class Suggester(Protocol):
    """The part of an Optuna trial that a distribution talks to."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number."""

    def suggest_categorical(self, name: str, choices: tuple[Value, ...]) -> Value:
        """One of the choices."""


def same(one: Value, other: Value) -> bool:
    """Whether two values are one in a file: ``1`` is ``1.0``, but not ``true``."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class Conditional(Settings):
    """A distribution that may hang on other hyperparameters."""

    when: dict[str, Value | tuple[Value, ...]] = Field(default_factory=dict)
    """Values of other hyperparameters or keys, by path. Only where all of them hold is the hyperparameter
    searched; elsewhere it keeps the base configuration's value.
    """

    @model_validator(mode="after")
    def _has_values_to_wait_for(self) -> Self:
        for other, values in self.when.items():
            if values == ():
                raise ValueError(f"when.{other} must name a value")
        return self

    def conditions(self) -> Mapping[str, tuple[Value, ...]]:
        """The values that each of the others may have."""
        return {
            other: values if isinstance(values, tuple) else (values,) for other, values in self.when.items()
        }

    @abstractmethod
    def values(self) -> Sequence[Value]:
        """All values of a discrete distribution; none of a continuous one."""

    def count(self) -> float:
        """How many values there are; infinite for a continuous range."""
        return len(self.values())


def _check_range(low: float, high: float, step: float | None, *, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low must be below high; found low {low} and high {high}")
    if log and low <= 0:
        raise ValueError(f"a log range must start above 0; found low {low}")
    if log and step is not None:
        raise ValueError("a log range has no step")
    if step is not None and (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
        raise ValueError(f"high must be low plus a whole number of steps of {step}")


class IntRange(Conditional):
    """A whole number from ``low`` to ``high``, both included."""

    type: Literal["int"]
    """``int``: a whole number."""
    low: int
    """Smallest value."""
    high: int
    """Largest value; ``low`` plus a whole number of steps."""
    step: int = Field(default=1, ge=1)
    """Distance between two values."""
    log: bool = False
    """Whether it is uniform in its logarithm; then ``low`` is above 0 and ``step`` is 1."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, None if self.step == 1 else self.step, log=self.log)
        return self

    def suggest(self, trial: Suggester, name: str) -> int:
        """Ask the sampler for a value."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Value) -> bool:
        """Whether the sampler could suggest ``value``."""
        return isinstance(value, int) and not isinstance(value, bool) and value in self.values()

    def probes(self) -> Iterator[tuple[str, Value]]:
        """Values that a configuration must accept, each with the key that it comes from."""
        yield from (("low", self.low), ("high", self.high))

    def values(self) -> Sequence[int]:
        """From ``low`` up."""
        return range(self.low, self.high + 1, self.step)


class FloatRange(Conditional):
    """A number from ``low`` to ``high``, both included."""

    type: Literal["float"]
    """``float``: a number."""
    low: float
    """Smallest value."""
    high: float
    """Largest value; with ``step``, ``low`` plus a whole number of steps."""
    step: float | None = Field(default=None, gt=0)
    """Distance between two values; ``null``: any value."""
    log: bool = False
    """Whether it is uniform in its logarithm; then ``low`` is above 0 and there is no ``step``."""

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
        """As for :class:`IntRange`, and a value between, which a hyperparameter for whole numbers refuses."""
        yield from (("low", self.low), ("high", self.high))
        if self.step is not None:
            yield "step", self.low + self.step
        elif self.log:
            yield "type", math.exp(math.log(self.low) + 0.382 * math.log(self.high / self.low))
        else:
            yield "type", self.low + 0.382 * (self.high - self.low)

    def count(self) -> float:
        """Infinite without a ``step``."""
        return math.inf if self.step is None else len(self.values())

    def values(self) -> Sequence[float]:
        """From ``low`` up, in Optuna's own rounding."""
        if self.step is None:
            return ()
        return [self._at_step(n, self.step) for n in range(round((self.high - self.low) / self.step) + 1)]

    def rounded(self, value: float) -> float:
        """A value of the range as :meth:`values` has it: of ``0.3`` and ``0.1 + 0.2`` one number."""
        return value if self.step is None else self._at_step(round((value - self.low) / self.step), self.step)

    def _at_step(self, place: int, step: float) -> float:
        return min(place * step + self.low, self.high)


class _Listed(Conditional):
    """A distribution that lists its values."""

    def suggest(self, trial: Suggester, name: str) -> Value:
        """Ask the sampler for a value; of a single one no sampler is asked."""
        return trial.suggest_categorical(name, tuple(self.values()))

    def contains(self, value: Value) -> bool:
        """Whether the sampler could suggest ``value``."""
        return any(same(value, one) for one in self.values())


class Categorical(_Listed):
    """One of ``choices``, without an order."""

    type: Literal["categorical"]
    """``categorical``: one of several values."""
    choices: tuple[Value, ...] = Field(min_length=2)
    """The values, all different."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.choices)) != len(self.choices):
            raise ValueError("choices must differ from each other")
        return self

    def probes(self) -> Iterator[tuple[str, Value]]:
        """Every choice."""
        yield from (("choices", choice) for choice in self.choices)

    def values(self) -> Sequence[Value]:
        """The choices."""
        return self.choices


class Fixed(_Listed):
    """``value`` in every trial, whatever the base configuration says: no sampler has a say."""

    type: Literal["fixed"]
    """``fixed``: one value."""
    value: Value
    """The value in every trial."""

    def probes(self) -> Iterator[tuple[str, Value]]:
        """The value."""
        yield "value", self.value

    def values(self) -> Sequence[Value]:
        """The value."""
        return (self.value,)


Distribution = Annotated[IntRange | FloatRange | Categorical | Fixed, Field(discriminator="type")]


def value_at(hyperparameter: Distribution, share: float) -> Value:
    """The value below which ``share`` of a distribution lies, ``share`` in [0, 1]."""
    if isinstance(hyperparameter, FloatRange) and hyperparameter.step is None:
        if hyperparameter.log:
            low, high = math.log(hyperparameter.low), math.log(hyperparameter.high)
            return min(max(math.exp(low + share * (high - low)), hyperparameter.low), hyperparameter.high)
        return min(
            max(hyperparameter.low + share * (hyperparameter.high - hyperparameter.low), hyperparameter.low),
            hyperparameter.high,
        )
    if isinstance(hyperparameter, IntRange) and hyperparameter.log:
        low, high = math.log(hyperparameter.low - 0.5), math.log(hyperparameter.high + 0.5)
        return min(max(round(math.exp(low + share * (high - low))), hyperparameter.low), hyperparameter.high)
    values = hyperparameter.values()
    return values[min(int(share * len(values)), len(values) - 1)]


def share_of(hyperparameter: Distribution, value: Value) -> float:
    """The share at which :func:`value_at` has ``value``, in [0, 1]; that of the nearest end outside."""
    if not isinstance(hyperparameter, FloatRange | IntRange):
        values = hyperparameter.values()
        place = next((place for place, one in enumerate(values) if same(one, value)), 0)
        return (place + 0.5) / len(values)
    if not isinstance(value, int | float) or value <= hyperparameter.low:
        return 0.0
    if value >= hyperparameter.high:
        return 1.0
    if hyperparameter.log:
        return math.log(value / hyperparameter.low) / math.log(hyperparameter.high / hyperparameter.low)
    return (value - hyperparameter.low) / (hyperparameter.high - hyperparameter.low)
