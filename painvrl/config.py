"""The configuration of one run, composed of the stages' own settings.

The root only composes: a hyper-parameter is declared once, beside the code that reads it.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import Field

from painvrl.data.features import FeatureConfig
from painvrl.data.sources import DataConfig
from painvrl.data.splits import PopularitySplit, SplitConfig
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.invariance.environments import EnvironmentConfig
from painvrl.invariance.mask import MaskConfig
from painvrl.model.fusion import FusionConfig
from painvrl.model.ultragcn import BackboneConfig
from painvrl.settings import Settings
from painvrl.training import TrainingConfig


class TrainConfig(Settings):
    """Everything that decides what one run computes (and nothing about where it runs).

    ``rounds``: how often environments and mask are learned in turn; each round sees the variant
    part that the last mask left. ``seed``: split and initialisation together.
    """

    data: DataConfig
    split: SplitConfig = PopularitySplit()
    features: FeatureConfig = FeatureConfig()
    backbone: BackboneConfig = BackboneConfig()
    training: TrainingConfig = TrainingConfig()
    environments: EnvironmentConfig = EnvironmentConfig()
    mask: MaskConfig = MaskConfig()
    fusion: FusionConfig = FusionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    rounds: int = Field(default=2, ge=1, le=20)
    seed: int = Field(default=0, ge=0)

    def fingerprint(self) -> str:
        """A hex digest of every setting; equal configurations have equal digests."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
