"""The variance of the risk's gradient over environments, at a cost that need not grow with them.

The sum over environments of two deviations is a sum over contrasts, the ``E - 1`` orthonormal
directions that sum to zero:

    sum_e (a_e - mean a)(b_e - mean b) = sum_j (c_j . a)(c_j . b)

The gradient of a contrast is the gradient of *one* weighted risk, not of ``E`` of them. ``all``
contrasts for every column of the projection are exact. ``sketched`` gives each column one contrast of a
randomly turned basis: the expectation over turns is the same, and a step costs the same for 2 and for
50 environments, but is noisier: it averages over the columns that share a contrast. With two environments
there is one contrast, and both are exact. ``auto`` is ``all`` where a sketch has few columns a contrast,
which was seen to cost quality (docs/lab-book.md), as long as that is cheap. (Our extension.)

Shape letters: ``U`` users, ``I`` items, ``N`` interactions, ``F`` features, ``k`` content width, ``D``
width of the score vectors, ``E`` environments, ``B`` blocks of columns, ``C`` columns in all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from painvrl.invariance.risks import Frozen, Scored
from painvrl.model.pairs import half_sums, weighted_rows

ContrastKind = Literal["sketched", "all"]
ContrastChoice = Literal["auto", "sketched", "all"]

_BLOCKS = 4
"""Of columns that a sketch draws contrasts for; more read the pairs more often."""


_ENOUGH_COLUMNS = 6
"""A contrast: with 3.6 on planted data a sketch lost OOD quality, with 10.7 or 6.4 (MovieLens) not."""
_CHEAP = 30_000_000
"""Numbers (interactions times columns times contrasts) that a step of ``auto`` may read to be exact."""


def chosen_kind(choice: ContrastChoice, n_environments: int, n_pairs: int, width: int) -> ContrastKind:
    """What ``choice`` comes to for ``n_pairs`` interactions and ``width`` content columns."""
    if choice != "auto":
        return choice
    rank = n_environments - 1
    exact = width < _ENOUGH_COLUMNS * rank and n_pairs * width * rank <= _CHEAP
    return "all" if exact else "sketched"


@dataclass(frozen=True, kw_only=True)
class ContrastPlan:
    """Which columns of ``W`` see which contrast; made once a mask.

    Attributes:
        kind: see the module.
        n_environments: ``E``.
        columns: ``B`` slices of the content columns, one contrast each.
        users: ``B`` times ``[U, k_b]``, the users' content columns of each block.
        scale: what the products' sum is multiplied with to be a mean over environments.
    """

    kind: ContrastKind
    n_environments: int
    columns: tuple[slice, ...]
    users: tuple[Tensor, ...]
    scale: float


def plan_contrasts(kind: ContrastKind, n_environments: int, user_content: Tensor) -> ContrastPlan:
    """Deal the columns of ``user_content`` ``[U, k]`` to contrasts."""
    width, rank = user_content.shape[1], n_environments - 1
    if kind == "all" or rank == 1:
        columns = (slice(0, width),) * rank
        scale = 1 / n_environments
    else:
        n_blocks = min(rank, _BLOCKS, width)
        cuts = [width * block // n_blocks for block in range(n_blocks + 1)]
        columns = tuple(slice(*cuts[block : block + 2]) for block in range(n_blocks))
        scale = rank / n_environments
    return ContrastPlan(
        kind=kind,
        n_environments=n_environments,
        columns=columns,
        users=tuple(user_content[:, block].contiguous() for block in columns),
        scale=scale,
    )


def draw_contrasts(plan: ContrastPlan, generator: torch.Generator) -> Tensor:
    """``[B, E]`` float64, orthonormal rows that sum to zero; randomly turned for a sketch.

    Args:
        plan: how many are needed.
        generator: a CPU generator; read only where a turn matters.
    """
    count, n_environments = len(plan.columns), plan.n_environments
    if plan.kind == "all" or n_environments == 2:
        # Helmert's: the first j environments against the next one.
        rows = torch.ones(count, n_environments, dtype=torch.float64).tril(0)
        rows[range(count), range(1, n_environments)] = -torch.arange(1, n_environments).double()
        return torch.nn.functional.normalize(rows, dim=1)
    spread = torch.randn(n_environments, count, generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(spread - spread.mean(dim=0))[0]
    return basis.T


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Each environment's interactions cut into two, as one step draws them.

    Attributes:
        half: ``[N]`` int64 of 0 and 1.
        weights: ``[B, N]``: a pair's coefficient in its half's contrast, over its half's size.
        user_weights: ``[2 B, U]``: its sum over each user's pairs, over the user's degree, by half
            and then by block.
    """

    half: Tensor
    weights: Tensor
    user_weights: Tensor


def weigh_halves(
    label: Tensor, half: Tensor, contrasts: Tensor, frozen: Frozen, member: Tensor | None = None
) -> Halves:
    """Weigh every interaction so that sums over a half are contrasts of its environments' means.

    Args:
        label: ``[N]`` int64 in ``[0, E)``, in the canonical order.
        half: ``[N]`` int64 of 0 and 1.
        contrasts: ``[B, E]``.
        frozen: whose pairs they are.
        member: ``[N]`` 1 for the interactions that take part, 0 for the others; ``None`` for all.
    """
    count, n_environments = contrasts.shape
    group = 2 * label + half
    taking_part = torch.ones_like(group, dtype=contrasts.dtype) if member is None else member
    sizes = contrasts.new_zeros(2 * n_environments).scatter_add_(0, group, taking_part).clamp_min(1)
    table = contrasts.repeat_interleave(2, dim=1) / sizes  # [B, 2 E]
    # A row a group: its weights, in the columns of its half.
    sides = table.T.view(n_environments, 2, 1, count) * torch.eye(2, device=table.device)[:, :, None]
    by_user = weighted_rows(
        sides.reshape(2 * n_environments, 2 * count), group, taking_part, frozen.pairs.user_offsets
    )
    return Halves(
        half=half,
        weights=table[:, group] if member is None else table[:, group] * member,
        user_weights=by_user.T / frozen.user_degree.clamp_min(1),
    )


def contrast_gradients(scored: Scored, frozen: Frozen, halves: Halves, plan: ContrastPlan) -> Tensor:
    """``[2, F, C]``: each half's contrasts of the environments' gradients on ``W``, in closed form.

    Differentiable in the gates (through the scores, too), which is what the penalty needs. All
    halves, contrasts and columns share one product with the features.
    """
    a0, features = frozen.all_pairs_weight, frozen.features
    slope = -2 * (1 - scored.scores) - 2 * a0 * scored.scores  # [N] d l / d s of a pair's own part
    pulled = [
        half_sums(slope * weights, users, halves.half, frozen.pairs)
        for weights, users in zip(halves.weights, plan.users, strict=True)
    ]
    own = torch.cat([*(block for side in zip(*pulled, strict=True) for block in side), scored.content], dim=1)
    n_columns = sum(users.shape[1] for users in plan.users)
    reached = features.T @ own  # [F, 2 C + k]
    # All pairs: 2 a0 Y (sum over users of weight * x_u c_u'), with [D, 2 C] moments.
    shares = halves.user_weights.view(2, len(plan.users), -1)
    moments = frozen.users.T @ torch.cat(
        [share[:, None] * users for side in shares for share, users in zip(side, plan.users, strict=True)],
        dim=1,
    )
    reach = torch.cat([frozen.id_reach, reached[:, 2 * n_columns :]], dim=1)  # [F, D]
    gradient = reached[:, : 2 * n_columns] + 2 * a0 * reach @ moments
    return scored.gates[:, None] * gradient.view(-1, 2, n_columns).transpose(0, 1)
