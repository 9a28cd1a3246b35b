"""Our own backbone with a popularity offset: the trade-off that needs no invariance at all.

On a split by popularity, ``s(u, i) + b log(1 + d_i)`` alone traces a front, so a method for that shift must
beat it (method, "Where IID and OOD come from").
"""

from __future__ import annotations

from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.evaluation.ranking import Scorer
from painvrl.invariance.mask import MaskConfig
from painvrl.model.fusion import FusionConfig
from painvrl.pipeline import run
from painvrl.settings import Settings
from painvrl.study.file.space import Categorical


class OffsetConfig(Settings):
    """``b``: weight of ``log(1 + d_i)``; below 0 it shows rarer items."""

    b: float = 0.0


def offset(inputs: Inputs) -> Fit[OffsetConfig]:
    """Trains the backbone of the run's own configuration on all features, without a mask, once."""
    config = inputs.config.model_copy(
        update={"mask": MaskConfig(source="ones"), "fusion": FusionConfig(kind="invariant")}
    )
    trained = run(config, inputs.prepared)

    def fit(setting: OffsetConfig) -> Scorer:
        fusion = FusionConfig(kind="invariant", popularity_weight=setting.b)
        return vectors(inputs, *trained.parts.weighed(fusion))

    return fit


MAGNITUDES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

ULTRAGCN_OFFSET = Baseline(
    name="ultragcn-offset",
    summary="our plain backbone plus b log(1 + d_i)",
    settings=OffsetConfig,
    space={"b": Categorical(type="categorical", choices=(0.0, *(-b for b in MAGNITUDES), *MAGNITUDES))},
    start=offset,
)
