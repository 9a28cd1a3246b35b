"""Item features: modalities scaled and concatenated into the matrix ``f`` that the mask gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.data.dataset import Columns, Modality
from painvrl.data.smooth import Smooth, smooth_columns

_BLOCK_ROWS = 8192


class FeatureConfig(Settings):
    """How modalities become one matrix."""

    standardise: bool | tuple[str, ...] = False
    """Centre each column and divide it by its deviation over the train items that have the modality. This
    comes before rows are scaled to unit length. A list names the modalities that this is done to.
    """
    scales: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Length of an item's row by modality, in the place of 1; at 0 the modality is not seen."""
    smooth: dict[str, Smooth] = Field(default_factory=dict)
    """Numeric columns of the items that become modalities, by the column's name: smooth ones, so that
    neighbours share what is learnt.
    """
    decoys: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
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
    """The modalities of the data, then those that ``config`` makes of the items' columns.

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
    return found


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
    widths = [modality.values.shape[1] for modality in modalities.values()]
    # Blocks of rows go straight to their place: the values of some data sets fill a fair part of the memory.
    matrix = torch.empty(len(train_items), sum(widths))
    for columns, (name, modality) in zip(matrix.split(widths, dim=1), modalities.items(), strict=True):
        standardised = config.standardises(name)
        mean, deviation = column_scaling(name, modality, train_items, config)
        scale = config.scales.get(name, 1.0)
        blocks = len(matrix) // _BLOCK_ROWS + 1
        for block, values, present in zip(
            columns.tensor_split(blocks),
            modality.values.tensor_split(blocks),
            modality.present.tensor_split(blocks),
            strict=True,
        ):
            scaled = (values - mean) / deviation if standardised else values
            unit = torch.nn.functional.normalize(scaled, dim=1)
            block.copy_(torch.where(present[:, None], unit if scale == 1 else scale * unit, 0.0))
    return matrix


def column_scaling(
    name: str, modality: Modality, train_items: Tensor, config: FeatureConfig
) -> tuple[Tensor, Tensor]:
    """Mean and deviation ``[F_a]`` that a modality's columns are scaled by; 0 and 1 where they are not."""
    if not config.standardises(name):
        width = modality.values.shape[1]
        return torch.zeros(width), torch.ones(width)
    fitted = modality.values[train_items & modality.present]
    fitted = fitted if len(fitted) else torch.zeros(1, fitted.shape[1])  # no train item has it
    deviation, mean = torch.std_mean(fitted, dim=0, correction=0)
    return mean, torch.where(deviation > 1e-6, deviation, 1.0)
