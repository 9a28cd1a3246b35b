"""``temporal`` and ``temporal_user``: what came last is OOD, by everybody's clock or by the user's own."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.data.draws import rank_within
from painvrl.data.splits.popularity import leaves_train
from painvrl.data.splits.rows import PROTOCOLS, Assignment, Share, SplitRule, Table, among_all, with_iid

MIN_USERS = 100
"""Of an OOD part of ``temporal``: a mean over fewer says little."""

MIN_HISTORY = 3
"""Interactions from which on a user's own last one is OOD: one is left to train on, one for IID."""


class _TemporalSplit(SplitRule):
    reads_columns: ClassVar[bool] = True

    ood_share: Share = 0.2
    """OOD rows, as a share of the interactions: of all of them, or of each user's by ``temporal_user``."""
    iid_share: Share = 0.2
    """IID rows, as a share of all interactions; halved into valid and test."""

    _leaves_train = model_validator(mode="after")(leaves_train)


@PROTOCOLS.register
class TemporalSplit(_TemporalSplit):
    """OOD rows are the last ones by time; the earlier half of them is valid, the later one test.

    IID rows are drawn uniformly from the earlier rows; a random core of 1 interaction a user and 1 an item of
    those stays in train. So the OOD rows of users who were not there earlier are dropped. Items that were not
    there stay: they have features. OOD rows are ranked among all items.
    """

    protocol: Literal["temporal"] = "temporal"
    force: bool = False
    """Take OOD parts with fewer than 100 users."""

    def assign(self, table: Table, seed: int) -> Assignment:
        """Cut the time line, then draw IID rows from what is before the cut."""
        data = table.interactions
        place = place_in_time(table, self.protocol, seed)
        late = place >= len(data) - round(self.ood_share * len(data))
        known = torch.bincount(data.user[~late], minlength=data.n_users) > 0
        counted = late & known[data.user]
        ordered = place[counted].sort().values
        half = len(ordered) // 2
        valid = counted & (place < ordered[half]) if half else torch.zeros_like(late)
        test = late & ~valid  # rows of unknown users among them; a split drops those
        if not self.force:
            self._require_users(data.user[valid], data.user[test & counted])
        return with_iid(table, among_all(table, valid, test), self.iid_share, seed)

    def _require_users(self, valid: Tensor, test: Tensor) -> None:
        for name, user in (("ood_valid", valid), ("ood_test", test)):
            if (found := len(user.unique())) < MIN_USERS:
                raise ConfigError(
                    f"the last {self.ood_share:g} of the interactions leave {name} too few users that train "
                    f"knows: at least {MIN_USERS}, or its metrics are noise; raise it, take the protocol "
                    "temporal_user, or set force: true",
                    key="split.ood_share",
                    value=f"{found} users",
                )


@PROTOCOLS.register
class TemporalUserSplit(_TemporalSplit):
    """OOD rows are each user's own last ones; the earlier half of a user's is valid, the later one test.

    Of an odd number the middle one is valid or test by a toss a user, so that users with a single OOD row
    fall into both parts alike. IID rows are drawn uniformly from the earlier rows; a random core of 1
    interaction a user and 1 an item of those stays in train. OOD rows are ranked among all items.

    ``ood_share`` is rounded, but to at least 1 of 3 interactions or more; users with fewer have no OOD row.
    """

    protocol: Literal["temporal_user"] = "temporal_user"

    def assign(self, table: Table, seed: int) -> Assignment:
        """Cut every user's time line, then draw IID rows from what is before the cuts."""
        data = table.interactions
        place = rank_within(data.user, data.n_users, place_in_time(table, self.protocol, seed))
        history = torch.bincount(data.user, minlength=data.n_users)
        tail = (self.ood_share * history.double() + 0.5).floor().long()
        tail = torch.minimum(tail.clamp(min=1), history - 1) * (history >= MIN_HISTORY)
        toss = torch.rand(data.n_users, generator=generator(seed, "split", "ood halves")) < 0.5
        valid_size = (tail + toss.long()) // 2
        place = place - (history - tail)[data.user]
        late = place >= 0
        valid = late & (place < valid_size[data.user])
        return with_iid(table, among_all(table, valid, late & ~valid), self.iid_share, seed)


def place_in_time(table: Table, protocol: str, seed: int) -> Tensor:
    """``[N]`` int64: each row's place in the order of time; rows of the same time by a draw.

    Times are often days. By the rows' own order, the same users would always be the later ones.

    Raises:
        ConfigError: the data have no times.
    """
    time = table.columns.time
    if time is None:
        rule = "needs the time of every interaction (of a table: data.time names the column)"
        raise ConfigError(rule, key="split.protocol", value=f"{protocol} on {table.name}")
    tie = torch.rand(len(table), generator=generator(seed, "split", "ties"), dtype=torch.float64)
    by_tie = torch.argsort(tie)
    order = by_tie[torch.argsort(time[by_tie], stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return place
