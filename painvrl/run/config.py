"""The configuration of one run, composed of the stages' own settings.

The root only composes: a hyper-parameter is declared once, beside the code that reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from painvrl.core.settings import Settings
from painvrl.data.features import FeatureConfig
from painvrl.data.parts import LOEO, ood_mean
from painvrl.data.sources import DataConfig, PlantedConfig
from painvrl.data.splits import PopularitySplit, SplitConfig
from painvrl.evaluation.metrics import split_name
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.invariance.environments import EnvironmentConfig
from painvrl.invariance.mask import MaskConfig
from painvrl.model.fit import TrainingConfig
from painvrl.model.fusion import FusionConfig
from painvrl.model.ultragcn import BackboneConfig
from painvrl.run.presets import PresetName, expanded


class TrainConfig(Settings):
    """Everything that decides what one run computes (and nothing about where it runs)."""

    preset: PresetName | None = Field(default=None, exclude=True)
    """A named method, whose settings fill in what the file leaves out."""
    data: DataConfig
    """Where interactions and features come from."""
    split: SplitConfig = PopularitySplit()
    """How interactions are divided into train, IID and OOD parts."""
    features: FeatureConfig = FeatureConfig()
    """How modalities become one matrix."""
    backbone: BackboneConfig = BackboneConfig()
    """The recommender: its widths, regularisation and loss."""
    training: TrainingConfig = TrainingConfig()
    """How long and how fast models are trained."""
    environments: EnvironmentConfig = EnvironmentConfig()
    """How environments are identified (module 1)."""
    mask: MaskConfig = MaskConfig()
    """How the invariant mask is learned (module 2)."""
    fusion: FusionConfig = FusionConfig()
    """How invariant and variant parts make one score (module 3)."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured."""
    rounds: int = Field(default=2, ge=1, le=20)
    """How often environments and mask are learned in turn; each round sees the variant part that the last
    mask left.
    """
    seed: int = Field(default=0, ge=0)
    """Seed of split and initialisation together."""

    @model_validator(mode="before")
    @classmethod
    def _without_preset(cls, settings: object) -> object:
        return expanded(settings) if isinstance(settings, Mapping) else settings

    @model_validator(mode="after")
    def _watches_what_is_scored(self) -> Self:
        monitor = self.training.monitor
        part, metric, cutoff = split_name(monitor)
        if cutoff not in self.evaluation.ks:
            raise ValueError(
                f"training.monitor must use a cut-off of evaluation.ks {list(self.evaluation.ks)} "
                f"(found {monitor!r})"
            )
        try:
            self.evaluation.check_measured(metric)
        except ValueError as error:
            raise ValueError(f"training.monitor {error} (found {monitor!r})") from None
        names = self.split.ood_names()
        if part == LOEO:
            if not self.evaluation.loeo:
                raise ValueError(f"training.monitor {monitor!r} needs evaluation.loeo: true")
            if metric in [one.name for one in self.evaluation.also]:
                raise ValueError(f"training.monitor {monitor!r} is not measured of what is left out")
        elif names is not None and part not in ("iid", *names, *ood_mean(names)):
            raise ValueError(
                "training.monitor must name a part of the split, "
                f"{', '.join(('iid', *names, *ood_mean(names)))} (found {monitor!r})"
            )
        return self

    @model_validator(mode="after")
    def _decays_whole_tables(self) -> Self:
        lazy = self.backbone.loss.kind != "gramian" and self.training.updates == "lazy"
        if self.training.weight_decay > 0 and lazy:
            raise ValueError(
                "training.weight_decay moves whole tables, so with mini-batches it needs "
                f"training.updates 'dense' (found {self.training.weight_decay} with 'lazy')"
            )
        return self

    @model_validator(mode="after")
    def _asks_for_a_truth_that_is_known(self) -> Self:
        planted = self.data.kind == "planted"
        for key, needs_truth in (
            ("mask.source", self.mask.source == "given"),
            ("environments.assignment", self.environments.assignment == "given"),
            ("split.protocol", self.split.protocol == "planted"),
        ):
            if needs_truth and not planted:
                raise ValueError(
                    f"{key} needs planted data, which knows the truth (found data.kind {self.data.kind!r})"
                )
        if self.environments.assignment == "given" and isinstance(self.data, PlantedConfig):
            if self.split.protocol != "planted":
                raise ValueError(
                    "environments.assignment 'given' needs split.protocol 'planted': OOD rows have no "
                    f"training environment (found {self.split.protocol!r})"
                )
            known = len(self.data.spurious_strengths)
            if self.environments.count != known:
                raise ValueError(
                    f"environments.count must be {known}, the number of planted environments "
                    f"(found {self.environments.count})"
                )
        return self

    @model_validator(mode="after")
    def _risks_of_known_environments(self) -> Self:
        if self.backbone.reads_environments and self.environments.assignment != "column":
            raise ValueError(
                f"backbone.risks.kind {self.backbone.risks.kind!r} needs known environments: "
                f"environments.assignment 'column' (found {self.environments.assignment!r})"
            )
        return self

    @model_validator(mode="after")
    def _leaves_out_what_is_known(self) -> Self:
        if self.evaluation.loeo and not self.environments.column:
            raise ValueError("evaluation.loeo leaves known environments out: name them, environments.column")
        if self.evaluation.loeo and not self.training.monitor.startswith(("iid/", f"{LOEO}/")):
            raise ValueError(
                "evaluation.loeo needs epochs that no OOD part has chosen: training.monitor iid/... or "
                f"loeo/... (found {self.training.monitor!r})"
            )
        return self

    @model_validator(mode="after")
    def _environments_fit_in(self) -> Self:
        if self.environments.count * self.environments.min_share > 1:
            raise ValueError(
                "environments.count * environments.min_share must be at most 1 "
                f"(found {self.environments.count} * {self.environments.min_share})"
            )
        return self

    def scored_names(self) -> tuple[str, ...] | None:
        """What metrics of the valid parts are called before their slash; ``None`` where the data decide."""
        names = self.split.ood_names()
        left_out = (LOEO,) if self.evaluation.loeo else ()
        return None if names is None else ("iid", *names, *ood_mean(names), *left_out)

    def deciding(self) -> dict[str, Any]:
        """Every setting that decides what is computed, JSON-ready; how much memory it may take is none."""
        return self.model_dump(mode="json", exclude={"data": {"memory_limit"}})

    def fingerprint(self) -> str:
        """A hex digest of :meth:`deciding`; equal configurations have equal digests."""
        text = json.dumps(self.deciding(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
