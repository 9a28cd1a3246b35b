"""One run: pretrain -> (identify environments -> learn the mask) x rounds -> convert -> evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError, Diverged
from painvrl.evaluation.ranking import evaluate
from painvrl.invariance.environments import Environments
from painvrl.model.fusion import FusionConfig, weighted_branch, with_popularity
from painvrl.prepare import Prepared
from painvrl.pretrained import PretrainedStore
from painvrl.progress import NullObserver, Observer
from painvrl.rounds import RoundReport, invariance_before, learn_invariance
from painvrl.stages import Stages, convert, pretrain
from painvrl.unfinished import Savepoint


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A trained recommender and everything that was measured on the valid parts.

    Attributes:
        user_vectors, item_vectors: ``[U, D]``, ``[I, D]``; scores are their dot products, with the
            weights of the variant branch and of popularity applied.
        base_width: columns from here on are the variant branch.
        mask: ``[F]``. environments: labels of the training pairs (canonical order), if any.
        metrics: of the valid parts: ``iid/...``, ``ood/...``, and ``ood_NAME/...`` of further OOD parts.
        rounds: a report a round. seconds: wall time by stage.
        epochs: chosen epoch by training (``pretrain``, ``invariant``, ``variant``, or the fusion's kind).
        refit: trained on the valid parts, too; ``metrics`` are then those of the run before.
    """

    config: TrainConfig
    user_vectors: Tensor
    item_vectors: Tensor
    base_width: int
    mask: Tensor
    environments: Environments | None
    metrics: Mapping[str, float]
    rounds: tuple[RoundReport, ...]
    seconds: Mapping[str, float]
    epochs: Mapping[str, int]
    refit: bool = False


def run(
    config: TrainConfig,
    prepared: Prepared,
    *,
    observer: Observer | None = None,
    epochs: Mapping[str, int] | None = None,
    store: PretrainedStore | None = None,
    savepoint: Savepoint | None = None,
) -> RunResult:
    """Train ``config`` on ``prepared`` and score the valid parts. Test parts stay sealed.

    Args:
        config: the run.
        prepared: the data of this configuration, from :func:`painvrl.prepare.prepare`.
        observer: hears of stages and curves.
        epochs: train exactly so many epochs instead of stopping early (a refit on more data).
        store: of pretrained backbones that runs share.
        savepoint: of this very run (:func:`painvrl.unfinished.run_key`): where it is kept while it is under
            way, and goes on if an earlier process was killed. The result is the same to the last bit.

    Raises:
        TrialFailure: the configuration cannot be trained (diverged, an empty environment).
    """
    stages = Stages(
        config=config,
        prepared=prepared,
        observer=observer or NullObserver(),
        fixed_epochs=epochs,
        savepoint=savepoint,
    )
    stages.journal.resume()
    invariance = invariance_before(stages)
    if invariance is None:
        pretrained = pretrain(stages, store) if config.mask.source == "learned" else None
        invariance = learn_invariance(stages, pretrained)
        del pretrained  # what `convert` trains needs its memory
    users, items, base_width = convert(stages, invariance.mask)
    with stages.stage("evaluate"):
        metrics = score_valid(prepared, users, items)
    return RunResult(
        config=config,
        user_vectors=users,
        item_vectors=items,
        base_width=base_width,
        mask=invariance.mask,
        environments=invariance.environments,
        metrics=metrics,
        rounds=invariance.rounds,
        seconds=stages.seconds,
        epochs=stages.epochs,
    )


def score_valid(prepared: Prepared, users: Tensor, items: Tensor) -> dict[str, float]:
    """Every metric of the valid parts for score vectors ``[U, D]`` and ``[I, D]``."""
    if not bool(torch.isfinite(users).all() & torch.isfinite(items).all()):
        raise Diverged("the trained vectors are not finite; lower training.learning_rate")
    return evaluate(prepared.valid_plan, users, items)


def with_variant_weight(result: RunResult, prepared: Prepared, weight: float) -> RunResult:
    """The same training scored with another ``fusion.variant_weight``, without training again."""
    trained = result.config.fusion.variant_weight
    if result.config.fusion.kind != "branch" or trained == 0:
        raise ConfigError(
            "only a branch fusion trained with a variant_weight above 0 can be weighed anew",
            key="fusion.variant_weight",
            value=trained,
        )
    items = weighted_branch(result.item_vectors, result.base_width, weight / trained)
    return _rescored(result, prepared, result.user_vectors, items, variant_weight=weight)


def with_popularity_weight(result: RunResult, prepared: Prepared, weight: float) -> RunResult:
    """The same training scored with another ``fusion.popularity_weight``, without training again."""
    own = int(result.config.fusion.popularity_weight != 0)  # the column that the old weight has added
    users, items = result.user_vectors[:, own:], result.item_vectors[:, own:]
    if weight != 0:
        users, items = with_popularity(users, items, prepared.training.item_degree, weight)
    anew = _rescored(result, prepared, users, items, popularity_weight=weight)
    return replace(anew, base_width=result.base_width - own + int(weight != 0))


def _rescored(
    result: RunResult, prepared: Prepared, users: Tensor, items: Tensor, **weights: float
) -> RunResult:
    """``result`` with other vectors, which the ``weights`` of its fusion have made."""
    fusion = FusionConfig.model_validate({**result.config.fusion.model_dump(), **weights})
    return replace(
        result,
        config=result.config.model_copy(update={"fusion": fusion}),
        user_vectors=users,
        item_vectors=items,
        metrics=score_valid(prepared, users, items),
    )
