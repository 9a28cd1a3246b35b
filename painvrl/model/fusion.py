"""Module 3, convert: how the invariant and the variant part of the features make one score.

A learned fusion undoes the mask: with a binary mask the two parts together span every linear map
of ``f``, so retraining by risk makes the mask a reparametrisation. The default therefore trains
the invariant model first, freezes it, and fits a variant branch on what is left. ``sum``, ``scalar``
and ``item`` are one model on both parts, trained end to end, and carry that warning.

A fusion says which models are trained (:class:`Learner`); the score is made of their vectors alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.registry import NameIn, Registry
from painvrl.core.settings import AfterTraining, Settings
from painvrl.model.mixing import ItemAttention, Mixing, Projection, ScalarWeights, Sum


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A model that a fusion trains.

    Attributes:
        name: of its training; its random numbers and its curves go by it.
        gates: makes of the mask ``[F]`` what the features are multiplied with: ``[F]``, or ``[C F]`` for
            ``C`` gated copies of them side by side.
        mixing: how the projections of the copies make one.
    """

    name: str
    gates: Callable[[Tensor], Tensor]
    mixing: type[Mixing] = Sum


@dataclass(frozen=True)
class Fusion(ABC):
    """The base of all fusions: an object with a name, settings if it has any, and what it trains."""

    name: str

    @abstractmethod
    def learners(self, *, weighed: bool) -> tuple[Learner, ...]:
        """What is trained, in order: each learns what those before it, which are frozen, left over.

        The first one's vectors are the ID part and the content part, those of the others the variant branch.
        ``weighed``: whether the branch will weigh anything.
        """


FUSIONS = Registry[Fusion]("fusion", group="painvrl.fusions", within="painvrl.model")

INVARIANT = Learner(name="invariant", gates=lambda mask: mask)
VARIANT = Learner(name="variant", gates=lambda mask: 1 - mask)


@dataclass(frozen=True)
class InvariantFirst(Fusion):
    """The invariant model, and on top of it what is weighed, if anything is (InvRL: nothing)."""

    then: tuple[Learner, ...] = ()

    def learners(self, *, weighed: bool) -> tuple[Learner, ...]:
        """See :class:`Fusion`."""
        return (INVARIANT, *self.then) if weighed else (INVARIANT,)


@dataclass(frozen=True)
class BothParts(Fusion):
    """One model on ``m f`` and ``(1 - m) f``, which undoes the mask; its training has the fusion's name."""

    mixing: type[Mixing]

    def learners(self, *, weighed: bool) -> tuple[Learner, ...]:
        """See :class:`Fusion`."""
        return (Learner(name=self.name, gates=lambda mask: torch.cat([mask, 1 - mask]), mixing=self.mixing),)


for _fusion in (
    InvariantFirst("branch", (VARIANT,)),
    InvariantFirst("invariant"),
    BothParts("sum", Sum),
    BothParts("scalar", ScalarWeights),
    BothParts("item", ItemAttention),
):
    FUSIONS.register(_fusion)


class FusionConfig(Settings):
    """Which fusion, and what each part weighs in the final score.

    ``branch`` scores ``s = s_inv + v s_var``; ``invariant`` has v = 0 and no branch to train (InvRL). The
    others are one model on ``m f`` and ``(1 - m) f``, which undoes the mask. The weights act after training:
    a study sweeps them over one training.
    """

    kind: Annotated[str, NameIn(FUSIONS)] = "branch"
    """``branch`` adds a variant branch, ``invariant`` none. One model on both parts: ``sum``, ``scalar``
    (softmax of two numbers), ``item`` (attention for each item).
    """
    variant_weight: Annotated[float, AfterTraining()] = Field(default=0.3, ge=0, le=1)
    """Weight v of the variant branch; of ``branch`` only."""
    id_weight: Annotated[float, AfterTraining()] = Field(default=1.0, ge=0, le=10)
    """Weight of the ID embeddings' part of the score."""
    popularity_weight: Annotated[float, AfterTraining()] = Field(default=0.0, ge=-1, le=1)
    """b in ``b log(1 + d_i)``, added to every score, with ``d_i`` train interactions of the item. Below 0
    rarer items are shown more often.
    """
    cold_weight: Annotated[float, AfterTraining()] = Field(default=0.0, ge=-10, le=10)
    """Added to the scores of cold items alone, those without a train interaction."""

    def learners(self, *, branch: bool = False) -> tuple[Learner, ...]:
        """What is trained, in order; with ``branch`` as if ``variant_weight`` were above 0."""
        return FUSIONS.get(self.kind).learners(weighed=branch or self.variant_weight > 0)


@dataclass(frozen=True, kw_only=True)
class ScoreParts:
    """What a training has made, before anything is weighed: score vectors whose columns stand in parts.

    The score of user ``u`` and item ``i`` under a :class:`FusionConfig` is

        id_weight <p_u, q_i> + <c_u, h_i> + variant_weight <v_u, w_i> + popularity_weight log(1 + d_i)
        + cold_weight [d_i = 0]

    with the ID part, the content part and the variant branch in that order of columns.

    Attributes:
        users: ``[U, D]``; users without a vector have nothing to be ranked by, no offset either.
        items: ``[I, D]``.
        id_width: leading columns of the ID part.
        base_width: columns from here on are the variant branch; ``D`` without one.
        degree: ``[I]``, interactions of each item in train.
        projection: makes the columns behind the ID part of features; ``None`` where it is not known.
    """

    users: Tensor
    items: Tensor
    id_width: int
    base_width: int
    degree: Tensor
    projection: Projection | None = None

    def weighed(self, fusion: FusionConfig) -> tuple[Tensor, Tensor]:
        """User and item vectors whose products are the scores, for whoever serves them.

        An offset is a column of its own, the first one. A branch that weighs nothing is left out.
        """
        scale = self._scale(fusion)
        users, items = self.users[:, : len(scale)], self.items[:, : len(scale)] * scale
        offset = self.offset(fusion)
        if offset is None:
            return users, items
        return torch.cat([self.known()[:, None], users], dim=1), torch.cat([offset[:, None], items], dim=1)

    def columns(self, fusion: FusionConfig) -> tuple[int, int, int, int]:
        """How many of :meth:`weighed` are the offset, the ID part, the content part and the branch."""
        offset, width = self.offset(fusion), len(self._scale(fusion))
        ends = (0 if offset is None else 1, self.id_width, self.base_width - self.id_width)
        return (*ends, width - self.base_width)

    def weighed_projection(self, fusion: FusionConfig) -> Projection | None:
        """From the features of an item without a train interaction to its row of :meth:`weighed`."""
        if self.projection is None:
            return None
        scale = self._scale(fusion)[self.id_width :]
        known, width = self.projection, len(scale)
        bias = scale.new_zeros(sum(self.columns(fusion)))
        bias[0] = fusion.cold_weight  # log(1 + 0) = 0; without an offset it is 0, too
        bias[len(bias) - width :] = known.bias[:width] * scale
        return Projection(weight=known.weight[..., :width] * scale, query=known.query[:width], bias=bias)

    def _scale(self, fusion: FusionConfig) -> Tensor:
        """What the columns are multiplied with that weigh anything."""
        width = self.base_width if fusion.variant_weight == 0 else self.items.shape[1]
        scale = torch.ones(width, device=self.items.device)
        scale[: self.id_width] = fusion.id_weight
        scale[self.base_width :] = fusion.variant_weight
        return scale

    def offset(self, fusion: FusionConfig) -> Tensor | None:
        """``[I]``: what is added to every score of an item; ``None`` if nothing is."""
        if fusion.popularity_weight == 0 and fusion.cold_weight == 0:
            return None
        degree = self.degree.to(self.items)
        return fusion.popularity_weight * torch.log1p(degree) + fusion.cold_weight * (degree == 0)

    def known(self) -> Tensor:
        """``[U]`` 1 of users with a vector, else 0."""
        return self.users.any(dim=1).to(self.users.dtype)


@dataclass(frozen=True)
class WeighedScores:
    """The scores of one training under several weights; a block's products are made once for all of them.

    Attributes:
        parts: of the training.
        fusions: the weights.
    """

    parts: ScoreParts
    fusions: Sequence[FusionConfig]

    def __len__(self) -> int:
        return len(self.fusions)

    def among(self, candidates: Tensor) -> Callable[[Tensor], Iterator[Tensor]]:
        """From the users of a block ``[B]`` to their scores of ``candidates`` ``[C]``, ``[B, C]`` a weighing.

        Each is the same to the last bit whatever else is asked for with it.
        """
        parts = self.parts
        everything = len(candidates) == len(parts.items)  # they ascend, so no copy is needed
        items = parts.items if everything else parts.items[candidates]
        ends = (0, parts.id_width, parts.base_width, items.shape[1])
        offsets = [parts.offset(fusion) for fusion in self.fusions]
        added = [None if offset is None else offset[candidates] for offset in offsets]
        known = parts.known()

        def of_block(users: Tensor) -> Iterator[Tensor]:
            rows = parts.users[users]
            by_id, content, variant = (
                rows[:, first:last] @ items[:, first:last].T if first < last else None
                for first, last in pairwise(ends)
            )
            base = rows.new_zeros(len(users), len(candidates)) if content is None else content
            for fusion, offset in zip(self.fusions, added, strict=True):
                scores = base.clone() if by_id is None else torch.add(base, by_id, alpha=fusion.id_weight)
                if variant is not None and fusion.variant_weight != 0:
                    scores.add_(variant, alpha=fusion.variant_weight)
                if offset is not None:
                    scores.addr_(known[users], offset)
                yield scores

        return of_block
