"""Item features: modalities scaled and concatenated into the matrix ``f`` that the mask gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.data.dataset import Modality
from painvrl.settings import Settings


class FeatureConfig(Settings):
    """How modalities become one matrix.

    ``standardise``: centre each column and divide it by its deviation over the train items that
    have the modality, before the rows are scaled to unit length.
    """

    standardise: bool = False


@dataclass(frozen=True, kw_only=True)
class Features:
    """The concatenated feature matrix.

    Attributes:
        matrix: ``[I, F]`` float32.
        slices: where each modality's columns lie, in order.
    """

    matrix: Tensor
    slices: Mapping[str, slice]

    def to(self, device: torch.device) -> Features:
        """The same features on ``device``."""
        return Features(matrix=self.matrix.to(device), slices=self.slices)


def build_features(
    modalities: Mapping[str, Modality], train_items: Tensor, config: FeatureConfig
) -> Features:
    """Scale every modality's rows to unit length and concatenate (method, "Symbols").

    Args:
        modalities: by name; at least one.
        train_items: ``[I]`` bool, items with a training interaction; the only ones that column
            statistics are fitted on.
        config: see :class:`FeatureConfig`.

    Returns:
        The features; a row is zeros in each modality that the item lacks.
    """
    blocks: list[Tensor] = []
    slices: dict[str, slice] = {}
    start = 0
    for name, modality in modalities.items():
        values = modality.values
        if config.standardise:
            fitted = values[train_items & modality.present]
            deviation, mean = torch.std_mean(fitted, dim=0, correction=0)
            values = (values - mean) / torch.where(deviation > 1e-6, deviation, 1.0)
        values = torch.nn.functional.normalize(values, dim=1)
        values = torch.where(modality.present[:, None], values, 0.0)
        blocks.append(values)
        slices[name] = slice(start, start + values.shape[1])
        start += values.shape[1]
    return Features(matrix=torch.cat(blocks, dim=1).contiguous(), slices=slices)
