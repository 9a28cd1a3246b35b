"""A split: a data set in disjoint parts, made by a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.registry import SettingsIn
from painvrl.data.dataset import Dataset
from painvrl.data.digest import digest_of, digest_of_interactions, digested_ids
from painvrl.data.guard import GuardedParts
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part, ood_mean
from painvrl.data.split_statistics import SplitStatistics, split_statistics
from painvrl.data.splits.rows import PROTOCOLS, Assignment, ShownFeatures, SplitRule, table_of

SplitConfig = Annotated[SplitRule, SettingsIn(PROTOCOLS)]


@dataclass(frozen=True, kw_only=True)
class Split:
    """A data set in disjoint parts, all in the data set's id space.

    Attributes:
        train: what may be learnt from.
        valid: the valid parts by the name of their metrics: ``iid``, ``ood``, and further ``ood_NAME``.
        fingerprint: digest of the interactions, the configuration and the seed, and of the rows where
            columns decided them. Features do not enter.
        sealed: the test part of each.
        support: rows of users that train does not have; their vectors are fitted to these, with the
            items frozen, and nothing else is learnt from them.
        shown: what the items' features are changed to, where that is the shift.
        statistics: counts of all parts.
    """

    train: Interactions
    valid: Mapping[str, Part]
    fingerprint: str
    sealed: GuardedParts
    support: Interactions | None
    statistics: SplitStatistics
    shown: ShownFeatures | None = None

    @property
    def iid_valid(self) -> Part:
        """Like train."""
        return self.valid["iid"]

    @property
    def ood_valid(self) -> Part:
        """Shifted; the first OOD part where there are several."""
        return next(part for name, part in self.valid.items() if name != "iid")

    @property
    def means(self) -> Mapping[str, tuple[str, ...]]:
        """Names of metrics that are the mean over parts: see :func:`painvrl.data.parts.ood_mean`."""
        return ood_mean(self.valid)

    def saying(self, *, notes: Sequence[str] = (), findings: Sequence[str] = ()) -> Split:
        """The same with more to say of it."""
        found = self.statistics.provenance
        found = replace(found, notes=(*found.notes, *notes), findings=(*found.findings, *findings))
        return replace(self, statistics=replace(self.statistics, provenance=found))


def make_split(dataset: Dataset, config: SplitConfig, *, seed: int) -> Split:
    """Split ``dataset`` by ``config``.

    Users that neither train nor the support has have no row in any part, and neither have items without a
    train interaction in an IID part (the statistics count both). Unless ``config.iid_candidates`` says
    otherwise,
    IID rows are ranked among all items wherever OOD rows are: in one list, a cold item that is pushed up
    costs IID quality.

    Raises:
        ConfigError: the protocol does not fit the data set, or would leave a part empty.
    """
    table = table_of(dataset)
    data = table.interactions
    rows = config.assign(table, seed)
    train = data.select(rows.train())
    support = None if rows.support is None else data.select(rows.support)
    warm = train.item_degree() > 0
    known_users = train.user_degree() > 0
    if support is not None:
        known_users |= support.user_degree() > 0
    known = known_users[data.user]
    in_distribution = known & warm[data.item]
    # Some OOD part is ranked among warm and cold items alike.
    ranks_cold = any(part.candidates is not None and not part.held_out for part in rows.ood.values())
    one_list = ranks_cold if config.iid_candidates is None else config.iid_candidates == "all"
    there = _rankable(rows, data)
    usual = there if one_list else warm

    valid: dict[str, Part] = {}
    test: dict[str, Part] = {}
    for stage, parts, iid in (("valid", valid, rows.iid_valid), ("test", test, rows.iid_test)):
        parts["iid"] = Part(
            name=f"iid_{stage}", interactions=data.select(iid & in_distribution), candidates=usual
        )
        for name, shifted in rows.ood.items():
            chosen = shifted.valid if stage == "valid" else shifted.test
            parts[name] = Part(
                name=f"{name}_{stage}",
                interactions=data.select(chosen & known),
                candidates=usual if shifted.candidates is None else shifted.candidates & there,
                held_out=shifted.held_out,
            )
    counted = {"train": train}
    for pair in zip(valid.values(), test.values(), strict=True):
        counted |= {part.name: part.interactions for part in pair}
    for name, part in counted.items():
        if len(part) == 0:
            raise ConfigError(
                f"the protocol {config.protocol} leaves {name} without an interaction; "
                "change the shares or bring more data",
                key="split",
                value=f"{len(data)} interactions",
            )
    content: list[object] = [digest_of_interactions(data, dataset.user_ids, dataset.item_ids)]
    content += [config.model_dump(mode="json", exclude={"iid_candidates"}), seed]
    if config.reads_columns:
        content.append(_numbered(rows, len(data)).numpy())
    # Reads of the same test rows add up, whatever they are ranked among.
    fingerprint = sealed_as = digest_of(*content)
    if one_list:
        fingerprint = digest_of(*content, "IID among all items")
    if rows.fixed_test is not None:
        kept = data.select(rows.fixed_test)
        users, items = dataset.user_ids[kept.user.numpy()], dataset.item_ids[kept.item.numpy()]
        sealed_as = digest_of(digested_ids(users), digested_ids(items))
    return Split(
        train=train,
        valid=valid,
        fingerprint=fingerprint,
        sealed=GuardedParts(parts=test, fingerprint=sealed_as),
        support=support,
        shown=rows.shown,
        statistics=split_statistics(
            protocol=config.protocol,
            seed=seed,
            data=data,
            parts=counted if support is None else {**counted, "support": support},
            candidates={part.name: part.candidates for part in (*valid.values(), *test.values())},
            dropped_users=int((~known_users & (data.user_degree() > 0)).sum()),
            left_out=rows.left_out,
            provenance=dataset.provenance,
        ),
    )


def _rankable(rows: Assignment, data: Interactions) -> Tensor:
    """``[I]`` bool: all items but those that the protocol leaves out."""
    there = torch.ones(data.n_items, dtype=torch.bool)
    if rows.left_out is not None:
        there[data.item[rows.left_out]] = False
    return there


def _numbered(rows: Assignment, n_rows: int) -> Tensor:
    """``[N]`` uint8: the number of each row's part; 0 is train."""
    number = torch.zeros(n_rows, dtype=torch.uint8)
    members = [rows.iid_valid, rows.iid_test]
    members += [half for part in rows.ood.values() for half in (part.valid, part.test)]
    members += [rows_of for rows_of in (rows.support, rows.left_out) if rows_of is not None]
    for index, member in enumerate(members):
        number[member] = index + 1
    return number
