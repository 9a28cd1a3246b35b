"""How much of planted environments was found, on a scale from chance to the best that is possible."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def recovered(label: Tensor, truth: Tensor, found: int, planted: int, bayes_accuracy: float) -> float:
    """``(accuracy - chance) / (Bayes - chance)`` under the naming of environments that fits best.

    0 is what random labels get, 1 what the best possible classifier gets; ``nan`` where the two are one.
    Environments have no names: each planted one may be matched with one that was found, and interactions
    of what is left over are wrong.

    Args:
        label: ``[N]`` int64, the environments that were found.
        truth: ``[N]`` int64, the planted ones; rows at -1, whose environment nobody knows, do not count.
        found: how many could be found.
        planted: how many there are.
        bayes_accuracy: of the best possible classifier.
    """
    known = truth >= 0
    cells = label[known] * planted + truth[known]
    table = torch.bincount(cells, minlength=found * planted).view(found, planted)
    accuracy = _matched(table.tolist()) / max(1, int(known.sum()))
    chance = 1 / max(found, planted)
    return (accuracy - chance) / (bayes_accuracy - chance) if bayes_accuracy > chance else math.nan


def _matched(table: list[list[int]]) -> int:
    """The largest sum of cells ``[found, planted]`` of which no two share a row or a column."""
    best = {0: 0}  # by the set of columns that are taken, after the rows so far
    for row in table:
        grown = dict(best)
        for taken, total in best.items():
            for column, count in enumerate(row):
                if not taken >> column & 1:
                    more = taken | 1 << column
                    grown[more] = max(grown.get(more, 0), total + count)
        best = grown
    return max(best.values())
