"""Item features: modalities scaled and concatenated into the matrix ``f`` that the mask gates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from painvrl.core.settings import Settings
from painvrl.data.dataset import Modality

_BLOCK_ROWS = 8192


class FeatureConfig(Settings):
    """How modalities become one matrix."""

    standardise: bool = False
    """Centre each column and divide it by its deviation over the train items that have the modality. This
    comes before rows are scaled to unit length.
    """


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
    for columns, modality in zip(matrix.split(widths, dim=1), modalities.values(), strict=True):
        mean, deviation = torch.tensor(0.0), torch.tensor(1.0)
        if config.standardise:
            fitted = modality.values[train_items & modality.present]
            deviation, mean = torch.std_mean(fitted, dim=0, correction=0)
            deviation = torch.where(deviation > 1e-6, deviation, 1.0)
        blocks = len(matrix) // _BLOCK_ROWS + 1
        for block, values, present in zip(
            columns.tensor_split(blocks),
            modality.values.tensor_split(blocks),
            modality.present.tensor_split(blocks),
            strict=True,
        ):
            scaled = (values - mean) / deviation if config.standardise else values
            block.copy_(torch.where(present[:, None], torch.nn.functional.normalize(scaled, dim=1), 0.0))
    return matrix
