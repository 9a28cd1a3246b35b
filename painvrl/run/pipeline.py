"""One run: pretrain -> (identify environments -> learn the mask) x rounds -> convert -> evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from painvrl.core.errors import ConfigError, Diverged
from painvrl.core.observer import NullObserver, Observer
from painvrl.evaluation.ranking import evaluate_each
from painvrl.invariance.environments import Environments
from painvrl.model.fusion import FusionConfig, ScoreParts, WeighedScores
from painvrl.run.config import TrainConfig
from painvrl.run.leave_out import LeftOut, epochs_by_left_out, leave_out
from painvrl.run.prepare import Prepared
from painvrl.run.pretrained import PretrainedStore
from painvrl.run.rounds import Invariance, RoundReport, learn_invariance
from painvrl.run.stages import Look, Stages, convert, pretrain
from painvrl.run.state import RunState


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A trained recommender and everything that was measured on the valid parts.

    Attributes:
        parts: the score vectors, before anything is weighed.
        mask: ``[F]``. environments: labels of the training pairs (canonical order), if any.
        metrics: of the valid parts: ``iid/...``, ``ood/...``, and ``ood_NAME/...`` of further OOD parts.
        rounds: a report a round. seconds: wall time by stage.
        epochs: chosen epoch by training: ``pretrain``, and the learners of the fusion by their names.
        refit: trained on the valid parts, too; ``metrics`` are then those of the run before.
        left_out: models that each lack an environment, where ``evaluation.loeo`` asks for them.
    """

    config: TrainConfig
    parts: ScoreParts
    mask: Tensor
    environments: Environments | None
    metrics: Mapping[str, float]
    rounds: tuple[RoundReport, ...]
    seconds: Mapping[str, float]
    epochs: Mapping[str, int]
    refit: bool = False
    left_out: LeftOut | None = None

    @property
    def user_vectors(self) -> Tensor:
        """``[U, D]``, weighed as ``config.fusion`` says: scores are their products with the item vectors."""
        return self._weighed[0]

    @property
    def item_vectors(self) -> Tensor:
        """``[I, D]``."""
        return self._weighed[1]

    @cached_property
    def _weighed(self) -> tuple[Tensor, Tensor]:
        return self.parts.weighed(self.config.fusion)


def run(
    config: TrainConfig,
    prepared: Prepared,
    *,
    observer: Observer | None = None,
    epochs: Mapping[str, int] | None = None,
    branch: bool = False,
    mask: Tensor | None = None,
    look: Look | None = None,
    store: PretrainedStore | None = None,
    state: RunState | None = None,
) -> RunResult:
    """Train ``config`` on ``prepared`` and score the valid parts. Test parts stay sealed.

    Args:
        config: the run.
        prepared: the data of this configuration, from :func:`painvrl.run.prepare.prepare`.
        observer: is called on stages and curves.
        epochs: train exactly so many epochs instead of stopping early (a refit on more data).
        branch: train the variant branch even where it weighs nothing: somebody will weigh it.
        mask: ``[F]`` that was learned already; nothing is identified or learned then.
        look: tells more of a training at its evaluations.
        store: of pretrained backbones that runs share.
        state: of this very run (:func:`painvrl.run.state.run_state`), if it is to go on where an earlier
            process was killed. The result is the same to the last bit.

    Raises:
        TrialFailure: the configuration cannot be trained (diverged, an empty environment).
    """
    state, observer = state or RunState(), observer or NullObserver()
    state.resume(observer)
    stages = Stages(
        config=config,
        prepared=prepared,
        fixed_epochs=epochs,
        branch=branch,
        look=look,
        state=state,
    )
    invariance: Invariance | None = state.load("invariance")
    if mask is not None:
        invariance = Invariance(mask=mask)
    if invariance is None:
        learned = config.mask.source == "learned"
        # No name is kept for the backbone: the rounds let it go, and what `convert` trains needs its memory.
        invariance = learn_invariance(stages, pretrain(stages, store) if learned else None)
    if config.training.stops_by_loeo and epochs is None:
        chosen = epochs_by_left_out(config, prepared, invariance.mask, state, branch=branch)
        stages = replace(stages, fixed_epochs=chosen)
    parts = convert(stages, invariance.mask)
    left_out = None
    if config.evaluation.loeo and epochs is None:  # a refit is not judged again
        left_out = leave_out(config, prepared, invariance.mask, state, branch=branch)
    with state.stage("evaluate"):
        (metrics,) = score_valid(prepared, parts, [config.fusion], left_out)
    return RunResult(
        config=config,
        parts=parts,
        mask=invariance.mask,
        environments=invariance.environments,
        metrics=metrics,
        rounds=invariance.rounds,
        seconds=state.seconds,
        epochs=state.epochs,
        left_out=left_out,
    )


def score_valid(
    prepared: Prepared,
    parts: ScoreParts,
    fusions: Sequence[FusionConfig],
    left_out: LeftOut | None = None,
) -> tuple[dict[str, float], ...]:
    """Every metric of the valid parts, and of environments ``left_out``, under each of the weighings.

    Raises:
        Diverged: the vectors are not finite.
    """
    if not bool(torch.isfinite(parts.users).all() & torch.isfinite(parts.items).all()):
        raise Diverged("the trained vectors are not finite; lower training.learning_rate")
    found = evaluate_each(prepared.valid_plan, WeighedScores(parts, fusions))
    if left_out is None:
        return found
    return tuple(one | more for one, more in zip(found, left_out.metrics(fusions), strict=True))


def reweighed(result: RunResult, prepared: Prepared, **weights: float) -> RunResult:
    """The same training under other weights of its :class:`FusionConfig`, without training again.

    >>> reweighed(result, prepared, popularity_weight=-0.05).metrics["ood/ndcg_at_20"]  # doctest: +SKIP

    Raises:
        ConfigError: ``variant_weight`` is given, and the training has no branch that could weigh it.
    """
    has_branch = result.parts.base_width < result.parts.items.shape[1]
    if "variant_weight" in weights and not has_branch:
        raise ConfigError(
            "only a fusion with a trained branch can be weighed again",
            key="fusion.variant_weight",
            value=weights["variant_weight"],
        )
    fusion = FusionConfig.model_validate({**result.config.fusion.model_dump(), **weights})
    (metrics,) = score_valid(prepared, result.parts, [fusion], result.left_out)
    config = result.config.model_copy(update={"fusion": fusion})
    return replace(result, config=config, metrics=metrics)
