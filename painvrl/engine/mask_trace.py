"""How a trial's mask was learned, thinned to what a study can keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

MAX_POINTS = 20
"""Points of a round at most: some 80 numbers a round in the studies' database and in MLflow."""

QUANTITIES = ("epsilon", "cosine", "risk", "penalty")


def thinned(traces: Iterable[Mapping[str, Sequence[float]]]) -> Iterator[Mapping[str, float]]:
    """The rounds' traces as points, each the mean of a stretch of steps.

    Means, not every n-th step: a step's gates are noisy, and so is what it measures. A stretch whose
    mean is not finite is left out.

    Args:
        traces: one a round.
    """
    for index, trace in enumerate(traces):
        n_steps = len(trace["epsilon"])
        n_points = min(MAX_POINTS, n_steps)
        edges = [place * n_steps // n_points for place in range(n_points + 1)]
        for first, end in pairwise(edges):
            means = {name: sum(trace[name][first:end]) / (end - first) for name in QUANTITIES}
            if all(map(math.isfinite, means.values())):
                yield {"round": float(index + 1), "step": float(end - 1), **means}
