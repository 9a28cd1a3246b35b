"""Trials' points as the matrix of a linear regression, and the changes of hyperparameters that it can tell
apart.

Shape letters: ``T`` trials, ``P`` columns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from painvrl.run.distributions import Categorical, Distribution, Fixed, Value
from painvrl.run.hyperparameters import Point

Array = NDArray[np.float64]

CONSTANT = "has one value in all of these trials"


class Change(NamedTuple):
    """One hyperparameter turned from a low value to a high one, all others kept.

    Attributes:
        name: the hyperparameter; of a categorical one, which may have several changes, with both values.
        low, high: of a number the quartiles over the trials that have the hyperparameter (the ends where the
            quartiles are equal); of a categorical hyperparameter its most frequent choice and another one.
        column: whose coefficient, ``length`` times, is the effect of the change.
    """

    hyperparameter: str
    name: str
    low: Value
    high: Value
    column: int
    length: float


@dataclass(frozen=True, kw_only=True)
class Design:
    """A regression's matrix.

    Attributes:
        matrix: ``[T, P]``: ones, numbers standardised on their hyperparameter's own scale (log
            hyperparameters in their logarithm), choices as indicators. A conditional hyperparameter is 0, its
            mean or its most frequent choice, in a trial that does not have it. An indicator of that stands
            beside it where the columns do not say it already. They do if a choice of another hyperparameter
            decides whether it exists: that choice's effect is then the one at the conditional
                hyperparameter's mean or most frequent choice.
        changes: what is asked of the regression.
        left_out: hyperparameters without a change, and why.
    """

    matrix: Array
    changes: tuple[Change, ...]
    left_out: Mapping[str, str]

    @property
    def along(self) -> Array:
        """``[K, P]``; its product with the coefficients is the effects of the changes."""
        found = np.zeros((len(self.changes), self.matrix.shape[1]))
        for place, change in enumerate(self.changes):
            found[place, change.column] = change.length
        return found


def design(points: Sequence[Point], space: Mapping[str, Distribution]) -> Design:
    """The regression of trials at ``points`` on the hyperparameters of ``space``."""
    columns: list[Array] = [np.ones(len(points))]
    absences: list[Array] = []
    asked: list[Change] = []
    left_out: dict[str, str] = {}
    for hyperparameter, distribution in space.items():
        there = np.array([hyperparameter in point for point in points], dtype=bool)
        values = [point[hyperparameter] for point in points if hyperparameter in point]
        if len(set(values)) < 2:
            left_out[hyperparameter] = CONSTANT if values else "is in none of these trials"
            continue
        if isinstance(distribution, Categorical | Fixed):
            usual, *others = [value for value, _ in Counter(values).most_common()]  # of equal ones the first
            for choice in others:
                name = f"{hyperparameter}: {usual} → {choice}"
                asked.append(Change(hyperparameter, name, usual, choice, len(columns), 1.0))
                chosen = [hyperparameter in point and point[hyperparameter] == choice for point in points]
                columns.append(np.array(chosen, dtype=float))
        else:
            numbers = np.array([_scaled(value, log=distribution.log) for value in values])
            low, high = (_nearest(numbers, share) for share in (0.25, 0.75))
            if numbers[low] == numbers[high]:
                low, high = int(numbers.argmin()), int(numbers.argmax())
            spread = float(numbers.std())
            length = float(numbers[high] - numbers[low]) / spread
            asked.append(
                Change(hyperparameter, hyperparameter, values[low], values[high], len(columns), length)
            )
            column = np.zeros(len(points))
            column[there] = (numbers - numbers.mean()) / spread
            columns.append(column)
        if not there.all():
            absences.append((~there).astype(float))
    matrix = _widened(np.column_stack(columns), absences)
    return Design(matrix=matrix, changes=tuple(asked), left_out=left_out)


def _widened(matrix: Array, columns: Sequence[Array]) -> Array:
    """``matrix`` with those of ``columns`` that do not follow from what it holds already."""
    rank = np.linalg.matrix_rank(matrix)
    for column in columns:
        wider = np.column_stack([matrix, column])
        if np.linalg.matrix_rank(wider) > rank:
            matrix, rank = wider, rank + 1
    return matrix


def _scaled(value: Value, *, log: bool) -> float:
    if isinstance(value, str) or value is None:
        raise TypeError(f"{value!r} is no number")
    return math.log(value) if log else float(value)


def _nearest(numbers: Array, share: float) -> int:
    """Where the quantile lies: a value that a trial had, so that it reads as one."""
    order = np.argsort(numbers, kind="stable")
    return int(order[round(share * (len(numbers) - 1))])
