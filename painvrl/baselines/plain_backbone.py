"""Our own plain backbone among the baselines: with the offsets that all get, what needs no invariance at all.

On a split by popularity, ``s(u, i) + b log(1 + d_i)`` alone traces a front, so a method for that shift must
beat it (method, "Where IID and OOD come from").
"""

from __future__ import annotations

from painvrl.baselines.port import Baseline, Fit, Inputs, vectors
from painvrl.core.settings import Settings
from painvrl.evaluation.ranking import Scorer
from painvrl.invariance.mask import MaskConfig
from painvrl.model.fusion import FusionConfig
from painvrl.run.pipeline import run


class PlainBackboneConfig(Settings):
    """There is nothing to set: the backbone is the file's own."""


def plain_backbone(inputs: Inputs) -> Fit[PlainBackboneConfig]:
    """The backbone of the run's own configuration on all features, without a mask."""

    def fit(_: PlainBackboneConfig) -> Scorer:
        config = inputs.config.model_copy(
            update={"mask": MaskConfig(source="ones"), "fusion": FusionConfig(kind="invariant")}
        )
        trained = run(config, inputs.prepared)
        return vectors(inputs, trained.user_vectors, trained.item_vectors)

    return fit


ULTRAGCN_OFFSET = Baseline(
    name="ultragcn-offset",
    summary="our plain backbone",
    settings=PlainBackboneConfig,
    space={},
    start=plain_backbone,
)
