"""How much of planted environments was found, on a scale from chance to the best that is possible."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def label_recovery(label: Tensor, truth: Tensor, found: int, planted: int, bayes_accuracy: float) -> float:
    """``(accuracy - chance) / (Bayes - chance)`` under the naming of environments that fits best.

    0 is what labels of the same sizes get that know nothing, 1 what the best possible classifier gets;
    ``nan`` where that one knows nothing. Environments have no names: each planted one may be matched with one
    that was found, and interactions of what is left over are wrong. So with fewer found than planted 1 is out
    of reach.

    Args:
        label: ``[N]`` int64, the environments that were found.
        truth: ``[N]`` int64, the planted ones; rows at -1, whose environment no one knows, do not count.
        found: how many could be found.
        planted: how many there are.
        bayes_accuracy: of the best possible classifier.
    """
    known = truth >= 0
    cells = label[known] * planted + truth[known]
    table = torch.bincount(cells, minlength=found * planted).view(found, planted).double()
    table = table / table.sum().clamp_min(1)
    accuracy = _matched(table)
    chance = _matched(table.sum(dim=1, keepdim=True) * table.sum(dim=0, keepdim=True))
    return (accuracy - chance) / (bayes_accuracy - chance) if bayes_accuracy > chance else math.nan


def _matched(table: Tensor) -> float:
    """The largest sum of cells ``[found, planted]`` of which no two share a row or a column."""
    from scipy.optimize import linear_sum_assignment  # a slow import that other data do without

    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    return float(table[rows, columns].sum())
