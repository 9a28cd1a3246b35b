"""What is known of users, joined to the ids that the filters left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from painvrl.data.dataset import Dataset
from painvrl.data.sources.items import JoinedIds, labels_at


@dataclass(frozen=True, kw_only=True)
class UserDescriptions:
    """A table of ``M`` users.

    Attributes:
        ids: ``[M]`` distinct raw ids, str objects.
        columns: what splits may group by, ``M`` labels each, empty where unknown.
        key: where they come from, in the configuration.
        file: for messages.
        at_least: the smallest share of the users that the table must have.
    """

    ids: np.ndarray
    columns: Mapping[str, Sequence[str] | np.ndarray]
    key: str
    file: Path
    at_least: float = 0.0


def with_users(dataset: Dataset, described: UserDescriptions, everyone: np.ndarray) -> Dataset:
    """``dataset`` with the labels of its users, and the join in its provenance.

    Args:
        dataset: after all filters.
        described: the table.
        everyone: distinct user ids of the interactions, before any filter.

    Raises:
        DataError: the table has too few of the users.
    """
    users = JoinedIds(of="users", everyone=everyone, left=dataset.user_ids)
    join = users.join("user table", described.key, described.ids)
    join.require(described.at_least, file=described.file)
    labels = labels_at(dataset.user_ids, described.ids, described.columns)
    return replace(
        dataset,
        columns=replace(dataset.columns, user=labels),
        provenance=replace(dataset.provenance, joins=(*dataset.provenance.joins, join)),
    )
