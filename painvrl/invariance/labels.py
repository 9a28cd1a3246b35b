"""Labels of interactions: no environment too small, and when they have settled."""

from __future__ import annotations

import torch
from torch import Tensor

SETTLED_SHARE = 0.01
"""Labels have settled where at most this share of them still moves."""


def moved_share(label: Tensor, before: Tensor) -> float:
    """The share of the interactions whose label differs between two labellings ``[N]``."""
    return float((label != before).float().mean())


def with_least_size(label: Tensor, explained: Tensor, n_environments: int, needed: int) -> tuple[Tensor, int]:
    """Fill environments below ``needed`` with the worst-explained interactions of the largest ones.

    Donors keep at least ``needed`` themselves, so there must be ``E needed`` interactions.

    Args:
        label: ``[N]`` in ``[0, E)``.
        explained: ``[N]`` how well the models explain each interaction; compared within a donor only.
        n_environments: ``E``.
        needed: the least size.

    Returns:
        The labels and how many environments were filled.
    """
    sizes = torch.bincount(label, minlength=n_environments)
    reseeded = 0
    while int(sizes.min()) < needed:
        poor, rich = int(sizes.argmin()), int(sizes.argmax())
        members = (label == rich).nonzero(as_tuple=True)[0]
        take = min(needed - int(sizes[poor]), int(sizes[rich]) - needed)
        worst = explained[members].argsort(stable=True)[:take]
        label = label.index_fill(0, members[worst], poor)
        sizes = torch.bincount(label, minlength=n_environments)
        reseeded += 1
    return label, reseeded
