"""What a data set and its split look like before anything is trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from painvrl.core.tables import Block, Result, TextTable
from painvrl.data.dataset import Dataset
from painvrl.data.features import FeatureConfig, modalities_of
from painvrl.data.interactions import Interactions
from painvrl.data.split_statistics import SplitStatistics
from painvrl.data.splits.split import Split

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the items in train and the valid parts, the most popular first: where the curve is read off."""


@dataclass(frozen=True, kw_only=True)
class ModalityFacts:
    """One modality.

    Attributes:
        name: of the modality.
        width: features.
        items: items that have it.
        missing: items that do not; their rows are zeros.
        missing_interactions: share of the train interactions with such an item, in [0, 1].
    """

    name: str
    width: int
    items: int
    missing: int
    missing_interactions: float


@dataclass(frozen=True, kw_only=True)
class Inspection(Result):
    """All of it.

    Attributes:
        data: the data set's name.
        statistics: of the split, with what was read, joined and left out.
        popularity: of train and of each valid part, the share of its interactions with the most popular
            :data:`SHARES` of the items.
        modalities: in their order, those of ``features.smooth`` and decoys last.
        undescribed: items that have none of them.
    """

    data: str
    statistics: SplitStatistics
    popularity: dict[str, tuple[float, ...]]
    modalities: tuple[ModalityFacts, ...]
    undescribed: int

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return {**asdict(self), "shares": list(SHARES), "statistics": self.statistics.as_dict()}

    def blocks(self) -> Iterator[Block]:
        """The tables of a study's start, the popularity curve, and who has which modality."""
        said = self.statistics
        yield (
            f"{self.data}: {said.users:,} users, {said.items:,} items, {said.interactions:,} interactions, "
            f"{said.interactions / said.users:.1f} a user and {said.interactions / said.items:.1f} an item"
        )
        yield f"split {said.protocol}:"
        yield from said.tables()
        yield TextTable.of(
            {
                "most popular items": f"{share:.0%}",
                **{f"of {part}": f"{curve[place]:.1%}" for part, curve in self.popularity.items()},
            }
            for place, share in enumerate(SHARES)
        )
        yield TextTable.of(
            {
                "modality": one.name,
                "features": f"{one.width:,}",
                "items": f"{one.items:,}",
                "missing": f"{one.missing:,}",
                "missing share": f"{one.missing / (one.items + one.missing):.1%}",
                "train interactions without it": f"{one.missing_interactions:.1%}",
            }
            for one in self.modalities
        )
        yield f"items without any modality: {self.undescribed:,}"


def inspect(
    dataset: Dataset, split: Split, features: FeatureConfig | None = None, seed: int = 0
) -> Inspection:
    """Look at a data set and its split; the rows of the test parts are not looked at.

    ``features``: adds the modalities that it makes of columns, and decoys under ``seed``.

    Raises:
        ConfigError: a column of ``features`` is none of the items', or not numeric.
    """
    features = features or FeatureConfig()
    modalities = modalities_of(
        dataset.modalities, dataset.columns, split.train.item_degree() > 0, features, seed
    )
    parts = {"train": split.train, **{part.name: part.interactions for part in split.valid.values()}}
    degree = torch.stack([part.item_degree() for part in parts.values()]).sum(dim=0)
    order = torch.argsort(degree, descending=True, stable=True)[: int((degree > 0).sum())]
    present = [modality.present for name, modality in modalities.items() if name not in features.decoys]
    none = ~torch.stack(present).any(dim=0) if present else torch.ones_like(degree, dtype=torch.bool)
    return Inspection(
        data=dataset.name,
        statistics=split.statistics,
        popularity={name: tuple(_curve(part, order)) for name, part in parts.items()},
        modalities=tuple(
            ModalityFacts(
                name=name,
                width=modality.values.shape[1],
                items=int(modality.present.sum()),
                missing=int((~modality.present).sum()),
                missing_interactions=float((~modality.present)[split.train.item].double().mean()),
            )
            for name, modality in modalities.items()
        ),
        undescribed=int(none.sum()),
    )


def _curve(part: Interactions, order: Tensor) -> Sequence[float]:
    """The share of the part's interactions with the first items of ``order``, at each of :data:`SHARES`."""
    taken = part.item_degree()[order].double().cumsum(dim=0) / max(1, len(part))
    return [float(taken[max(1, round(share * len(order))) - 1]) for share in SHARES]
