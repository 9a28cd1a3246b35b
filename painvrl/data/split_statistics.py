"""The statistics of a split: what a reader must know of its parts before believing a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from painvrl.core.tables import TextTable
from painvrl.data.interactions import Interactions, among
from painvrl.data.provenance import Provenance, Removal


@dataclass(frozen=True, kw_only=True)
class PartStatistics:
    """Counts of one part.

    Attributes:
        name: ``train``, ``iid_valid``, ``iid_test``, ``ood_valid``, ``ood_test``, further OOD parts, or
            ``support``.
        interactions: rows.
        users: users with a row.
        items: items with a row.
        mean_popularity: mean over the rows of the item's interactions in the whole data set.
        items_in_train: share of the part's items that have a train interaction, in [0, 1].
        candidates: items that the part is ranked among; ``None`` of a part that is not scored.
        overlap_with_train: (user, item) pairs that are in train, too; 0 for every part but train.
    """

    name: str
    interactions: int
    users: int
    items: int
    mean_popularity: float
    items_in_train: float
    candidates: int | None
    overlap_with_train: int


@dataclass(frozen=True, kw_only=True)
class SplitStatistics:
    """The parts, and what the split left out.

    Attributes:
        protocol: the split's name.
        seed: of the split.
        users: users of the data set with an interaction.
        items: items of the data set with an interaction.
        interactions: of the data set.
        dropped_users: users without a train (or support) interaction; they have no row in any part.
        dropped_interactions: their rows, and IID rows of items without a train interaction.
        parts: in the order train, iid_valid, iid_test, ood_valid, ood_test, further OOD parts, support.
        provenance: what the filters took, and the split itself; what was joined; what looks wrong.
    """

    protocol: str
    seed: int
    users: int
    items: int
    interactions: int
    dropped_users: int
    dropped_interactions: int
    parts: tuple[PartStatistics, ...]
    provenance: Provenance

    def tables(self) -> tuple[TextTable, ...]:
        """The parts, what filters took and what was joined, for people."""
        parts = TextTable.of(
            {
                "part": part.name,
                "interactions": f"{part.interactions:,}",
                "users": f"{part.users:,}",
                "items": f"{part.items:,}",
                "mean popularity": f"{part.mean_popularity:.1f}",
                "items in train": f"{part.items_in_train:.1%}",
                "ranked among": "-" if part.candidates is None else f"{part.candidates:,}",
                "overlap with train": "-" if part.name == "train" else f"{part.overlap_with_train:,}",
            }
            for part in self.parts
        )
        return (parts, *self.provenance.tables())

    def as_dict(self) -> dict[str, object]:
        """The statistics as JSON-ready values; ``warnings`` repeats what of ``provenance`` looks wrong."""
        return {**asdict(self), "warnings": list(self.provenance.warnings)}


def split_statistics(
    *,
    protocol: str,
    seed: int,
    data: Interactions,
    parts: Mapping[str, Interactions],
    candidates: Mapping[str, Tensor],
    dropped_users: int,
    provenance: Provenance,
    left_out: Tensor | None = None,
) -> SplitStatistics:
    """Count the parts of a split.

    Args:
        protocol: the split's name.
        seed: of the split.
        data: the whole data set.
        parts: all parts by name, ``train`` among them.
        candidates: ``[I]`` bool of each part that is scored, the items that it is ranked among.
        dropped_users: users without a train interaction.
        provenance: of the data set.
        left_out: ``[N]`` bool, rows of items that the protocol leaves out.
    """
    popularity = data.item_degree().double()
    train = parts["train"]
    train_items = train.item_degree() > 0
    train_pairs = train.cells().sort().values
    splits = []
    for name, part in parts.items():
        taken = part.item_degree() > 0
        splits.append(
            PartStatistics(
                name=name,
                interactions=len(part),
                users=int((part.user_degree() > 0).sum()),
                items=int(taken.sum()),
                mean_popularity=float(popularity[part.item].mean()) if len(part) else 0.0,
                items_in_train=float(train_items[taken].double().mean()) if len(part) else 0.0,
                candidates=int(candidates[name].sum()) if name in candidates else None,
                overlap_with_train=int(among(part.cells(), train_pairs).sum()),
            )
        )
    users, items = int((data.user_degree() > 0).sum()), int((data.item_degree() > 0).sum())
    dropped = len(data) - sum(len(part) for part in parts.values())
    gap = 0 if left_out is None else int(left_out.sum())
    gap_items = 0 if left_out is None else len(data.item[left_out].unique())
    gap_users = 0 if left_out is None else users - len(data.user[~left_out].unique())
    if gap:
        removal = Removal(
            name="split.gap",
            rule="leave out items that neither train nor OOD parts have",
            users=gap_users,
            items=gap_items,
            interactions=gap,
            users_before=users,
            items_before=items,
            interactions_before=len(data),
        )
        provenance = replace(provenance, removals=(*provenance.removals, removal))
    if dropped > gap:
        placed = torch.stack([part.item_degree() for part in parts.values()]).sum(dim=0) > 0
        removal = Removal(
            name="split",
            rule="leave out users without a train row, and IID rows of items without one",
            users=dropped_users - gap_users,
            items=items - gap_items - int(placed.sum()),
            interactions=dropped - gap,
            users_before=users - gap_users,
            items_before=items - gap_items,
            interactions_before=len(data) - gap,
        )
        provenance = replace(provenance, removals=(*provenance.removals, removal))
    if (blind := _blind_spot(candidates, train_items)) is not None:
        provenance = replace(provenance, findings=(*provenance.findings, blind))
    return SplitStatistics(
        protocol=protocol,
        seed=seed,
        users=users,
        items=items,
        interactions=len(data),
        dropped_users=dropped_users,
        dropped_interactions=dropped,
        parts=tuple(splits),
        provenance=provenance,
    )


def _blind_spot(candidates: Mapping[str, Tensor], warm: Tensor) -> str | None:
    """A warning where OOD parts rank cold items among warm ones, and the IID parts see no cold one.

    There a model may push every cold item up, and no IID metric moves.
    """
    iid = next((items for name, items in candidates.items() if name.startswith("iid")), None)
    if iid is None or bool((iid & ~warm).any()):
        return None
    for name, items in candidates.items():
        if bool((items & ~iid).any()) and bool((items & iid).any()):
            return (
                f"split.iid_candidates: IID rows are ranked among {int(iid.sum()):,} warm items, {name} "
                f"among {int(items.sum()):,}: no IID metric sees a cold item push a warm one out; "
                "'all' ranks both in one list"
            )
    return None
