"""A slow second implementation of the full ranking, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest

from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part

SlowMetrics = Callable[[Sequence[bool], int, int], dict[str, float]]
SlowRanking = Callable[..., dict[str, float]]


def _slow_metrics(hits: Sequence[bool], positives: int, k: int) -> dict[str, float]:
    """One user's metrics at one cut-off; ``hits`` by rank, shorter than ``k`` where the list ends early."""
    top = list(hits)[:k]
    found = sum(top)
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(top) if hit)

    def ideal(count: int) -> float:
        return sum(1 / math.log2(place + 2) for place in range(count))

    return {
        "recall": found / positives,
        "ndcg": gain / ideal(min(positives, k)),
        "precision": found / k,
        "hit_rate": float(found > 0),
        "ndcg_invrl": gain / ideal(found) if found else 0.0,
    }


def _slow_ranking(
    part: Part, hidden: Iterable[Interactions], users: np.ndarray, items: np.ndarray, ks: Sequence[int]
) -> dict[str, float]:
    """Mean metrics of ``part``: every user's candidates sorted one by one, hidden ones left out."""
    hide: dict[int, set[int]] = {}
    for interactions in hidden:
        for user, item in zip(interactions.user.tolist(), interactions.item.tolist(), strict=True):
            hide.setdefault(user, set()).add(item)
    wanted: dict[int, set[int]] = {}
    for user, item in zip(part.interactions.user.tolist(), part.interactions.item.tolist(), strict=True):
        wanted.setdefault(user, set()).add(item)
    candidates = [item for item, is_candidate in enumerate(part.candidates.tolist()) if is_candidate]
    values: dict[str, list[float]] = {}
    for user, positives in wanted.items():
        visible = [item for item in candidates if item not in hide.get(user, set())]
        visible.sort(key=lambda item: -math.fsum(users[user] * items[item]))
        hits = [item in positives for item in visible]
        for k in ks:
            for metric, value in _slow_metrics(hits, len(positives), k).items():
                values.setdefault(f"{part.name}/{metric}_at_{k}", []).append(value)
    return {name: sum(per_user) / len(per_user) for name, per_user in values.items()}


@pytest.fixture(scope="session")
def slow_metrics() -> SlowMetrics:
    return _slow_metrics


@pytest.fixture(scope="session")
def slow_ranking() -> SlowRanking:
    return _slow_ranking
