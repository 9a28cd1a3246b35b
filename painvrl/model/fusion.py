"""Module 3, convert: how the invariant and the variant part of the features make one score.

A learned fusion undoes the mask: with a binary mask the two parts together span every linear map
of ``f``, so retraining by risk makes the mask a reparametrisation. The default therefore trains
the invariant model first, freezes it, and fits a variant branch on what is left.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from painvrl.settings import Settings


class FusionConfig(Settings):
    """Which fusion, and how much of the variant branch the final score holds.

    ``branch``: ``s = s_inv + v s_var`` with ``variant_weight`` v. ``invariant``: v = 0 without training
    a branch (InvRL). ``sum``: one model on ``[m f, (1 - m) f]``, which undoes the mask.
    """

    kind: Literal["branch", "invariant", "sum"] = "branch"
    variant_weight: float = Field(default=0.3, ge=0, le=1)


def weighted_branch(item_vectors: Tensor, base_width: int, variant_weight: float) -> Tensor:
    """Item vectors ``[I, D]`` whose columns after ``base_width``, the branch, weigh ``variant_weight``."""
    scale = torch.ones(item_vectors.shape[1], device=item_vectors.device)
    scale[base_width:] = variant_weight
    return item_vectors * scale
