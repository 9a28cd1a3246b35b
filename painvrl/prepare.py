"""From a configuration to data on the device, ready to train and to evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from painvrl.config import TrainConfig
from painvrl.data.dataset import Dataset
from painvrl.data.features import Features, build_features
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.data.sources import load
from painvrl.data.splits import Split, make_split
from painvrl.errors import DataError
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import RankingPlan, plan_ranking
from painvrl.model.training_data import TrainingData, training_data
from painvrl.rng import derive_seed


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set, its split, and what they look like on the device.

    Attributes:
        dataset, split: on the CPU.
        train: the interactions trained on, on the CPU: ``split.train``, or more for a refit.
        features: ``[I, F]`` on the device; statistics fitted on the train items.
        training: the training part indexed for the losses.
        iid_plan, ood_plan: how the two valid parts are ranked.
        device: where it all lies.
    """

    dataset: Dataset
    split: Split
    train: Interactions
    features: Features
    training: TrainingData
    evaluation: EvaluationConfig
    iid_plan: RankingPlan
    ood_plan: RankingPlan
    device: torch.device


def prepare(config: TrainConfig, *, cache_dir: Path, device: torch.device) -> Prepared:
    """Load, split and index the data of ``config``; reading and encoding are cached on disk.

    Raises:
        UserError: the data is missing or breaks a rule.
    """
    dataset = load(config.data, cache_dir=cache_dir, seed=config.seed)
    split = make_split(dataset, config.split, seed=derive_seed(config.seed, "split"))
    return prepare_split(config, dataset, split, split.train, device)


def prepare_split(
    config: TrainConfig, dataset: Dataset, split: Split, train: Interactions, device: torch.device
) -> Prepared:
    """Index a split whose training part is ``train`` (a refit trains on more than ``split.train``)."""
    features = build_features(dataset.modalities, train.item_degree() > 0, config.features)
    iid, ood = split.iid_valid, split.ood_valid
    return Prepared(
        dataset=dataset,
        split=split,
        train=train,
        features=features.to(device),
        training=training_data(train, device),
        evaluation=config.evaluation,
        iid_plan=plan_part("iid", iid, [train, ood.interactions], config.evaluation, device),
        ood_plan=plan_part("ood", ood, [train, iid.interactions], config.evaluation, device),
        device=device,
    )


def plan_part(
    name: str,
    part: Part,
    hidden: list[Interactions],
    evaluation: EvaluationConfig,
    device: torch.device,
) -> RankingPlan:
    """Plan the ranking of ``part`` whose metrics are called ``name/...``.

    Raises:
        DataError: nobody has a positive in the part, so its metrics have no value.
    """
    if len(part.interactions) == 0:
        raise DataError("leaves a part without a single user to evaluate", key="split", value=part.name)
    renamed = Part(name=name, interactions=part.interactions, candidates=part.candidates)
    return plan_ranking(renamed, hidden, evaluation, device)
