"""Item features: modalities scaled and concatenated into the matrix ``f`` that the mask gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from painvrl.core.device import to_device
from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.data.dataset import Columns, Modality
from painvrl.data.smooth import Smooth, smooth_columns

_BLOCK_ROWS = 8192
SMALL = 1e-9
"""Rows without a number of that size are enlarged before their length is taken."""
_LARGE_BYTES = 4 << 30
"""Columns of larger modalities are standardised by sums over blocks, without a copy of the train items."""


def _one_or_more(value: object) -> object:
    """A name alone stands for a list of it."""
    return (value,) if isinstance(value, str) else value


class FeatureConfig(Settings):
    """How modalities become one matrix."""

    standardise: Annotated[
        bool | tuple[str, ...],
        BeforeValidator(_one_or_more, json_schema_input_type=bool | str | tuple[str, ...]),
    ] = False
    """Centre each column and divide it by its deviation over the train items that have the modality. This
    comes before rows are scaled to unit length. A name or a list names the modalities that it is done to.
    """
    scales: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Length of an item's row by modality, in the place of 1. At 0 the modality is left out: it has no
    columns and no gate.
    """
    smooth: dict[str, Smooth] = Field(default_factory=dict)
    """Numeric columns of the items that become modalities, by the column's name: smooth ones, so that
    neighbours share what is learnt.
    """
    decoys: dict[str, Annotated[int, Field(ge=1, le=10_000)]] = Field(default_factory=dict)
    """Modalities of random numbers, by name, with their widths: controls that no method should rely on."""

    def standardises(self, name: str) -> bool:
        """Whether the columns of the modality called ``name`` are centred and divided."""
        return name in self.standardise if isinstance(self.standardise, tuple) else self.standardise


def modalities_of(
    modalities: Mapping[str, Modality],
    columns: Columns,
    train_items: Tensor,
    config: FeatureConfig,
    seed: int = 0,
) -> dict[str, Modality]:
    """The modalities of the data, then those that ``config`` makes of the items' columns; none of scale 0.

    Args:
        modalities: of the data, by name.
        columns: of the items, among others.
        train_items: ``[I]`` bool; smooth columns span their values.
        config: see :class:`FeatureConfig`.
        seed: of the decoys.

    Raises:
        ConfigError: a name of the configuration is not one of the data, or a column is not numeric.
    """
    found = dict(modalities)
    for name in (*config.smooth, *config.decoys):
        if name in modalities or (name in config.smooth and name in config.decoys):
            kind = "smooth" if name in config.smooth else "decoys"
            rule = "needs a name that no other modality has"
            raise ConfigError(rule, key=f"features.{kind}.{name}", value=name)
    for name, smooth in config.smooth.items():
        found[name] = smooth_columns(columns.item, name, smooth, train_items)
    for name, width in config.decoys.items():
        values = torch.randn(len(train_items), width, generator=generator(seed, "decoy", name))
        found[name] = Modality(values=values, present=torch.ones_like(train_items))
    named = config.standardise if isinstance(config.standardise, tuple) else ()
    for key, names in (("features.scales", config.scales), ("features.standardise", named)):
        for name in names:
            if name not in found:
                rule = f"the data have no such modality; they have {', '.join(found)}"
                raise ConfigError(rule, key=key, value=name)
    seen = {name: modality for name, modality in found.items() if config.scales.get(name) != 0}
    if found and not seen:
        raise ConfigError(f"is 0 for every modality: {', '.join(found)}", key="features.scales")
    return seen


def build_features(modalities: Mapping[str, Modality], train_items: Tensor, config: FeatureConfig) -> Tensor:
    """Scale every modality's rows to unit length and concatenate (method, "Symbols").

    Args:
        modalities: by name; at least one.
        train_items: ``[I]`` bool, items with a training interaction; the only ones that column
            statistics are fitted on.
        config: see :class:`FeatureConfig`.

    Returns:
        ``[I, F]`` float32; a row is zeros in each modality that the item lacks.
    """
    made = FeatureRows.of(modalities, train_items, config)
    # Blocks of rows go straight to their place: the values of some data sets fill a fair part of the memory.
    matrix = torch.empty(made.n_items, made.width)
    for block in torch.arange(made.n_items).split(_BLOCK_ROWS):
        rows = slice(int(block[0]), int(block[-1]) + 1)
        made.write(rows, matrix[rows])
    return matrix


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A modality with what its rows are scaled by.

    Attributes:
        modality: its values may be mapped from a file.
        moments: mean and deviation ``[F_a]`` of its columns where they are standardised.
        scale: length of a row.
    """

    modality: Modality
    moments: tuple[Tensor, Tensor] | None
    scale: float


@dataclass(frozen=True, kw_only=True)
class FeatureRows:
    """The rows of :func:`build_features`, each made when it is asked for; no matrix of all is held.

    Attributes:
        parts: the modalities in their order.
        n_items: ``I``.
    """

    parts: tuple[Scaled, ...]
    n_items: int

    @classmethod
    def of(
        cls, modalities: Mapping[str, Modality], train_items: Tensor, config: FeatureConfig
    ) -> FeatureRows:
        """See :func:`build_features`."""
        parts = [
            Scaled(
                modality=modality,
                moments=column_scaling(name, modality, train_items, config)
                if config.standardises(name)
                else None,
                scale=config.scales.get(name, 1.0),
            )
            for name, modality in modalities.items()
        ]
        return cls(parts=tuple(parts), n_items=len(train_items))

    @property
    def width(self) -> int:
        """``F``."""
        return sum(part.modality.values.shape[1] for part in self.parts)

    def rows(self, items: slice | Tensor, device: torch.device) -> Tensor:
        """``[n, F]`` of some items (indices on the CPU), made on ``device``."""
        blocks = [_scaled(part, items, device) for part in self.parts]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)

    def write(self, items: slice, target: Tensor) -> None:
        """:meth:`rows` into ``target`` ``[n, F]``, without holding them twice."""
        widths = [part.modality.values.shape[1] for part in self.parts]
        for columns, part in zip(target.split(widths, dim=1), self.parts, strict=True):
            columns.copy_(_scaled(part, items, target.device))


def _scaled(part: Scaled, items: slice | Tensor, device: torch.device) -> Tensor:
    values, present = (
        to_device(each[items], device) for each in (part.modality.values, part.modality.present)
    )
    if part.moments is not None:
        mean, deviation = (to_device(moment, device) for moment in part.moments)
        values = (values - mean) / deviation
    unit = unit_rows(values)
    if part.scale != 1:
        unit *= part.scale
    return unit.masked_fill_(~present[:, None], 0.0)


def unit_rows(values: Tensor) -> Tensor:
    """``values`` with rows of unit length; rows of zeros stay."""
    # Squares of small numbers are none, and `normalize` divides by 1e-12 or more: they are enlarged before.
    peak = torch.linalg.vector_norm(values, ord=torch.inf, dim=1, keepdim=True)
    enlarged = values / torch.where((peak > 0) & (peak < SMALL), peak, 1.0)
    return enlarged.div_(torch.linalg.vector_norm(enlarged, dim=1, keepdim=True).clamp_min_(1e-12))


def column_scaling(
    name: str, modality: Modality, train_items: Tensor, config: FeatureConfig
) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[F_a]`` that a modality's columns are scaled by; 0 and 1 where they are not."""
    if not config.standardises(name):
        width = modality.values.shape[1]
        return torch.zeros(width), torch.ones(width)
    rows = train_items & modality.present
    if modality.values.nbytes > _LARGE_BYTES:
        return _scaling_of_blocks(modality.values, rows)
    fitted = modality.values[rows]
    fitted = fitted if len(fitted) else torch.zeros(1, fitted.shape[1])  # no train item has it
    deviation, mean = torch.std_mean(fitted, dim=0, correction=0)
    return mean, torch.where(deviation > 1e-6, deviation, 1.0)


def _scaling_of_blocks(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of the ``rows`` (``[I]`` bool), in two passes of float64 sums: the mean, then the squares around it."""
    count = max(1, int(rows.sum()))

    def mean_of(change: Callable[[Tensor], Tensor]) -> Tensor:
        total = torch.zeros(values.shape[1], dtype=torch.float64)
        for block, kept in zip(values.split(_BLOCK_ROWS), rows.split(_BLOCK_ROWS), strict=True):
            total += change(block[kept].double()).sum(dim=0)
        return total / count

    mean = mean_of(lambda block: block)
    deviation = mean_of(lambda block: (block - mean).square()).sqrt().float()
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0)
