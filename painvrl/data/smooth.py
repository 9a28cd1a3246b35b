"""A numeric column of the items as smooth features: bumps along its axis, each wide enough to meet the next.

A year in a title is a word like any other: nothing tells a text encoder that 1994 is near 1995. Here an item
has the heights of a row of Gaussian bumps at its value, so that items near each other have like features,
and a linear model of them is a smooth curve (a radial basis).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.errors import ConfigError, listing
from painvrl.core.settings import Settings
from painvrl.data.dataset import Modality

MAX_BUMPS = 1000


class Smooth(Settings):
    """How a numeric column becomes smooth features."""

    width: float = Field(gt=0)
    """Deviation of a bump, and the distance to the next one, in the column's unit."""


def numbers_of(labels: np.ndarray, *, key: str, column: str) -> np.ndarray:
    """``[M]`` float64 of labels; NaN where the label is empty.

    >>> numbers_of(np.array(["1994", ""], dtype=object), key="k", column="year").tolist()
    [1994.0, nan]

    Raises:
        ConfigError: labels that are no finite numbers, or all are empty.
    """
    distinct, place = np.unique(labels.astype(np.str_), return_inverse=True)
    values, wrong = np.full(len(distinct), math.nan), []
    for index, label in enumerate(distinct.tolist()):
        if not label:
            continue
        try:
            values[index] = float(label)
        except ValueError:
            wrong.append(label)
        else:  # Python reads 1_0 as 10, and digits of every script
            if not math.isfinite(values[index]) or "_" in label or not label.strip().isascii():
                wrong.append(label)
    if wrong:
        rule = f"the column {column} must hold numbers"
        raise ConfigError(rule, key=key, value=listing([repr(label) for label in wrong], 8))
    if not np.isfinite(values).any():
        raise ConfigError(f"the column {column} holds no number at all", key=key, value=column)
    return values[place]


def smooth_columns(
    columns: Mapping[str, np.ndarray], name: str, config: Smooth, train_items: Tensor
) -> Modality:
    """The column ``name`` as Gaussian bumps, ``exp(-((x - c) / width)^2 / 2)`` at centres ``width`` apart.

    An item without a value lacks the modality.

    Args:
        columns: of the items by name, ``[I]`` labels each.
        name: of the column.
        config: see :class:`Smooth`.
        train_items: ``[I]`` bool.

    Raises:
        ConfigError: see :func:`centres_of`.
    """
    numbers, centres = centres_of(columns, name, config, train_items)
    present = numbers.isfinite()
    # An item beyond the last bump keeps the direction of that one instead of fading to nothing.
    inside = numbers.nan_to_num(float(centres[0])).clamp(float(centres[0]), float(centres[-1]))
    heights = (-0.5 * ((inside[:, None] - centres) / config.width).square()).exp()
    return Modality(values=torch.where(present[:, None], heights, 0.0).float(), present=present)


def centres_of(
    columns: Mapping[str, np.ndarray], name: str, config: Smooth, train_items: Tensor
) -> tuple[Tensor, Tensor]:
    """``[I]`` float64 values of a column, NaN where one is missing, and ``[B]`` centres of its bumps.

    The centres span the values of the train items and no others, so that what is held out decides nothing.

    Raises:
        ConfigError: there is no such column, it is not numeric, or the width asks for too many bumps.
    """
    key = f"features.smooth.{name}"
    if name not in columns:
        known = f"they have {', '.join(sorted(columns))}" if columns else "they have none"
        raise ConfigError(f"the items have no such column; {known}", key=key, value=name)
    numbers = torch.from_numpy(numbers_of(columns[name], key=key, column=name))
    trained = numbers[numbers.isfinite() & train_items]
    if len(trained) == 0:
        raise ConfigError("no train item has a value", key=key, value=name)
    low, high = float(trained.min()), float(trained.max())
    steps = (high - low) / config.width
    if not steps <= MAX_BUMPS - 1:
        rule = f"must make at most {MAX_BUMPS} columns; widen it"
        raise ConfigError(rule, key=f"{key}.width", value=f"{config.width:g} makes {steps + 1:.4g}")
    count = math.ceil(steps) + 1
    # In the middle of the span, so that both ends are covered alike.
    first = (low + high - (count - 1) * config.width) / 2
    return numbers, first + config.width * torch.arange(count, dtype=torch.float64)
