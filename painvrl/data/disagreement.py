"""How little an item's modalities agree: what one of them says of the item, against what the others predict.

An item that was given the text of another one has genres that its text does not suggest. Each modality is
predicted from all others by ridge regression, and an item's disagreement is one minus the cosine between its
own vector and the predicted one, both centred. No item is predicted by a fit that has seen it: the items are
cut into two random halves, and each half is predicted by the other.

Shape letters: ``I`` items, ``F_a`` features of a modality.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from painvrl.data.dataset import Modality
from painvrl.data.features import unit_rows

RIDGE = 1.0


def disagreement(
    modalities: Mapping[str, Modality], train_items: Tensor, generator: torch.Generator
) -> Tensor:
    """``[I]`` float64 in [0, 2], the mean over an item's modalities; NaN where it has fewer than two.

    Args:
        modalities: by name, at least two.
        train_items: ``[I]`` bool, the only items that are fitted on.
        generator: a CPU generator; draws the halves.
    """
    half = torch.rand(len(train_items), generator=generator) < 0.5
    rows = {name: _centred(modality, train_items) for name, modality in modalities.items()}
    there = torch.stack([modality.present for modality in modalities.values()]).sum(dim=0)
    total, count = torch.zeros(len(train_items), dtype=torch.float64), torch.zeros(len(train_items))
    for name, modality in modalities.items():
        others = torch.cat([values for other, values in rows.items() if other != name], dim=1)
        asked = modality.present & (there > 1)
        predicted = torch.zeros_like(rows[name])
        for side in (True, False):
            fitted = asked & train_items & (half == side)
            known = others[fitted]
            gram = known.T @ known + RIDGE * torch.eye(known.shape[1], dtype=known.dtype)
            weights = torch.linalg.solve(gram, known.T @ rows[name][fitted])
            predicted = torch.where((half != side)[:, None], others @ weights, predicted)
        apart = 1 - (normalize(predicted, dim=1) * normalize(rows[name], dim=1)).sum(dim=1)
        total += torch.where(asked, apart, 0.0)
        count += asked
    return torch.where(count > 0, total / count, torch.nan)


def _centred(modality: Modality, train_items: Tensor) -> Tensor:
    """``[I, F_a]`` rows of unit length around the mean of the train items; zeros where there is none."""
    unit = unit_rows(modality.values.double())
    fitted = unit[train_items & modality.present]
    mean = fitted.mean(dim=0) if len(fitted) else torch.zeros(unit.shape[1], dtype=unit.dtype)
    return torch.where(modality.present[:, None], unit - mean, 0.0)
