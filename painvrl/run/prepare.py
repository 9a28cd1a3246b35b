"""From a configuration to data on the device, ready to train and to evaluate."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from painvrl.core.device import memory_of
from painvrl.core.errors import ConfigError, DataError
from painvrl.core.rng import derive_seed
from painvrl.data.dataset import BATCH, Columns, Dataset
from painvrl.data.digest import digest_of
from painvrl.data.features import FeatureRows, build_features, modalities_of
from painvrl.data.grouping import TIME
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.data.sources import load
from painvrl.data.splits import Split, make_split
from painvrl.data.splits.rows import ShownFeatures
from painvrl.evaluation.metrics import split_name
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import RankingPlan, plan_ranking
from painvrl.invariance.mask import count_gates
from painvrl.model.folding import Support, plan_support
from painvrl.model.streamed import Features, StreamedFeatures
from painvrl.model.training_data import TrainingData, training_data
from painvrl.run.config import TrainConfig
from painvrl.run.known import short_lists, with_known_groups

_logger = logging.getLogger(__name__)

_BLOCK = 8192
"""Items whose vectors are compared at once."""
MOST_OF_MEMORY = 0.25
"""Of the device's memory: features that take more stay on the host, and pass the device in blocks."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set, its split, and what they look like on the device.

    Attributes:
        dataset, split: on the CPU.
        train: the interactions trained on, on the CPU: ``split.train``, or more for a refit.
        features: ``[I, F]`` on the device, or what streams them to it; statistics fitted on the train items.
        widths: columns of the features by modality, in their order.
        training: the training part indexed for the losses.
        valid_plan: how the valid parts are ranked, in one pass.
        support: what users that ``train`` does not have are folded in by, if any.
        device: where it all lies.
        columns_read: digest of the data's columns where settings read them, else empty.
    """

    dataset: Dataset
    split: Split
    train: Interactions
    features: Features
    widths: Mapping[str, int]
    training: TrainingData
    evaluation: EvaluationConfig
    valid_plan: RankingPlan
    support: Support | None
    device: torch.device
    columns_read: str

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Digests of the data set and the split, and of the columns where settings read them."""
        read = (self.columns_read,) if self.columns_read else ()
        return (self.dataset.fingerprint, self.split.fingerprint, *read)


def prepare(config: TrainConfig, *, cache_dir: Path, device: torch.device) -> Prepared:
    """Load, split and index the data of ``config``; reading and encoding are cached on disk.

    Raises:
        UserError: the data is missing or breaks a rule.
    """
    dataset, split = split_of(config, cache_dir=cache_dir)
    return prepare_split(config, dataset, split, split.train, device)


def split_of(config: TrainConfig, *, cache_dir: Path) -> tuple[Dataset, Split]:
    """The data of ``config`` and their split, on the CPU; features are as the split shows them.

    Raises:
        UserError: the data is missing or breaks a rule.
    """
    dataset = load(config.data, cache_dir=cache_dir, seed=config.seed)
    split = make_split(dataset, config.split, seed=derive_seed(config.seed, "split"))
    if (shown := split.shown) is not None:
        split = split.saying(notes=_what_is_shown(dataset, shown))
        dataset = as_shown(dataset, shown)
    ranked = {
        part.name: part.candidates
        for part in split.statistics.parts
        if part.candidates is not None and part.name.endswith("_valid")
    }
    if (short := short_lists(ranked, split_name(config.training.monitor)[2])) is not None:
        split = split.saying(findings=[f"training.monitor: {short}"])
    return dataset, check_fits(config, dataset, split)


def check_fits(config: TrainConfig, dataset: Dataset, split: Split, *, trained: bool = False) -> Split:
    """The split with what is to be said of features and environments that ``config`` makes of the data.

    ``trained``: look at its mask, too; not every configuration that data are read for is trained.

    Raises:
        ConfigError: they cannot be made.
    """
    known = split.train.item_degree() > 0
    made = modalities_of(dataset.modalities, dataset.columns, known, config.features, config.seed)
    if made and trained and config.mask.source in {"learned", "random"}:
        count_gates([modality.values.shape[1] for modality in made.values()], config.mask)
    if findings := [_of_one_column(name, config) for name, one in made.items() if one.values.shape[1] == 1]:
        split = split.saying(findings=findings)
    return with_known_groups(config, dataset, split) if config.environments.column else split


def _of_one_column(name: str, config: TrainConfig) -> str:
    """Rows are scaled to unit length."""
    if name in config.features.smooth:
        return f"features.smooth.{name}.width: all train items have one value, so all are alike"
    return f"features: {name} has one column, of which only the sign is left in rows of unit length"


def as_shown(dataset: Dataset, shown: ShownFeatures) -> Dataset:
    """The data set as a shift of features shows it, whose batches are a column of the items."""
    batch = np.where(shown.changed.numpy(), "changed", "as it is")
    columns = replace(dataset.columns, item={**dataset.columns.item, BATCH: batch})
    return replace(dataset, modalities=shown.of(dataset.modalities), columns=columns)


def _what_is_shown(dataset: Dataset, shown: ShownFeatures) -> list[str]:
    """How many items a shift of features changed, and how many of them look as before."""
    values, changed, lacking = dataset.modalities[shown.modality].values, shown.changed, shown.source < 0
    what = f"split.modality: items whose {shown.modality} is"
    notes = [f"{what} taken away: {int(lacking.sum()):,}"] if lacking.any() else []
    (swapped,) = (changed & ~lacking).nonzero(as_tuple=True)
    if len(swapped):
        blocks = [
            (values[rows] == values[shown.source[rows]]).all(dim=1).sum() for rows in swapped.split(_BLOCK)
        ]
        alike = int(torch.stack(blocks).sum())
        same = f"; {alike:,} of them have that of an item with the same values" if alike else ""
        notes.append(f"{what} another item's: {len(swapped):,}{same}")
    return notes


def with_features(prepared: Prepared, config: TrainConfig) -> Prepared:
    """``prepared`` with the features of ``config``, whose data, split and evaluation must be the same."""
    features, widths = _features(config, prepared.dataset, prepared.train, prepared.device)
    read = columns_read(config, prepared.dataset.columns)
    return replace(prepared, features=features, widths=widths, columns_read=read)


def _features(
    config: TrainConfig, dataset: Dataset, train: Interactions, device: torch.device
) -> tuple[Features, dict[str, int]]:
    """``[I, F]``, and how many of the columns each modality has."""
    known = train.item_degree() > 0
    modalities = modalities_of(dataset.modalities, dataset.columns, known, config.features, config.seed)
    widths = {name: modality.values.shape[1] for name, modality in modalities.items()}
    size, memory = 4 * dataset.interactions.n_items * sum(widths.values()), memory_of(device)
    if memory is None or size <= MOST_OF_MEMORY * memory:
        return build_features(modalities, known, config.features).to(device), widths
    said = f"{size / 2**30:,.1f} GiB, more than {MOST_OF_MEMORY:.0%} of the memory of {device}"
    _require_streaming(config, said)
    _logger.info("features take %s: they pass it in blocks", said)
    made = FeatureRows.of(modalities, known, config.features)
    return StreamedFeatures(made=made, device=device), widths


def _require_streaming(config: TrainConfig, said: str) -> None:
    """Refuse what needs the whole matrix of the features on the device.

    Raises:
        ConfigError: the setting, and that they do not fit.
    """
    mask, backbone = config.mask, config.backbone
    dropped = backbone.modality_dropout if backbone.loss.kind == "gramian" else 0.0
    for key, value, asks in (
        ("training.compile", config.training.compile, config.training.compile),
        ("backbone.modality_dropout", dropped, dropped > 0),
        ("mask.penalty", mask.penalty, mask.source == "learned" and mask.reads_variances),
    ):
        if asks:
            rule = f"needs features that fit the device; they take {said}"
            raise ConfigError(rule, key=key, value=value)


def with_train(config: TrainConfig, prepared: Prepared, train: Interactions) -> Prepared:
    """``prepared`` with another training part, more for a refit or less without an environment.

    Features stay as they are, with smooth columns and statistics of the items trained on before: a mask gates
    these, and a kept model makes them of new items.
    """
    made = prepared.features, dict(prepared.widths)
    return prepare_split(config, prepared.dataset, prepared.split, train, prepared.device, made)


def prepare_split(
    config: TrainConfig,
    dataset: Dataset,
    split: Split,
    train: Interactions,
    device: torch.device,
    made: tuple[Features, dict[str, int]] | None = None,
) -> Prepared:
    """Index a split whose training part is ``train``; ``made`` are its features and widths, if they are.

    Raises:
        UserError: ``training.monitor`` names a part that the split does not have, or no one is in a part.
    """
    hidden, support = [train], None
    if split.support is not None:
        hidden.append(split.support)
        untrained = train.user_degree() == 0
        cold = split.support.select(untrained[split.support.user])
        support = plan_support(cold, train.item_degree() > 0, device)
    plan = plan_parts(split.valid, hidden, config.evaluation, device, data=dataset.columns, means=split.means)
    watched = config.training.monitor.partition("/")[0]
    if not config.training.stops_by_loeo and watched not in plan.names:
        raise ConfigError(
            f"the split has no such part; it has {', '.join(plan.names)}",
            key="training.monitor",
            value=watched,
        )
    features, widths = made or _features(config, dataset, train, device)
    return Prepared(
        dataset=dataset,
        split=split,
        train=train,
        features=features,
        widths=widths,
        training=training_data(train, device),
        evaluation=config.evaluation,
        valid_plan=plan,
        support=support,
        device=device,
        columns_read=columns_read(config, dataset.columns),
    )


def columns_read(config: TrainConfig, columns: Columns) -> str:
    """A digest of the columns that features and environments are made of; empty where there are none."""
    names = sorted({*config.features.smooth, *(one.column for one in config.environments.column)})
    if not names:
        return ""
    time = columns.time if TIME in names else None
    parts: list[object] = [names, None if time is None else time.numpy()]
    for of in (columns.interaction, columns.item, columns.user):
        parts += [of[name] for name in names if name in of]
    return digest_of(*parts)


def plan_parts(
    parts: Mapping[str, Part],
    hidden: list[Interactions],
    evaluation: EvaluationConfig,
    device: torch.device,
    *,
    data: Columns | None = None,
    means: Mapping[str, tuple[str, ...]] | None = None,
) -> RankingPlan:
    """Plan the ranking of ``parts``; the metrics of each are called after its key, ``key/...``.

    ``data``: what is known of users and items, for metrics of groups. ``means``: names of further metrics,
    each the mean of those of the parts that it lists.

    Raises:
        DataError: no one has a positive in one of them, so its metrics have no value.
    """
    for part in parts.values():
        if len(part.interactions) == 0:
            raise DataError("leaves a part without a single user to evaluate", key="split", value=part.name)
    renamed = [replace(part, name=name) for name, part in parts.items()]
    return replace(plan_ranking(renamed, hidden, evaluation, device, data), means=means or {})
