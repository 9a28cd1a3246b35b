"""One run: pretrain -> (identify environments -> learn the mask) x rounds -> convert -> evaluate."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError, Diverged
from painvrl.evaluation.ranking import evaluate
from painvrl.invariance.environments import Environments, identify
from painvrl.invariance.mask import Gated, MaskState, learn_mask
from painvrl.invariance.risks import freeze
from painvrl.invariance.shared_model import calibrate
from painvrl.model.fusion import FusionConfig, weighted_branch
from painvrl.model.losses import GramianLoss
from painvrl.model.pairs import canonical_order
from painvrl.model.ultragcn import Backbone
from painvrl.prepare import Prepared
from painvrl.progress import NullObserver, Observer
from painvrl.rng import derive_seed, generator
from painvrl.training import fit


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """What one round of environments and mask came to."""

    environment_sizes: tuple[int, ...]
    moved_share: float
    converged: bool
    reseeded: int
    log_likelihood: float
    mask_density: float
    achieved_sparsity: float
    risk: float
    penalty: float
    epsilon: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """The outcome of the rounds: the mask ``[F]``, the last environments, a report a round."""

    mask: Tensor
    environments: Environments | None
    rounds: tuple[RoundReport, ...]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A trained recommender and everything that was measured on the valid parts.

    Attributes:
        user_vectors, item_vectors: ``[U, D]``, ``[I, D]``; scores are their dot products, with the
            variant weight applied.
        base_width: columns from here on are the variant branch.
        mask: ``[F]``. environments: labels of the training pairs (canonical order), if any.
        metrics: of the valid parts, ``iid/...`` and ``ood/...``.
        rounds: a report a round. seconds: wall time by stage.
        epochs: chosen epoch by training (``pretrain``, ``invariant``, ``variant``, ``sum``).
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


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What every stage needs: the configuration, the data, who listens, and the clock."""

    config: TrainConfig
    prepared: Prepared
    observer: Observer
    fixed_epochs: Mapping[str, int] | None
    seconds: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, label: str | None = None) -> Iterator[None]:
        self.observer.stage(label or name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run(
    config: TrainConfig,
    prepared: Prepared,
    *,
    observer: Observer | None = None,
    epochs: Mapping[str, int] | None = None,
) -> RunResult:
    """Train ``config`` on ``prepared`` and score the valid parts. Test parts stay sealed.

    Args:
        config: the run.
        prepared: the data of this configuration, from :func:`painvrl.prepare.prepare`.
        observer: hears of stages and curves.
        epochs: train exactly so many epochs instead of stopping early (a refit on more data).

    Raises:
        TrialFailure: the configuration cannot be trained (diverged, an empty environment).
    """
    this = _Run(config=config, prepared=prepared, observer=observer or NullObserver(), fixed_epochs=epochs)
    everything = torch.ones(prepared.features.matrix.shape[1], device=prepared.device)
    needs_pretraining = config.mask.source == "learned"
    pretrained = _train(this, "pretrain", everything) if needs_pretraining else None
    invariance = _invariance(this, pretrained)
    users, items, base_width = _convert(this, invariance.mask)
    with this.stage("evaluate"):
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
        seconds=this.seconds,
        epochs=this.epochs,
    )


def score_valid(prepared: Prepared, users: Tensor, items: Tensor) -> dict[str, float]:
    """Every metric of both valid parts for score vectors ``[U, D]`` and ``[I, D]``."""
    if not bool(torch.isfinite(users).all() & torch.isfinite(items).all()):
        raise Diverged("the trained vectors are not finite; lower training.learning_rate")
    return evaluate(prepared.iid_plan, users, items) | evaluate(prepared.ood_plan, users, items)


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
    fusion = FusionConfig(kind="branch", variant_weight=weight)
    return replace(
        result,
        config=result.config.model_copy(update={"fusion": fusion}),
        item_vectors=items,
        metrics=score_valid(prepared, result.user_vectors, items),
    )


def _train(
    this: _Run,
    name: str,
    gates: Tensor,
    base: tuple[Tensor, Tensor] | None = None,
) -> Backbone:
    """Train a backbone from scratch on gated features, on top of ``base``.

    ``gates``: ``[F]``, or ``[2 F]`` for two gated copies of the features side by side.
    """
    config, prepared = this.config, this.prepared
    features = prepared.features.matrix
    copies = gates.shape[0] // features.shape[1]
    backbone = config.backbone
    if base is not None:
        backbone = backbone.model_copy(update={"id_dim": 0})
    model = Backbone(
        features.repeat(1, copies) * gates,
        prepared.training,
        backbone,
        generator(config.seed, name, "init"),
        base=base,
        base_id_dim=config.backbone.id_dim if base is not None else 0,
    )
    watched = prepared.iid_plan if config.training.watch.startswith("iid/") else prepared.ood_plan
    with this.stage(name):
        fitted = fit(
            model,
            config.training,
            generator(config.seed, name, "fit"),
            evaluate=lambda users, items: evaluate(watched, users, items),
            observe=lambda epoch, values: this.observer.curve(name, epoch, values),
            epochs=None if this.fixed_epochs is None else this.fixed_epochs[name],
        )
    this.epochs[name] = fitted.best_epoch
    return model


def _invariance(this: _Run, pretrained: Backbone | None) -> Invariance:
    """The rounds of module 1 and module 2, or the fixed mask that the configuration asks for."""
    config, prepared = this.config, this.prepared
    if pretrained is None:
        return Invariance(mask=_fixed_mask(this), environments=None, rounds=())
    features = prepared.features.matrix
    loss = config.backbone.loss
    with this.stage("calibrate"):
        frozen = freeze(
            prepared.training,
            features,
            pretrained.user_id,
            pretrained.item_id,
            pretrained.user_content,
            loss.all_pairs_weight if isinstance(loss, GramianLoss) else GramianLoss().all_pairs_weight,
        )
        shared = calibrate(
            pretrained.user_vectors().detach(),
            pretrained.item_vectors().detach(),
            prepared.training,
            generator(config.seed, "calibrate"),
        )
    start = Gated(
        mu=torch.zeros(features.shape[1], device=prepared.device),
        weight=pretrained.weight.detach(),
        bias=pretrained.bias.detach(),
    )
    mask = start.mu + 0.5
    environments: Environments | None = None
    reports: list[RoundReport] = []
    for index in range(config.rounds):
        with this.stage("environments", f"round {index + 1}: environments"):
            environments = identify(
                features * (1 - mask),
                shared,
                prepared.training,
                config.environments,
                generator(config.seed, "environments", index),
                last=environments,
                given=_true_labels(this) if config.environments.assignment == "given" else None,
            )
        with this.stage("mask", f"round {index + 1}: mask"):
            learned = learn_mask(
                start,
                environments.label,
                config.environments.count,
                frozen,
                config.mask,
                projection_l2=config.backbone.projection_l2,
                seed=derive_seed(config.seed, "mask", index),
            )
        start, mask = learned.learned, learned.mask
        reports.append(_report(environments, learned))
    return Invariance(mask=mask, environments=environments, rounds=tuple(reports))


def _report(environments: Environments, learned: MaskState) -> RoundReport:
    return RoundReport(
        environment_sizes=environments.sizes,
        moved_share=environments.moved_share,
        converged=environments.moved_share <= 0.01,
        reseeded=environments.reseeded,
        log_likelihood=environments.log_likelihood,
        mask_density=float(learned.mask.mean()),
        achieved_sparsity=float((learned.mask == 0).float().mean()),
        risk=learned.risk,
        penalty=learned.penalty,
        epsilon=learned.epsilon,
        cosine=learned.cosine,
    )


def _fixed_mask(this: _Run) -> Tensor:
    width = this.prepared.features.matrix.shape[1]
    source = this.config.mask.source
    if source == "given":
        truth = this.prepared.dataset.truth
        if truth is None:
            raise ConfigError("only planted data knows the true mask", key="mask.source", value=source)
        return truth.mask.to(this.prepared.device)
    return torch.full((width,), 1.0 if source == "ones" else 0.5, device=this.prepared.device)


def _true_labels(this: _Run) -> Tensor:
    """``[N]`` planted environments of the training pairs, in the canonical order."""
    prepared = this.prepared
    if prepared.dataset.truth is None:
        raise ConfigError(
            "only planted data knows the true environments", key="environments.assignment", value="given"
        )
    everything, train = prepared.dataset.interactions, prepared.train
    label = torch.full((everything.n_users * everything.n_items,), -1)
    label[everything.user * everything.n_items + everything.item] = prepared.dataset.truth.environment
    order = canonical_order(train)
    return label[(train.user * train.n_items + train.item)[order]].to(prepared.device)


def _convert(this: _Run, mask: Tensor) -> tuple[Tensor, Tensor, int]:
    """Train the final model from scratch with the mask fixed: user vectors, item vectors, base width."""
    fusion = this.config.fusion
    if fusion.kind == "sum":
        model = _train(this, "sum", torch.cat([mask, 1 - mask]))
        users, items = model.user_vectors().detach(), model.item_vectors().detach()
        return users, items, users.shape[1]
    invariant = _train(this, "invariant", mask)
    with torch.no_grad():
        users, items = invariant.user_vectors().detach(), invariant.item_vectors().detach()
    base_width = users.shape[1]
    if fusion.kind == "invariant" or fusion.variant_weight == 0:
        return users, items, base_width
    branch = _train(this, "variant", 1 - mask, base=(users, items))
    with torch.no_grad():
        users, items = branch.user_vectors(), branch.item_vectors()
        return users, weighted_branch(items, base_width, fusion.variant_weight), base_width
