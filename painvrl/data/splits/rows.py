"""What a protocol is given, and what it decides: the rows of a data set, and a part for each of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.registry import Registry
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.data.dataset import Columns, Dataset, Modality
from painvrl.data.draws import draw, halve, protected_core
from painvrl.data.interactions import Interactions

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a data set as protocols see them, sorted by user and then by item.

    That order, and not the order in which a file lists its rows, is what every draw goes by.

    Attributes:
        name: of the data set, for messages.
        interactions: ``N`` of them.
        columns: ``[N]``, ``[I]`` and ``[U]`` of them, in the same order.
        modalities: of the items, by name.
        planted_ood: ``[N]`` bool; only of planted data.
    """

    name: str
    interactions: Interactions
    columns: Columns
    modalities: Mapping[str, Modality]
    planted_ood: Tensor | None = None

    def __len__(self) -> int:
        return len(self.interactions)

    def select(self, rows: Tensor) -> Table:
        """Some of the rows (``[n]`` int64 or ``[N]`` bool); users and items stay."""
        return replace(
            self,
            interactions=self.interactions.select(rows),
            columns=_columns_at(self.columns, rows),
            planted_ood=None if self.planted_ood is None else self.planted_ood[rows],
        )


def table_of(dataset: Dataset) -> Table:
    """The rows of ``dataset``; they are sorted only where they are not, as the readers' are."""
    table = Table(
        name=dataset.name,
        interactions=dataset.interactions,
        columns=dataset.columns,
        modalities=dataset.modalities,
        planted_ood=None if dataset.truth is None else dataset.truth.part == 1,
    )
    pair = table.interactions.cells()
    return table if bool((pair[1:] > pair[:-1]).all()) else table.select(torch.argsort(pair))


def _columns_at(columns: Columns, rows: Tensor) -> Columns:
    """The same, of some of the interactions (``[n]`` int64 or ``[N]`` bool)."""
    place = rows.numpy()
    return replace(
        columns,
        time=None if columns.time is None else columns.time[rows],
        interaction={name: labels[place] for name, labels in columns.interaction.items()},
    )


@dataclass(frozen=True, kw_only=True)
class OodRows:
    """One shifted pair of parts.

    Attributes:
        valid, test: ``[N]`` bool, disjoint.
        candidates: ``[I]`` bool; ``None`` where they are the items with a train interaction.
        held_out: the candidates are items that train never sees.
    """

    valid: Tensor
    test: Tensor
    candidates: Tensor | None = None
    held_out: bool = False


@dataclass(frozen=True, kw_only=True)
class OodDraw:
    """What a rule takes from the rows before the IID parts are drawn from the others.

    Attributes:
        parts: by name, ``ood`` or ``ood_NAME``.
        taken: ``[N]`` bool, the rows of all ``parts`` and of ``support``.
        core: ``[N]`` bool, the rows that stay in train; ``None``: 1 a user and 1 an item of those not taken.
        support: ``[N]`` bool, rows that held-out users are folded in by.
        left_out: ``[I]`` bool, items of which nothing is in any part; their rows are ``taken``, too.
    """

    parts: Mapping[str, OodRows]
    taken: Tensor
    core: Tensor | None = None
    support: Tensor | None = None
    left_out: Tensor | None = None


def among_all(table: Table, valid: Tensor, test: Tensor, support: Tensor | None = None) -> OodDraw:
    """One shifted pair of parts, whose rows (``[N]`` bool) are ranked among all items."""
    everything = torch.ones(table.interactions.n_items, dtype=torch.bool)
    taken = valid | test if support is None else valid | test | support
    rows = OodRows(valid=valid, test=test, candidates=everything)
    return OodDraw(parts={"ood": rows}, taken=taken, support=support)


@dataclass(frozen=True, kw_only=True)
class ShownFeatures:
    """A modality as the recommender is shown it, which for some items is not as it is.

    Attributes:
        modality: its name.
        source: ``[I]`` int64, the item whose vector is shown; -1 where none is.
    """

    modality: str
    source: Tensor

    @property
    def changed(self) -> Tensor:
        """``[I]`` bool: the items that are shown something else than what they have."""
        return self.source != torch.arange(len(self.source))

    def of(self, modalities: Mapping[str, Modality]) -> dict[str, Modality]:
        """The modalities as they are shown."""
        kept = modalities[self.modality]
        there, source = self.source >= 0, self.source.clamp_min(0)
        values = torch.where(there[:, None], kept.values[source], 0.0)
        shown = Modality(values=values, present=there & kept.present[source])
        return {**modalities, self.modality: shown}


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A part for every row; what is in none of these is train.

    Attributes:
        iid_valid, iid_test: ``[N]`` bool.
        ood: by name, ``ood`` or ``ood_NAME``.
        support: ``[N]`` bool, if any.
        fixed_test: ``[N]`` bool, rows that the data keep for the test, whatever the seed and the settings;
            ``None`` where the test parts are drawn.
        left_out: ``[N]`` bool, rows of items that are in no part and no list of candidates, if any.
        shown: what the items' features are changed to, if a shift of features is the protocol's.
    """

    iid_valid: Tensor
    iid_test: Tensor
    ood: Mapping[str, OodRows]
    support: Tensor | None = None
    fixed_test: Tensor | None = None
    left_out: Tensor | None = None
    shown: ShownFeatures | None = None

    def train(self) -> Tensor:
        """``[N]`` bool."""
        rest = ~(self.iid_valid | self.iid_test)
        for part in self.ood.values():
            rest &= ~(part.valid | part.test)
        for others in (self.support, self.left_out):
            rest = rest if others is None else rest & ~others
        return rest


class SplitRule(Settings):
    """The base of every protocol's settings."""

    reads_columns: ClassVar[bool] = False
    """Whether the rows depend on more than who took what, the settings and the seed."""

    protocol: str
    """Where IID and OOD rows come from; decides which other keys there are."""
    iid_candidates: Literal["warm", "all"] | None = None
    """Rank IID rows among ``warm`` items, which have a train interaction, or ``all``; then OOD rows are not
    ranked among warm ones alone. Left out: ``all`` where OOD rows are ranked among all items, else ``warm``.
    """

    @abstractmethod
    def assign(self, table: Table, seed: int) -> Assignment:
        """Give every row its part.

        Raises:
            ConfigError: the protocol does not fit the data.
        """

    def ood_names(self) -> tuple[str, ...] | None:
        """Names of the OOD parts; ``None`` where only the data know them."""
        return ("ood",)


PROTOCOLS = Registry[type[SplitRule]](
    "split protocol", group="painvrl.split_protocols", within="painvrl.data.splits", named_by="protocol"
)


class OodRule(Settings):
    """The base of what takes OOD rows alone, from the rows that a protocol gives it."""

    holds_items_out: ClassVar[bool] = True
    """Whether all rows of an item are OOD, or none."""

    protocol: str
    """Which rows are OOD; decides which other keys there are."""

    @abstractmethod
    def draw_ood(self, table: Table, seed: int) -> OodDraw:
        """The OOD rows.

        Raises:
            ConfigError: the rule does not fit the data.
        """

    def ood_names(self) -> tuple[str, ...]:
        """Names of the OOD parts."""
        return ("ood",)


OOD_RULES = Registry[type[OodRule]](
    "rule of OOD rows", group="painvrl.ood_rules", within="painvrl.data.splits", named_by="protocol"
)


def with_iid(table: Table, ood: OodDraw, share: float, seed: int) -> Assignment:
    """Draw the IID parts, ``share * N`` rows in all, uniformly from what ``ood`` leaves beside the core.

    Raises:
        ConfigError: that leaves fewer rows.
    """
    data = table.interactions
    core = ood.core
    if core is None:
        source = generator(seed, "split", "core")
        core = protected_core(data, ~ood.taken, per_user=1, per_item=1, generator=source)
    free = ~ood.taken & ~core
    size = round(share * len(data))
    if size > int(free.sum()):
        raise ConfigError(
            f"iid_share asks for {size} interactions, but the OOD parts and the core of 1 a user "
            "and 1 an item that stays in train leave fewer; lower it",
            key="split.iid_share",
            value=f"{int(free.sum())} of {len(data)}",
        )
    iid = draw(free, size, generator=generator(seed, "split", "iid"))
    iid_valid, iid_test = halve(iid, generator=generator(seed, "split", "iid halves"))
    return Assignment(
        iid_valid=iid_valid,
        iid_test=iid_test,
        ood=ood.parts,
        support=ood.support,
        left_out=None if ood.left_out is None else ood.left_out[data.item],
    )


def labels_of(columns: Mapping[str, np.ndarray], name: str, *, of: str, table: str) -> np.ndarray:
    """The column ``name`` of interactions, items or users.

    Raises:
        ConfigError: there is no such column; the message names those that exist.
    """
    if name not in columns:
        known = f"it has {', '.join(sorted(columns))}" if columns else "it has none"
        raise ConfigError(
            f"the data set {table} has no such column of its {of}; {known}", key="split.column", value=name
        )
    return columns[name]


def split_labels(table: Table, name: str) -> np.ndarray:
    """``[N]`` the column ``name`` of the interactions, for a protocol that takes the parts from it.

    Raises:
        ConfigError: there is no such column, or repeated (user, item) pairs contradict each other in it.
    """
    labels = labels_of(table.columns.interaction, name, of="interactions", table=table.name)
    if name in table.columns.contradictions:
        raise ConfigError(
            f"the column says two things of one pair: {table.columns.contradictions[name]}; "
            "data.duplicates: first_part keeps the row of train, by a column called part",
            key="split.column",
            value=name,
        )
    return labels
