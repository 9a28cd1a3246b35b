"""From raw rows to a data set: the path that all real data take.

Duplicates, the rating threshold, the core, and the join of the modalities are the same for all sources. What
each of them took or matched goes into the data set's provenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from pydantic import AfterValidator, Field

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Columns, Dataset
from painvrl.data.digest import dataset_fingerprint
from painvrl.data.interactions import Interactions
from painvrl.data.provenance import Join, Provenance
from painvrl.data.sources.columns import Column, Decimal
from painvrl.data.sources.items import (
    ItemDescriptions,
    JoinedIds,
    described_modalities,
    has_every_modality,
    joined,
    labels_at,
    titles_of,
)
from painvrl.data.sources.messages import Place
from painvrl.data.sources.modality_file import ModalityFile, read_modality
from painvrl.data.sources.port import Source
from painvrl.data.sources.rows import Duplicates, RawInteractions, core_rows, without_duplicates
from painvrl.data.sources.text import encoder_id
from painvrl.data.sources.values import KeyedValues

T = TypeVar("T")


def _with_free_names(modalities: dict[str, T]) -> dict[str, T]:
    for name in modalities:
        if not name.replace("-", "_").isidentifier():
            raise ValueError(f"a modality's name must be letters, digits, - and _ (found {name!r})")
        if name in ("text", "genres", "categories"):
            raise ValueError(f"the name {name!r} is taken by a built-in modality")
    return modalities


Modalities = Annotated[dict[str, T], AfterValidator(_with_free_names)]
"""Of a modality each, by names that can be keys of YAML and are not taken."""


class SourceConfig(Source):
    """What real data have in common."""

    duplicates: Duplicates = "latest"
    """Row kept of a repeated (user, item) pair: ``latest``, ``best`` rated, ``first_part`` (train before
    valid before test), or ``error``. Rows that still differ are an error.
    """
    min_rating: float | None = None
    """Keep interactions rated at least this high; ``null`` keeps all."""
    core: int = Field(default=5, ge=1)
    """Keep users and items with so many interactions or more, repeated until nothing changes. 1 keeps all."""
    items: Literal["all", "with_every_modality"] = "all"
    """``with_every_modality`` keeps items that have every modality, before the core. ``all`` gives the others
    rows of zeros.
    """
    # Left out of what is written while nothing is in it, as configurations of old have none.
    decimal: Decimal | None = Field(default=None, exclude_if=lambda decimal: decimal is None)
    """What stands before the decimals of ratings, times and features of text tables, ``,`` or ``.``.
    ``null``: what all of a column can only be.
    """
    files: Modalities[ModalityFile] = Field(default_factory=dict)
    """Further modalities by name."""

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        return tuple(path for source in self.files.values() for path in source.files())

    @property
    def uses_text(self) -> bool:
        """Whether item texts are encoded."""
        return False

    def packages(self) -> tuple[str, ...]:
        """See :class:`Source`."""
        return (encoder_id(),) if self.uses_text else ()


def assemble(
    name: str,
    raw: RawInteractions,
    described: ItemDescriptions,
    config: SourceConfig,
    cache: ArrayCache,
    features: Mapping[str, KeyedValues] | None = None,
) -> Dataset:
    """Filter, number and join.

    Users and items are numbered in the order of their ids (see :mod:`painvrl.data.sources.texts`), and
    interactions are sorted by user and item, so that the order of the rows does not matter.
    ``features``: modalities that the source itself brings, before those of ``config.files``.

    Raises:
        DataError: nothing is left, a pair occurs again against the rule, or a modality's file does not fit.
    """
    features = features or {}
    for modality in config.files:
        if modality in features:
            rule = "the data set brings a modality of that name; choose another one"
            raise Place(raw.file, f"data.files.{modality}").error(rule)
    files = {
        modality: read_modality(source, where=f"data.files.{modality}", decimal=config.decimal)
        for modality, source in config.files.items()
    }
    everyone = raw.item.distinct
    raw = without_duplicates(raw, config.duplicates)
    if config.min_rating is not None:
        if raw.rating is None:
            raise Place(raw.file, "data.min_rating").error("needs ratings")
        keep = raw.rating >= config.min_rating
        rule = f"keep what is rated {config.min_rating:g} or more"
        raw = _filtered(raw, keep, "data.min_rating", rule, config.min_rating)
    if config.items == "with_every_modality":
        keep = has_every_modality(raw.item, described, {**features, **files})
        rule = "keep items that have every modality"
        raw = _filtered(raw, keep, "data.items", rule, config.items)
    keep = core_rows(raw.user.code, raw.item.code, config.core)
    rule = f"keep users and items with {config.core} or more interactions"
    raw = _filtered(raw, keep, "data.core", rule, config.core)

    items = JoinedIds(of="items", everyone=everyone, left=raw.item.distinct)
    raw = raw.select(np.argsort(raw.user.code * len(items.left) + raw.item.code, kind="stable"))
    interactions = Interactions(
        user=torch.from_numpy(raw.user.code),
        item=torch.from_numpy(raw.item.code),
        n_users=len(raw.user.distinct),
        n_items=len(items.left),
    )
    modalities, joins, notes = described_modalities(items, described, cache)
    notes = (*raw.notes, *described.notes, *notes)
    findings = [*raw.findings, *described.findings]
    for modality, keyed in {**features, **files}.items():
        source = config.files.get(modality)
        modalities[modality], join, found = joined(
            modality,
            items,
            keyed,
            file=raw.file if source is None else source.path,
            key=f"data.{'features' if source is None else 'files'}.{modality}",
            value=None if source is None else source.key,
        )
        if source is not None:
            join.require(source.at_least, file=source.path)
        joins += (join,)
        notes += keyed.notes
        findings += found
    titles = titles_of(items.left, described)
    return Dataset(
        name=name,
        interactions=interactions,
        user_ids=raw.user.distinct,
        item_ids=items.left,
        titles=tuple(title or raw_id for title, raw_id in zip(titles, items.left.tolist(), strict=True)),
        modalities=modalities,
        columns=Columns(
            time=None if raw.time is None else torch.from_numpy(raw.time),
            interaction=raw.labels,
            item=labels_at(items.left, described.ids, described.columns),
            contradictions=raw.contradictions,
        ),
        provenance=Provenance(
            joins=(*joins, *_described_joins(items, described, titles)),
            removals=raw.removals,
            notes=notes,
            findings=tuple(findings),
        ),
        fingerprint=dataset_fingerprint(interactions, raw.user.distinct, items.left, modalities),
    )


def with_users(
    dataset: Dataset,
    ids: Column,
    columns: Mapping[str, np.ndarray],
    *,
    everyone: np.ndarray,
    key: str,
    at_least: float = 0.0,
) -> Dataset:
    """``dataset`` with the labels of its users, and the join in its provenance.

    Args:
        dataset: after all filters.
        ids: of the table of ``M`` users.
        columns: what splits may group by, ``M`` labels each, empty where unknown.
        everyone: distinct user ids of the interactions, before any filter.
        key: where the table comes from, in the configuration.
        at_least: the smallest share of the users that the table must have.

    Raises:
        DataError: the table has too few of the users, or one of them twice.
    """
    known = ids.distinct_ids("user").rows
    join = JoinedIds(of="users", everyone=everyone, left=dataset.user_ids).join("user table", key, known)
    join.require(at_least, file=ids.table.file)
    return replace(
        dataset,
        columns=replace(dataset.columns, user=labels_at(dataset.user_ids, known, columns)),
        provenance=replace(
            dataset.provenance,
            joins=(*dataset.provenance.joins, join),
            notes=(*dataset.provenance.notes, *ids.table.notes),
        ),
    )


def _described_joins(
    items: JoinedIds, described: ItemDescriptions, titles: tuple[str, ...]
) -> tuple[Join, ...]:
    """What the table of items, if there is one, says of them."""
    if not len(described.ids):
        return ()
    joins = [items.join("item table", described.key, described.ids)]
    if described.titles:
        with_title = sum(bool(title) for title in titles)
        joins.append(items.join("titles", described.key, described.ids, matched=with_title))
    return tuple(joins)


def _filtered(raw: RawInteractions, keep: np.ndarray, name: str, rule: str, value: object) -> RawInteractions:
    """The rows to ``keep`` (``[R]`` bool)."""
    if keep.all():
        return raw
    if not keep.any():
        said = f"the rule to {rule} leaves none of {len(keep):,} interactions"
        raise Place(raw.file, name, value).error(said)
    return raw.reduced_to(keep, name, rule)
