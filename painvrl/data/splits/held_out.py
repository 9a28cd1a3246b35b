"""``cold_item``, ``item_group``, ``user_group``: items, or groups of items or users, are OOD as a whole."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from painvrl.core.errors import ConfigError, listing
from painvrl.core.rng import generator
from painvrl.core.settings import Settings
from painvrl.data.draws import draw, halve, rank_within
from painvrl.data.splits.clusters import content_clusters
from painvrl.data.splits.rows import (
    OOD_RULES,
    PROTOCOLS,
    Assignment,
    OodDraw,
    OodRows,
    OodRule,
    Share,
    SplitRule,
    Table,
    among_all,
    labels_of,
    with_iid,
)

OodCandidates = Literal["held_out", "all"]

MAX_GROUP = 0.75
"""A group with more than so much of the wanted share is passed over: valid and test need one each."""


@OOD_RULES.register
class ColdItemOod(OodRule):
    """OOD rows are all interactions of a random share of the items; valid and test hold different items."""

    protocol: Literal["cold_item"] = "cold_item"
    item_share: Share = 0.25
    """Share of the items that is held out; halved into valid and test."""
    ood_candidates: OodCandidates = "held_out"
    """Rank OOD rows among all ``held_out`` items, or among ``all`` items."""

    def draw_ood(self, table: Table, seed: int) -> OodDraw:
        """The OOD rows.

        Raises:
            ConfigError: the share holds fewer than two items.
        """
        known = table.interactions.item_degree() > 0
        size = round(self.item_share * int(known.sum()))
        if size < 2:
            rule = "item_share must hold out at least 2 items, one for valid and one for test"
            asked = f"{self.item_share} of {int(known.sum())} items"
            raise ConfigError(rule, key="split.item_share", value=asked)
        held_out = draw(known, size, generator=generator(seed, "split", "cold"))
        valid, test = halve(held_out, generator=generator(seed, "split", "cold halves"))
        return rows_of_items(table, valid, test, self.ood_candidates)


@PROTOCOLS.register
class ColdItemSplit(ColdItemOod, SplitRule):
    """OOD rows as in :class:`ColdItemOod`; IID rows are drawn uniformly from the other (warm) items.

    A random core of 1 interaction a user and 1 a warm item stays in train.
    """

    iid_share: Share = 0.2
    """IID rows, as a share of all interactions; halved into valid and test."""

    def assign(self, table: Table, seed: int) -> Assignment:
        """Hold items out, then draw IID rows."""
        return with_iid(table, self.draw_ood(table, seed), self.iid_share, seed)


class GroupChoice(Settings):
    """Which groups are held out.

    Items (users) without a label are in no group.
    """

    hold_out: tuple[str, ...] = ()
    """Labels of the groups; left out, groups are drawn until they hold ``share`` of the items (users)."""
    share: Share = 0.2
    """Share of the items (users) that groups are drawn for, without ``hold_out``."""

    @field_validator("hold_out")
    @classmethod
    def _at_least_two(cls, hold_out: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(hold_out)) != len(hold_out) or len(hold_out) == 1 or "" in hold_out:
            raise ValueError(
                "must name at least 2 different groups, one for valid and one for test, or none "
                f"(found {list(hold_out)})"
            )
        return hold_out


@OOD_RULES.register
class ItemGroupOod(GroupChoice, OodRule):
    """OOD rows are all interactions of items of held-out groups; valid and test hold different groups."""

    protocol: Literal["item_group"] = "item_group"
    column: str | None = None
    """Column of the items that names their groups, such as ``genre``."""
    clusters: int | None = Field(default=None, ge=3, le=1000)
    """Number of groups made by k-means on the features, in place of a ``column``."""
    ood_candidates: OodCandidates = "held_out"
    """Rank OOD rows among all ``held_out`` items, or among ``all`` items."""

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        if (self.column is None) is (self.clusters is None):
            found = "neither" if self.column is None else "both"
            raise ValueError(f"item_group needs either column or clusters (found {found})")
        if self.clusters is not None and self.hold_out:
            raise ValueError("clusters have no names, so hold_out cannot name them; leave it out")
        return self

    def draw_ood(self, table: Table, seed: int) -> OodDraw:
        """The OOD rows.

        Raises:
            ConfigError: there is no such column or group, or fewer than two groups fit.
        """
        if self.column is not None:
            labels = labels_of(table.columns.item, self.column, of="items", table=table.name)
        else:
            assert self.clusters is not None
            labels = content_clusters(table, self.clusters, generator(seed, "split", "clusters"))
        valid, test = held_out_members(self, labels, table.interactions.item_degree(), seed)
        return rows_of_items(table, valid, test, self.ood_candidates)


@PROTOCOLS.register
class ItemGroupSplit(ItemGroupOod, SplitRule):
    """OOD rows as in :class:`ItemGroupOod`; IID rows are drawn uniformly from the other (warm) items.

    A random core of 1 interaction a user and 1 a warm item stays in train.
    """

    reads_columns: ClassVar[bool] = True

    iid_share: Share = 0.2
    """IID rows, as a share of all interactions; halved into valid and test."""

    def assign(self, table: Table, seed: int) -> Assignment:
        """Hold groups of items out, then draw IID rows."""
        return with_iid(table, self.draw_ood(table, seed), self.iid_share, seed)


@PROTOCOLS.register
class UserGroupSplit(GroupChoice, SplitRule):
    """OOD rows are interactions of users of held-out groups; valid and test hold different groups.

    Nothing is trained on such a user. A random half of the user's interactions, the larger one, is the
    support: the user's vectors are fitted to it after the training, with the items frozen. The other half is
    OOD, ranked among all items. IID rows are drawn uniformly from the other users' rows; a random core of 1
    interaction a user and 1 an item of those stays in train.
    """

    reads_columns: ClassVar[bool] = True

    protocol: Literal["user_group"] = "user_group"
    column: str
    """Column of the users that names their groups."""
    iid_share: Share = 0.2
    """IID rows, as a share of all interactions; halved into valid and test."""

    def assign(self, table: Table, seed: int) -> Assignment:
        """Hold groups of users out, halve their interactions, then draw IID rows from the others'."""
        data = table.interactions
        labels = labels_of(table.columns.user, self.column, of="users", table=table.name)
        valid, test = held_out_members(self, labels, data.user_degree(), seed)
        priority = torch.rand(len(data), generator=generator(seed, "split", "support"), dtype=torch.float64)
        history = torch.bincount(data.user, minlength=data.n_users)
        half = rank_within(data.user, data.n_users, priority) >= ((history + 1) // 2)[data.user]
        valid, test = valid[data.user], test[data.user]
        ood = among_all(table, half & valid, half & test, (valid | test) & ~half)
        return with_iid(table, ood, self.iid_share, seed)


def rows_of_items(table: Table, valid: Tensor, test: Tensor, candidates: OodCandidates) -> OodDraw:
    """All interactions of the held-out items ``valid`` and ``test`` (``[I]`` bool)."""
    item, held_out = table.interactions.item, valid | test
    rows = OodRows(
        valid=valid[item],
        test=test[item],
        candidates=held_out if candidates == "held_out" else torch.ones_like(held_out),
        held_out=candidates == "held_out",
    )
    return OodDraw(parts={"ood": rows}, taken=held_out[item])


def held_out_members(
    choice: GroupChoice, labels: np.ndarray, degree: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Members of the groups held out for valid and for test, ``[M]`` bool each.

    The groups are dealt so that both sides have about as many interactions: the largest first, each to
    the side that has fewer so far.

    Args:
        choice: which groups.
        labels: ``[M]`` names of the members' groups.
        degree: ``[M]`` interactions; members without one do not count.
        seed: draws groups and sides.

    Raises:
        ConfigError: a group does not exist, or the share holds fewer than two of them.
    """
    names, group = np.unique(labels, return_inverse=True)
    members = np.bincount(group, weights=(degree > 0).numpy(), minlength=len(names))
    rows = np.bincount(group, weights=degree.numpy(), minlength=len(names)).astype(np.int64)
    order = torch.randperm(len(names), generator=generator(seed, "split", "groups")).tolist()
    order = [index for index in order if names[index] != "" and members[index] > 0]
    chosen = _named(choice, names, order) if choice.hold_out else _drawn(choice, members, order)
    taken = [0, 0]
    sides: tuple[list[str], list[str]] = ([], [])
    toss = int(torch.randint(2, (1,), generator=generator(seed, "split", "group halves")))
    for index in sorted(chosen, key=lambda index: -rows[index]):
        side = toss if taken[0] == taken[1] else int(taken[1] < taken[0])
        taken[side] += rows[index]
        sides[side].append(names[index])
    valid, test = (torch.from_numpy(np.isin(labels, np.array(side, dtype=np.str_))) for side in sides)
    return valid, test


def _named(choice: GroupChoice, names: np.ndarray, order: list[int]) -> list[int]:
    """The groups to ``hold_out``, in the drawn order; those that have no one are not there."""
    known = names[sorted(order)].tolist()
    unknown = [name for name in choice.hold_out if name not in known]
    if unknown:
        rule = f"there is no such group; there are {listing(known, 30)}"
        raise ConfigError(rule, key="split.hold_out", value=", ".join(unknown))
    return [index for index in order if names[index] in choice.hold_out]


def _drawn(choice: GroupChoice, members: np.ndarray, order: list[int]) -> list[int]:
    """The first groups of the drawn order that together hold the share of all members."""
    wanted = choice.share * int(members.sum())
    chosen: list[int] = []
    held = 0
    for index in order:
        if held < wanted and members[index] <= MAX_GROUP * wanted:
            chosen.append(index)
            held += members[index]
    if len(chosen) < 2:
        raise ConfigError(
            f"of {len(order)} groups fewer than 2 hold at most {MAX_GROUP:.0%} of that share; "
            "raise it, or name at least 2 groups in hold_out",
            key="split.share",
            value=choice.share,
        )
    return chosen
