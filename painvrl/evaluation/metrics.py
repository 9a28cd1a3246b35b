"""Ranking metrics: each is one class that carries its name, its settings and its formula.

All are to be maximised. Most have a value for each user, whose mean over users comes last; list-wise ones
have one value of all users' lists together.

Shape letters: ``U`` users with positives in the part, ``R`` ranks (the largest cut-off), ``K``
cut-offs, ``I`` items, ``C`` candidates, ``N`` positives of all users.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.registry import Registry, SettingsIn
from painvrl.core.settings import Settings
from painvrl.data.dataset import Columns
from painvrl.data.interactions import Interactions

NO_ITEM = -1
"""Where a list ends early: a user has fewer candidates than ranks."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the users of a part are shown, on the CPU, and sums of it that several metrics need.

    One user with two positives, who finds the first of them at rank 1 and the second at rank 3:

    >>> shown = Shown(hits=torch.tensor([[True, False, True]]), positives=torch.tensor([2]), ks=(1, 3))
    >>> Recall().at(shown).tolist()
    [[0.5, 1.0]]
    >>> Ndcg().at(shown)
    tensor([[1.0000, 0.9197]], dtype=torch.float64)

    Attributes:
        hits: ``[U, R]`` bool, whether the item at each rank is one of the user's positives.
        positives: ``[U]`` how many positives the user has in this part, at least 1.
        ks: cut-offs, each at most ``R``.
        items: ``[U, R]`` the items themselves, or ``NO_ITEM``; only for metrics with ``reads_items``.
        users: ``[U]`` ascending.
        taken: the positives, perhaps of further users.
        candidates: ``[C]`` the items that the part is ranked among.
        columns: what is known of users and items.
    """

    hits: Tensor
    positives: Tensor
    ks: Sequence[int]
    items: Tensor | None = None
    users: Tensor | None = None
    taken: Interactions | None = None
    candidates: Tensor | None = None
    columns: Columns = field(default_factory=Columns)

    @cached_property
    def cutoff(self) -> Tensor:
        """``[K]`` the cut-offs."""
        return torch.tensor(list(self.ks), device=self.hits.device)

    @cached_property
    def discount(self) -> Tensor:
        """``[R]`` float64: what a hit at each rank gains."""
        places = torch.arange(2, self.hits.shape[1] + 2, device=self.hits.device, dtype=torch.float64)
        return 1.0 / torch.log2(places)

    @cached_property
    def found(self) -> Tensor:
        """``[U, K]`` float64: hits."""
        return self.hits.double().cumsum(1)[:, self.cutoff - 1]

    @cached_property
    def gain(self) -> Tensor:
        """``[U, K]`` float64: discounted hits."""
        return (self.hits.double() * self.discount).cumsum(1)[:, self.cutoff - 1]

    def best_gain(self, positives: Tensor) -> Tensor:
        """The gain of lists with so many positives on top; any shape of int64, each at most ``R``."""
        return torch.cat([self.discount.new_zeros(1), self.discount.cumsum(0)])[positives]


class Metric(Settings):
    """The base of all metrics: settings with a field ``name``, and a formula."""

    is_of_users: ClassVar[bool] = True
    """Whether it has a value for each user. Only such a one has intervals by users."""

    name: str
    """Which metric; decides which other keys there are."""

    @abstractmethod
    def at(self, shown: Shown) -> Tensor:
        """``[U, K]`` float64 of every user or, where not ``is_of_users``, ``[K]`` of all lists together."""

    @property
    def reads_items(self) -> bool:
        """Whether it looks at ``Shown.items``, which cost a second selection of the top ranks."""
        return False

    def check(self, columns: Columns) -> None:
        """Refuse data on which it has no value.

        Raises:
            ConfigError: that is so.
        """


METRICS = Registry[type[Metric]]("metric", group="painvrl.metrics", within="painvrl.evaluation")


@METRICS.register
class Recall(Metric):
    """The share of a user's positives that the list holds."""

    name: Literal["recall"] = "recall"

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`."""
        return shown.found / shown.positives.double()[:, None]


@METRICS.register
class Ndcg(Metric):
    """The list's gain by that of the best possible one, which holds ``min(positives, k)`` positives."""

    name: Literal["ndcg"] = "ndcg"

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`."""
        return shown.gain / shown.best_gain(torch.minimum(shown.positives[:, None].long(), shown.cutoff))


@METRICS.register
class Precision(Metric):
    """The share of the list's places that hold a positive."""

    name: Literal["precision"] = "precision"

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`."""
        return shown.found / shown.cutoff


@METRICS.register
class HitRate(Metric):
    """Whether the list holds a positive."""

    name: Literal["hit_rate"] = "hit_rate"

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`."""
        return (shown.found > 0).double()


@METRICS.register
class InvRLNdcg(Metric):
    """The gain by that of the best order of the *hits*, as in InvRL's code: inflated, for comparison only."""

    name: Literal["ndcg_invrl"] = "ndcg_invrl"

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`."""
        best = shown.best_gain(shown.found.long())
        return torch.where(shown.found > 0, shown.gain / best.clamp_min(1e-12), 0.0)


class _ListWise(Metric):
    is_of_users: ClassVar[bool] = False

    @property
    def reads_items(self) -> bool:
        """See :class:`Metric`."""
        return True


@METRICS.register
class Coverage(_ListWise):
    """The share of the candidates that somebody is shown."""

    name: Literal["coverage"] = "coverage"

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`."""
        return (_exposure(shown) > 0).double().mean(dim=1)


@METRICS.register
class GiniDiversity(_ListWise):
    """One minus the Gini index of how often each candidate is shown: 1 where all are shown alike."""

    name: Literal["gini_diversity"] = "gini_diversity"

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`."""
        often = _exposure(shown).double().sort(dim=1).values
        size = often.shape[1]
        place = 2 * torch.arange(1, size + 1, dtype=torch.float64) - size - 1
        return 1 - (often * place).sum(dim=1) / (size * often.sum(dim=1)).clamp_min(1)


@METRICS.register
class WorstGroupNdcg(Metric):
    """The least of the mean NDCG of groups, which a column of users or of items tells apart.

    A user's NDCG for a group of items counts the positives of that group alone; users without any are left
    out.
    """

    is_of_users: ClassVar[bool] = False

    name: Literal["worst_group_ndcg"] = "worst_group_ndcg"
    column: str
    """Column that names the groups; those with an empty label are left out."""
    of: Literal["user", "item"] = "user"
    """Whether the column is one of the users or of the items."""
    min_users: int = Field(default=20, ge=1)
    """Groups with fewer users are left out."""

    @property
    def reads_items(self) -> bool:
        """See :class:`Metric`."""
        return self.of == "item"

    def check(self, columns: Columns) -> None:
        """See :class:`Metric`."""
        known: Mapping[str, np.ndarray] = columns.user if self.of == "user" else columns.item
        if self.column not in known:
            rule = (
                f"the data have no such column of {self.of}s; they have {', '.join(sorted(known)) or 'none'}"
            )
            raise ConfigError(rule, key=f"evaluation.also.{self.name}.column", value=self.column)

    def at(self, shown: Shown) -> Tensor:
        """See :class:`Metric`.

        Raises:
            ConfigError: every group is too small.
        """
        self.check(shown.columns)
        means = [values.mean(dim=0) for values in self._groups(shown) if len(values)]
        if not means:
            rule = f"no group of {self.column!r} has {self.min_users} users in one of the parts"
            raise ConfigError(rule, key=f"evaluation.also.{self.name}.min_users")
        return torch.stack(means).amin(dim=0)

    def _groups(self, shown: Shown) -> Iterator[Tensor]:
        """``[n, K]`` of the users of each group that is large enough in the whole part."""
        assert shown.users is not None
        assert shown.taken is not None
        of_users = self.of == "user"
        labels = (shown.columns.user if of_users else shown.columns.item)[self.column]
        row = torch.full((shown.taken.n_users,), -1)
        row[shown.users] = torch.arange(len(shown.users))
        for label in filter(None, np.unique(labels)):
            member = torch.from_numpy(labels == label)
            own = shown.taken.select(member[shown.taken.user if of_users else shown.taken.item])
            if len(own.user.unique()) < self.min_users:
                continue
            rows = row[own.user]
            positives = torch.bincount(rows[rows >= 0], minlength=len(shown.users))
            some = positives > 0
            hits = shown.hits
            if not of_users:
                assert shown.items is not None
                hits = hits & member[shown.items.clamp_min(0)]
            yield Ndcg().at(Shown(hits=hits[some], positives=positives[some], ks=shown.ks))


def _exposure(shown: Shown) -> Tensor:
    """``[K, C]`` how many users are shown each candidate."""
    assert shown.items is not None
    assert shown.candidates is not None
    size = int(shown.candidates.max()) + 1
    tops = [shown.items[:, :k] for k in shown.ks]
    return torch.stack(
        [torch.bincount(top[top != NO_ITEM], minlength=size)[shown.candidates] for top in tops]
    )


STANDARD: tuple[Metric, ...] = (Recall(), Ndcg(), Precision(), HitRate(), InvRLNdcg())
"""What every ranking measures."""

AnyMetric = Annotated[Metric, SettingsIn(METRICS, by_name=True)]


def name(part: str, metric: str, k: int) -> str:
    """The one spelling of a metric's name: ``ood/recall_at_20``."""
    return f"{part}/{metric}_at_{k}"


def list_wise(names: Sequence[str]) -> list[str]:
    """Those of full names whose metric has no value of a single user."""
    metrics = {full: split_name(full)[1] for full in names}
    return [
        full for full, metric in metrics.items() if metric in METRICS and not METRICS.get(metric).is_of_users
    ]


def split_name(full: str) -> tuple[str, str, int]:
    """The part, the metric and the cut-off of a full name, whether there is such a metric or not.

    Raises:
        ValueError: it is not made of these.
    """
    match = re.fullmatch(r"([^/]+)/([^/]+)_at_([1-9][0-9]*)", full)
    if match is None:
        raise ValueError(f"is not a metric; one reads PART/METRIC_at_K (found {full!r})")
    return match[1], match[2], int(match[3])
