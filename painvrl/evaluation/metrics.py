"""Ranking metrics, per user first: ``[U, K]`` values whose mean comes last.

Shape letters: ``U`` users with positives in the part, ``R`` ranks (the largest cut-off), ``K``
cut-offs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

METRICS = ("recall", "ndcg", "precision", "hit_rate", "ndcg_legacy")


def per_user_metrics(hits: Tensor, positives: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
    """Every metric of every cut-off from one ranking.

    Args:
        hits: ``[U, R]`` bool, whether the item at each rank is one of the user's positives.
        positives: ``[U]`` how many positives the user has in this part, at least 1.
        ks: cut-offs, each at most ``R``.

    Returns:
        ``{metric: [U, K]}``. ``ndcg`` divides by the gain of the best possible list, which holds
        ``min(positives, k)`` positives; ``ndcg_legacy`` divides by the best order of the *hits*,
        as InvRL's code does. It is inflated, and here only for comparison.
    """
    gains = hits.double()
    ranks = hits.shape[1]
    discount = 1.0 / torch.log2(torch.arange(2, ranks + 2, device=hits.device, dtype=torch.float64))
    ideal = torch.cat([discount.new_zeros(1), discount.cumsum(0)])  # [R + 1]: gain of n positives on top
    at = torch.tensor([k - 1 for k in ks], device=hits.device)
    cutoff = at + 1
    found = gains.cumsum(1)[:, at]
    gain = (gains * discount).cumsum(1)[:, at]
    count = positives.double()[:, None]
    best = ideal[torch.minimum(positives[:, None].long(), cutoff)]
    best_of_hits = ideal[found.long()]
    return {
        "recall": found / count,
        "ndcg": gain / best,
        "precision": found / cutoff,
        "hit_rate": (found > 0).double(),
        "ndcg_legacy": torch.where(found > 0, gain / best_of_hits.clamp_min(1e-12), 0.0),
    }


def name(part: str, metric: str, k: int) -> str:
    """The one spelling of a metric's name: ``ood/recall_at_20``."""
    return f"{part}/{metric}_at_{k}"
