"""Full ranking: score every candidate for every user, hide what was seen, take the best ``k``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.data.splits import Part
from painvrl.evaluation import metrics
from painvrl.evaluation.protocol import EvaluationConfig


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A few users, with what the device needs to rank and judge them (columns index candidates)."""

    users: Tensor  # [B]
    hidden: tuple[Tensor, Tensor]  # rows and columns never to be recommended
    positive: tuple[Tensor, Tensor]  # rows and columns that count as hits
    positives: Tensor  # [B]


@dataclass(frozen=True, kw_only=True)
class RankingPlan:
    """Everything about scoring a part that does not depend on the model; made once a split.

    Memory is bounded by ``B * C`` scores: ``B`` users of a block, ``C`` candidates.
    """

    part: str
    candidates: Tensor  # [C] item indices
    blocks: tuple[_Block, ...]
    ks: tuple[int, ...]

    @property
    def n_users(self) -> int:
        """Users with at least one positive; only these count."""
        return sum(len(block.users) for block in self.blocks)


def plan_ranking(
    part: Part, hidden: Iterable[Interactions], config: EvaluationConfig, device: torch.device
) -> RankingPlan:
    """Prepare the ranking of ``part``.

    Args:
        part: its interactions are the positives, its candidates are ranked.
        hidden: interactions whose items are never recommended to their user: the training part,
            and the other parts of the same stage, so that IID and OOD positives do not compete
            for the same places (method, "Evaluation").
        config: cut-offs and block size.
        device: where the ranking will run.
    """
    n_items = part.interactions.n_items
    column = torch.full((n_items,), -1)
    candidates = part.candidates.cpu().nonzero(as_tuple=True)[0]
    column[candidates] = torch.arange(len(candidates))
    positives = _pairs([part.interactions], column)
    concealed = _pairs(hidden, column)
    counts = torch.bincount(part.interactions.user.cpu(), minlength=part.interactions.n_users)
    users = counts.nonzero(as_tuple=True)[0]
    blocks = []
    for chunk in users.split(config.user_block):
        row = torch.full((part.interactions.n_users,), -1)
        row[chunk] = torch.arange(len(chunk))
        blocks.append(
            _Block(
                users=chunk.to(device),
                hidden=_rows(concealed, row, device),
                positive=_rows(positives, row, device),
                positives=counts[chunk].to(device),
            )
        )
    return RankingPlan(part=part.name, candidates=candidates.to(device), blocks=tuple(blocks), ks=config.ks)


def _pairs(parts: Iterable[Interactions], column: Tensor) -> tuple[Tensor, Tensor]:
    """Users and candidate columns of all interactions whose item is a candidate."""
    parts = list(parts)
    if not parts:
        return torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    user = torch.cat([part.user.cpu() for part in parts])
    place = column[torch.cat([part.item.cpu() for part in parts])]
    return user[place >= 0], place[place >= 0]


def _rows(pairs: tuple[Tensor, Tensor], row: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs of the block's users, with users renumbered as rows of the block."""
    user, place = pairs
    inside = row[user] >= 0
    return row[user[inside]].to(device), place[inside].to(device)


def top_hits(plan: RankingPlan, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each of the top ranks is a positive ``[U, R]``, and the positives ``[U]``.

    Scores are ``user_vectors @ item_vectors.T`` (``[U, D]``, ``[I, D]``). A hidden item never
    counts, even where a user has fewer candidates left than ranks.
    """
    depth = max(plan.ks)
    items = item_vectors[plan.candidates]
    width = min(depth, items.shape[0])
    hits = []
    for block in plan.blocks:
        scores = user_vectors[block.users] @ items.T
        scores[block.hidden] = -torch.inf
        best = scores.topk(width, dim=1)
        positive = torch.zeros_like(scores, dtype=torch.bool)
        positive[block.positive] = True
        hit = positive.gather(1, best.indices) & (best.values > -torch.inf)
        hits.append(torch.nn.functional.pad(hit, (0, depth - width)))
    if not hits:
        return torch.zeros(0, depth, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    return torch.cat(hits), torch.cat([block.positives for block in plan.blocks])


def evaluate(plan: RankingPlan, user_vectors: Tensor, item_vectors: Tensor) -> dict[str, float]:
    """The mean over users of every metric at every cut-off, as ``{"ood/recall_at_20": ...}``.

    Only hits leave the device; the metrics' float64 sums are made on the CPU.
    """
    hits, positives = (found.cpu() for found in top_hits(plan, user_vectors, item_vectors))
    return {
        metrics.name(plan.part, metric, k): float(value)
        for metric, values in metrics.per_user_metrics(hits, positives, plan.ks).items()
        for k, value in zip(plan.ks, values.mean(dim=0).tolist(), strict=True)
    }
