"""Stochastic gates: ``z = clip(mu + sigma eps + 1/2, 0, 1)``, and the density that ``mu`` expects.

They are those of Yamada et al. (ICML 2020), who follow Louizos et al. (ICLR 2018); what keeps their density
is our own.

A gate may stand for several features that open and close together: see :func:`gate_groups`.

Shape letters: ``F`` features, ``G`` gates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

_PASSES, _PER_PASS = 5, 32
"""5 passes over 32 candidates each narrow the range of shifts 2^25 times, to float32's own precision."""
_LEAST_OPEN = 0.01


Grain = Literal["feature", "modality", "blocks"]


def gate_groups(widths: Iterable[int], grain: Grain, block_width: int) -> Tensor | None:
    """``[F]`` int64, the gate of each feature; ``None`` where each has its own.

    >>> gate_groups([3, 2], "blocks", 2).tolist()  # no block reaches into the next modality
    [0, 0, 1, 2, 2]

    Args:
        widths: features of each modality, in their order.
        grain: a gate a feature, a modality, or a block of neighbouring features of a modality.
        block_width: features of a block; the last one of a modality may be narrower.
    """
    if grain == "feature":
        return None
    sizes = [
        min(size, width - start)
        for width in widths
        for size in [width if grain == "modality" else block_width]
        for start in range(0, width, size)
    ]
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def spread(gates: Tensor, group: Tensor | None) -> Tensor:
    """``[F]`` the gate of each feature, from ``gates`` ``[G]`` and ``group`` ``[F]``."""
    return gates if group is None else gates.index_select(0, group)


def sample_gates(mu: Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    """``[F]`` gates in [0, 1] for ``noise`` ``[F]`` drawn from N(0, 1)."""
    return (mu + sigma * noise + 0.5).clamp(0.0, 1.0)


def attention(mu: Tensor) -> Tensor:
    """``softmax(mu) / max softmax(mu)``: gates from attention over modalities, the strongest of which has 1.

    >>> attention(torch.tensor([0.0, 1.0]))
    tensor([0.3679, 1.0000])
    """
    return (mu - mu.amax()).exp()


def expected_density(mu: Tensor, sigma: float | Tensor) -> Tensor:
    """``mean Phi((mu + 1/2) / sigma)``, the expected share of open gates, for ``mu`` ``[..., F]``."""
    open_gates: Tensor = torch.special.ndtr((mu + 0.5) / sigma)
    return open_gates.mean(dim=-1)


def with_density(mu: Tensor, sigma: float | Tensor, density: float) -> Tensor:
    """``mu`` minus the one scalar that makes the expected density ``density``.

    A fixed number of passes keeps it on the device, and each tries many candidates at once, because a
    pass costs a launch of kernels and a candidate almost nothing. A penalty on the density would be
    ill-posed: its gradient vanishes at ``mu = 0``.
    """
    low = mu.min() + 0.5 - 8 * sigma
    step = (mu.max() - mu.min() + 16 * sigma) / _PER_PASS
    places = torch.arange(_PER_PASS, device=mu.device)
    for _ in range(_PASSES):
        shifted = mu - (low + step * places)[:, None]  # [candidates, F]
        too_dense = expected_density(shifted, sigma) > density
        # The density falls along the candidates: the last too dense one starts the next range.
        low = low + step * (too_dense.sum() - 1).clamp_min(0)
        step = step / _PER_PASS
    return mu - (low + step * _PER_PASS / 2)


def closed_gates(n_features: int, sparsity: float) -> int:
    """How many gates a ``sparsity`` closes: ``round(sparsity F)``."""
    return round(sparsity * n_features)


def final_mask(mu: Tensor, sparsity: float) -> Tensor:
    """``m = clip(mu + 1/2, 0, 1)`` with exactly ``round(sparsity F)`` zeros, the lowest gates.

    >>> final_mask(torch.tensor([0.7, -0.2, 0.0, -0.9]), sparsity=0.5)
    tensor([1.0000, 0.0000, 0.5000, 0.0000])
    """
    mask = (mu + 0.5).clamp(_LEAST_OPEN, 1.0)
    closed = mu.argsort(stable=True)[: closed_gates(mu.shape[0], sparsity)]
    return mask.index_fill(0, closed, 0.0)
