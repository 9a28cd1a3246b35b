"""The one place where the benchmarks know painvrl's trainer: models, steps, epochs, rounds, rankings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from benchmarks.literal import LiteralRanking, LiteralSettings, literal_ranking
from painvrl.core.rng import generator
from painvrl.evaluation.ranking import evaluate
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.model.training_data import TrainingData, training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared
from painvrl.run.rounds import learn_invariance
from painvrl.run.stages import Stages

__all__ = ["training_data"]

Evaluate = Callable[[Tensor, Tensor], Mapping[str, float]]

# Chosen once, at the small planted size, for all planted sizes: their items are known by their features,
# so that embeddings need more regularisation than on MovieLens.
GRAMIAN = BackboneConfig(loss=GramianLoss(), l2=1.0, projection_l2=1e-4)
GRAMIAN_TRAINING = TrainingConfig(learning_rate=0.03, evaluate_every=5, max_epochs=400, patience=5)
SAMPLED = BackboneConfig(
    loss=SampledLoss(batch_size=4096, negatives=100), l2=1.0, projection_l2=0.0, id_dropout=0.2
)
SAMPLED_TRAINING = TrainingConfig(learning_rate=0.002, evaluate_every=1, max_epochs=200, patience=6)
# Our L2 is a mean over interactions, the reference's is not: the same pull needs more of ours on more data.
SAMPLED_L2 = {"small": 1.0, "large": 10.0}


def like_literal(settings: LiteralSettings) -> tuple[BackboneConfig, TrainingConfig]:
    """Settings under which painvrl takes the literal implementation's steps."""
    backbone = BackboneConfig(
        id_dim=settings.id_dim,
        content_dim=settings.content_dim,
        l2=0.0,
        projection_l2=0.0,
        loss=SampledLoss(negatives=settings.negatives, negatives_per="pair", batch_size=settings.batch_size),
    )
    training = TrainingConfig(
        learning_rate=settings.learning_rate,
        updates="dense",
        weight_decay=2 * settings.l2,
        evaluate_every=1,
        patience=5,
        max_epochs=500,
    )
    return backbone, training


def model(features: Tensor, data: TrainingData, backbone: BackboneConfig, seed: int = 0) -> Backbone:
    """A fresh backbone."""
    return Backbone(features, data, backbone, generator(seed, "benchmark", "init"))


def tables(backbone: Backbone) -> dict[str, Tensor]:
    """Its parameters, as the literal implementation takes and names them."""
    return {
        "user_id": backbone.user_id.detach().clone(),
        "item_id": backbone.item_id.detach().clone(),
        "user_content": backbone.user_content.detach().clone(),
        "weight": backbone.weight.detach().clone(),
        "bias": backbone.bias.detach().clone(),
    }


def epochs(backbone: Backbone, training: TrainingConfig, count: int, seed: int = 0) -> float:
    """Train ``count`` epochs without an evaluation; returns the last mean loss."""
    losses: list[float] = []
    fit(
        backbone,
        training.model_copy(update={"evaluate_every": count}),
        generator(seed, "benchmark", "fit"),
        evaluate=None,
        observe=lambda _, values: losses.append(values["loss"]),
        epochs=count,
    )
    return losses[-1]


def train(backbone: Backbone, training: TrainingConfig, evaluation: Evaluate, seed: int = 0) -> int:
    """Train with early stopping; returns the best epoch."""
    return fit(
        backbone,
        training,
        generator(seed, "benchmark", "fit"),
        evaluate=lambda _, users, items: evaluation(users, items),
        observe=lambda *_: None,
    )


def rank(prepared: Prepared, users: Tensor, items: Tensor) -> dict[str, float]:
    """Every metric at every K of both valid parts."""
    return evaluate(prepared.valid_plan, users, items)


def literal_iid_ranking(prepared: Prepared) -> LiteralRanking:
    """What painvrl ranks as the IID part, for the literal implementation."""
    part = prepared.split.iid_valid
    others = [other.interactions for name, other in prepared.split.valid.items() if name != "iid"]
    hidden = [prepared.train, *others]
    return literal_ranking(part.interactions, hidden, part.candidates)


def round_seconds(settings: TrainConfig, prepared: Prepared, pretrained: Backbone) -> dict[str, float]:
    """Wall time of the environments and the mask of one round, by stage."""
    stages = Stages(
        config=settings.model_copy(update={"rounds": 1}),
        prepared=prepared,
    )
    learn_invariance(stages, pretrained)
    return dict(stages.state.seconds)
