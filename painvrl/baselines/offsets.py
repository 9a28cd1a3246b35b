"""The offsets that every fitted model is ranked with, so that none wins by an offset that another lacks.

A model that shows rare items too seldom is mended by a constant advantage of theirs, which costs no training.
So each scorer is ranked at every point of one small grid:

    s(u, i) + spread * (popularity * log(1 + d_i) + cold * [d_i = 0])

with the item's train interactions ``d_i``. ``spread`` is the scorer's own (:func:`spread_of`): the same point
means as much to scores of any unit.

Shape letters: ``B`` users of a block, ``C`` candidates, ``G`` points of the grid, ``I`` items.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from painvrl.core.errors import Diverged
from painvrl.evaluation.ranking import RankingPlan, Scorer, judged_users, mean_over_users
from painvrl.evaluation.user_values import UserValues, values_of

SPREAD_USERS = 1024
"""At most so many users tell a scorer's spread."""


@dataclass(frozen=True, kw_only=True)
class Offset:
    """What is added to the scores, in units of their spread.

    ``popularity``: the weight of ``log(1 + d_i)``; below 0 it shows rarer items. ``cold``: added to items
    without a train interaction.
    """

    popularity: float = 0.0
    cold: float = 0.0


# As few as cover, of each baseline's front under sixty offsets, at least 96% of the area, on cold items among
# all items and on a shift of popularity (`python -m benchmarks.offsets`). Both weights matter: what learns
# from features alone needs popular items shown more and cold ones kept level with them.
_GRID = (
    (0.0, 0.0),
    (-0.5, 0.0),
    (-0.2, 0.5),
    (-0.1, 0.5),
    (0.0, 2.0),
    (0.1, 1.0),
    (0.2, 1.0),
    (0.2, 2.0),
    (0.5, 2.0),
    (1.0, 2.0),
    (1.0, 4.0),
    (2.0, 8.0),
)
GRID = tuple(Offset(popularity=popularity, cold=cold) for popularity, cold in _GRID)


def measured_under_offsets(
    plan: RankingPlan,
    scorer: Scorer,
    degree: Tensor,
    of_users: Collection[str],
    grid: Sequence[Offset] = GRID,
) -> tuple[tuple[Mapping[str, float], UserValues], ...]:
    """All metrics under each offset of the grid, and some of them by user; one pass ranks them all.

    Offsets that add the same to every candidate's score (no item is cold, or the spread is 0) are ranked
    once and have the same values.

    Args:
        plan: of the valid parts.
        scorer: the fitted model; its scores of a block are asked for once for all offsets.
        degree: ``[I]``, interactions of each item in train.
        of_users: the metrics by user.
        grid: the offsets.

    Raises:
        Diverged: a score is not finite.
    """
    spread = spread_of(plan, scorer)
    degree = degree[plan.candidates].cpu()
    log_degree, is_cold = torch.log1p(degree), degree == 0
    added = torch.stack([spread * one.popularity * log_degree + spread * one.cold * is_cold for one in grid])
    rows, places = added.unique(dim=0, return_inverse=True)
    scorers = _Shifted(scorer, rows.to(plan.candidates.device))
    found = [
        (mean_over_users(plan, judged), values_of(plan, judged, of_users))
        for judged in judged_users(plan, scorers)
    ]
    return tuple(found[place] for place in places.tolist())


def spread_of(plan: RankingPlan, scorer: Scorer) -> float:
    """How far a user's scores lie apart: the root mean square over users of the deviation over candidates.

    Looks at no more than :data:`SPREAD_USERS` of the plan's users, at equal distances in their order.

    Raises:
        Diverged: it is not finite.
    """
    scores_of = scorer.among(plan.candidates)
    users = torch.cat([block.users for block in plan.blocks])
    users = users[:: -(-len(users) // SPREAD_USERS)]
    parts = users.split(len(plan.blocks[0].users))
    variances = torch.cat([scores_of(part).var(dim=1, correction=0) for part in parts])
    spread = float(variances.mean().sqrt())
    if not torch.isfinite(torch.tensor(spread)):
        raise Diverged("the scores are not finite")
    return spread


@dataclass(frozen=True)
class _Shifted:
    """A scorer under several offsets of the plan's candidates, ``[G, C]``."""

    scorer: Scorer
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets)

    def among(self, candidates: Tensor) -> Callable[[Tensor], Iterator[Tensor]]:
        """See :class:`painvrl.evaluation.ranking.Scorers`."""
        scores_of = self.scorer.among(candidates)

        def of_block(users: Tensor) -> Iterator[Tensor]:
            scores = scores_of(users)
            for offset in self.offsets:
                yield scores + offset

        return of_block
