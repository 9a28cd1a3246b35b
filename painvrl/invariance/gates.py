"""Stochastic gates: ``z = clip(mu + sigma eps + 1/2, 0, 1)``, and the density that ``mu`` expects.

Shape letter: ``F`` features.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BISECTIONS = 40
_LEAST_OPEN = 0.01


def sample_gates(mu: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """``[F]`` gates in [0, 1] for ``noise`` ``[F]`` drawn from N(0, 1)."""
    return (mu + sigma * noise + 0.5).clamp(0.0, 1.0)


def expected_density(mu: Tensor, sigma: float) -> Tensor:
    """The expected share of gates that are not closed: ``mean Phi((mu + 1/2) / sigma)``."""
    open_gates: Tensor = torch.special.ndtr((mu + 0.5) / sigma)
    return open_gates.mean()


def with_density(mu: Tensor, sigma: float, density: float) -> Tensor:
    """``mu`` minus the one scalar that makes the expected density ``density``.

    A fixed number of bisections keeps it on the device. A penalty on the density would be
    ill-posed: its gradient vanishes at ``mu = 0``.
    """
    low = mu.min() + 0.5 - 8 * sigma
    high = mu.max() + 0.5 + 8 * sigma
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_dense = expected_density(mu - middle, sigma) > density
        low = torch.where(too_dense, middle, low)
        high = torch.where(too_dense, high, middle)
    return mu - (low + high) / 2


def closed_gates(n_features: int, sparsity: float) -> int:
    """How many gates a ``sparsity`` closes: ``round(sparsity F)``."""
    return round(sparsity * n_features)


def final_mask(mu: Tensor, sparsity: float) -> Tensor:
    """``m = clip(mu + 1/2, 0, 1)`` with exactly ``round(sparsity F)`` zeros, the lowest gates."""
    mask = (mu + 0.5).clamp(_LEAST_OPEN, 1.0)
    closed = mu.argsort(stable=True)[: closed_gates(mu.shape[0], sparsity)]
    return mask.index_fill(0, closed, 0.0)
