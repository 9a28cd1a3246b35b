"""Who is on the front, and who has to be run once more to find out.

The rule. The probability of a candidate to be on the front is the share of the drawn sets of means in which
no other candidate dominates it. At ``sure`` or above it is decided in, at ``1 - sure`` or below decided out.
Decisions are taken again from all runs after every step, so that what is shown always agrees with itself.

Shape letters: ``D`` draws, ``C`` candidates, ``M`` objectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from painvrl.stats.dominance import dominated_by


class Decision(StrEnum):
    """``FAILED``: a run of it failed, so nothing is said of it."""

    IN = "in"
    OUT = "out"
    UNDECIDED = "undecided"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How things stand.

    Attributes:
        probability: ``[C]`` of being on the front.
        decisions: of the candidates, in order.
        needed: ``[C]`` bool: the undecided ones, and those whose further runs would decide them.
    """

    probability: NDArray[np.float64]
    decisions: tuple[Decision, ...]
    needed: NDArray[np.bool_]


def judge(draws: NDArray[np.float64], sure: float) -> Verdict:
    """Apply the rule.

    What decides an undecided candidate is its difference to those that may dominate it: a further run of it
    alone says nothing, since the seed's own effect is unknown. So its rivals run with it: in turn the one
    that dominates it in most of the draws that no chosen rival explains yet, until at most
    ``(1 - sure) / 2`` of all draws are left.

    Args:
        draws: ``[D, C, M]`` means, larger is better.
        sure: above 0.5, below 1.
    """
    dominated = dominated_by(draws)
    on_front = ~dominated.any(axis=2)
    probability = on_front.mean(axis=0)
    decisions = tuple(_decision(float(share), sure) for share in probability)
    needed = np.zeros(draws.shape[1], dtype=bool)
    for place, decision in enumerate(decisions):
        if decision is Decision.UNDECIDED:
            needed[place] = True
            # What dominates a dominator dominates too, so those on the draw's front explain every draw.
            needed[_rivals(dominated[:, place] & on_front, (1 - sure) / 2)] = True
    return Verdict(probability=probability, decisions=decisions, needed=needed)


def next_step(runs: NDArray[np.int64], needed: NDArray[np.bool_], at_most: int) -> NDArray[np.int64]:
    """Under how many seeds each candidate is to have run next.

    The needed ones are brought to the same number of seeds, and if they have it already, to one more: runs
    of candidates that are compared pair up.

    Args:
        runs: ``[C]`` seeds of each so far: always the first ones.
        needed: ``[C]`` bool.
        at_most: seeds of any candidate.
    """
    if not needed.any():
        return runs
    mine = runs[needed]
    level = int(mine.max()) if mine.min() < mine.max() else min(int(mine.max()) + 1, at_most)
    return np.where(needed, np.maximum(runs, level), runs)


def plausible(
    front: NDArray[np.float64], others: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``[T]``: how far each of the other trials is from the front, in spreads of a difference.

    A trial comes onto the front if it catches up with every trial that dominates it in one objective at
    least; so the distance is the least gap over objectives, and of those the largest over the front.

    Args:
        front: ``[C, M]`` values of the front's trials.
        others: ``[T, M]`` values of dominated ones.
        spread: ``[M]`` standard deviation of a difference, from seed to seed.
    """
    gaps = np.maximum(front[None] - others[:, None], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(gaps > 0, gaps / spread, 0.0)
    largest: NDArray[np.float64] = distance.min(axis=2).max(axis=1)
    return largest


def _decision(probability: float, sure: float) -> Decision:
    if probability >= sure:
        return Decision.IN
    # 1 - 0.9 is a little less than 0.1, so this side is compared as the other one is.
    return Decision.OUT if 1 - probability >= sure else Decision.UNDECIDED


def _rivals(dominators: NDArray[np.bool_], left: float) -> list[int]:
    """A greedy choice of columns of ``dominators`` ``[D, C]`` that leaves few rows unexplained."""
    unexplained = dominators.any(axis=1)
    chosen: list[int] = []
    while unexplained.mean() > left:
        best = int(dominators[unexplained].sum(axis=0).argmax())
        chosen.append(best)
        unexplained &= ~dominators[:, best]
    return chosen
