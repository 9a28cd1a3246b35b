"""The rounds of the method: identify environments, then learn the mask, in turn."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.rng import derive_seed, generator
from painvrl.data.dataset import PlantedTruth
from painvrl.invariance.coefficients import FeatureVariances, feature_variances, fit_coefficients
from painvrl.invariance.environments import Environments, identify
from painvrl.invariance.gates import closed_gates, spread
from painvrl.invariance.hard_em import EnvironmentModels
from painvrl.invariance.label_recovery import label_recovery
from painvrl.invariance.mask import Gated, MaskState, count_gates, learn_mask
from painvrl.invariance.risks import freeze
from painvrl.invariance.shared_model import Affinities, SharedModel, calibrate, sample_users
from painvrl.model.pairs import canonical_order
from painvrl.model.ultragcn import Backbone
from painvrl.run.prepare import Prepared
from painvrl.run.stages import Stages, all_pairs_weight, known_environments

_logger = logging.getLogger(__name__)

LABEL_RECOVERY = "environments/label_recovery"
"""How much of planted environments was found; see :mod:`painvrl.invariance.label_recovery`."""


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """What one round of environments and mask came to; see ``Environments`` and ``MaskState``.

    Attributes:
        metrics: numbers by name; those that the settings or the data do not have are left out.
        trace: what learning the mask measured at every step, by name.
    """

    metrics: Mapping[str, float]
    trace: Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """What all rounds or the first came to: the mask ``[F]``, the last environments, a report a round."""

    mask: Tensor
    environments: Environments | None = None
    rounds: tuple[RoundReport, ...] = ()


torch.serialization.add_safe_globals(  # a file of a run's state may hold them
    [Environments, EnvironmentModels, RoundReport, Invariance]
)


def learn_invariance(stages: Stages, pretrained: Backbone | None) -> Invariance:
    """The rounds of module 1 and module 2, or the fixed mask that the configuration asks for."""
    config, prepared = stages.config, stages.prepared
    if pretrained is None:
        return Invariance(mask=_fixed_mask(stages))
    features, run = prepared.features, stages.state
    groups = known_environments(stages)
    group, n_gates = _gates(stages)
    with run.stage("calibrate"):
        frozen = freeze(
            prepared.training,
            features,
            pretrained.user_id,
            pretrained.item_id,
            pretrained.user_content,
            all_pairs_weight(config.backbone),
        )
        shared = calibrate(
            frozen.users,  # those of `pretrained`
            pretrained.item_vectors().detach(),
            prepared.training,
            generator(config.seed, "calibrate"),
        )
        affinities = Affinities(
            user_content=pretrained.user_content.detach() * shared.temperature,
            weight=pretrained.weight.detach(),
        )
        first = Gated(
            mu=torch.zeros(n_gates, device=prepared.device),
            weight=pretrained.weight.detach(),
            bias=pretrained.bias.detach(),
        )
        del pretrained  # whose tables no one reads from here on
    known: tuple[Gated, Invariance] | None = run.load("rounds")
    gated, found = known or (
        first,
        Invariance(mask=torch.full((features.shape[1],), 0.5, device=prepared.device)),
    )
    for index in range(len(found.rounds), config.rounds):
        environments: Environments | None = run.load("environments")
        if environments is None:
            with run.stage("environments", f"round {index + 1}: environments"):
                environments = identify(
                    features,
                    shared,
                    prepared.training,
                    config.environments,
                    generator(config.seed, "environments", index),
                    mask=found.mask,
                    last=found.environments,
                    given=_true_labels(stages) if config.environments.assignment == "given" else None,
                    known=groups,
                    affinities=affinities,
                    compiled=config.training.compile,
                )
            run.save("environments", environments)
        count, stage = len(environments.sizes), f"round {index + 1}: mask"
        with run.stage("mask", stage):
            variances = None
            if config.mask.reads_variances:
                variances = _feature_variances(stages, shared, affinities, environments, index)
            learned = learn_mask(
                gated,
                environments.label,
                count,
                frozen,
                config.mask,
                projection_l2=config.backbone.projection_l2,
                seed=derive_seed(config.seed, "mask", index),
                variances=variances,
                group=group,
                compiled=config.training.compile,
                known=partial(run.load_training, stage),
                save=partial(run.save_training, stage),
            )
        run.drop("environments")
        rounds = (*found.rounds, _report(stages, environments, learned))
        gated = learned.learned
        found = Invariance(mask=learned.mask, environments=environments, rounds=rounds)
        if index + 1 < config.rounds:
            run.save("rounds", (gated, found))
    run.drop("pretrain")
    run.drop("rounds")
    run.save("invariance", found)
    return found


def _feature_variances(
    stages: Stages, shared: SharedModel, affinities: Affinities, environments: Environments, index: int
) -> FeatureVariances:
    """How differently this round's environments weigh each feature."""
    config, prepared, label = stages.config, stages.prepared, environments.label
    features, data = prepared.features, prepared.training
    assert isinstance(features, Tensor), "refused when the data were prepared"
    draws = generator(config.seed, "coefficients", index)
    sample = sample_users(data, config.environments.fit_cells // features.shape[0], draws)
    half = torch.randint(2, label.shape, generator=draws).to(label.device)
    count = len(environments.sizes)
    return feature_variances(fit_coefficients(features, shared, affinities, sample, label, half, count))


def _report(stages: Stages, environments: Environments, learned: MaskState) -> RoundReport:
    sizes = {f"environments/size_{index + 1}": size for index, size in enumerate(environments.sizes)}
    metrics = {name: float(size) for name, size in sizes.items()} | {
        "environments/moved_share": environments.moved_share,
        "environments/converged": float(environments.converged),
        "environments/reseeded": float(environments.reseeded),
        "mask/density": float(learned.mask.mean()),
        "mask/sparsity": float((learned.mask == 0).float().mean()),
        **{f"mask/{name}": value for name, value in learned.measured.items()},
    }
    if environments.moves:  # of hard EM alone
        metrics["environments/em_rounds"] = float(len(environments.moves))
        metrics["environments/em_moved_share"] = environments.moves[-1]
    if not math.isnan(found := _label_recovery(stages, environments)):  # only of planted environments
        metrics[LABEL_RECOVERY] = found
    if not math.isnan(environments.log_likelihood):  # only the mixture has one
        metrics["environments/log_likelihood"] = environments.log_likelihood
    return RoundReport(metrics=metrics, trace=learned.trace)


def _gates(stages: Stages) -> tuple[Tensor | None, int]:
    """``[F]`` the gate of each feature where several share one, and how many gates there are."""
    prepared, config = stages.prepared, stages.config.mask
    group, n_gates = count_gates(prepared.widths.values(), config)
    if group is not None and config.closes > 0 and closed_gates(n_gates, config.closes) == 0:
        _logger.warning(
            "mask.sparsity %g closes no gate: %g of the %d gates of mask.groups %s rounds to none",
            *(config.sparsity, config.sparsity * n_gates, n_gates, config.groups),
        )
    return None if group is None else group.to(prepared.device), n_gates


def _fixed_mask(stages: Stages) -> Tensor:
    width = stages.prepared.features.shape[1]
    source = stages.config.mask.source
    if source == "random":
        group, n_gates = _gates(stages)
        order = torch.randperm(n_gates, generator=generator(stages.config.seed, "mask", "random"))
        closed = order[: closed_gates(n_gates, stages.config.mask.sparsity)]
        return spread(torch.ones(n_gates).index_fill(0, closed, 0.0).to(stages.prepared.device), group)
    if source == "given":
        truth = stages.prepared.dataset.truth
        if truth is None:
            raise ConfigError("only planted data knows the true mask", key="mask.source", value=source)
        if len(truth.mask) != width:
            rule = f"is of the {len(truth.mask)} planted features; there are {width}"
            raise ConfigError(rule, key="mask.source", value=source)
        return truth.mask.to(stages.prepared.device)
    return torch.full((width,), 1.0 if source == "ones" else 0.5, device=stages.prepared.device)


def _label_recovery(stages: Stages, environments: Environments) -> float:
    config, truth = stages.config, stages.prepared.dataset.truth
    if truth is None or config.environments.assignment == "given":  # what is given was not found
        return math.nan
    planted = _planted_labels(stages.prepared, truth)
    label = environments.label.cpu()
    count = int(truth.environment.max()) + 1  # one of which no user chose anything cannot be missed
    return label_recovery(label, planted, len(environments.sizes), count, truth.bayes_accuracy)


def _planted_labels(prepared: Prepared, truth: PlantedTruth) -> Tensor:
    """``[N]`` planted environments of the training pairs, in the canonical order; -1 of OOD rows."""
    everything, train = prepared.dataset.interactions, prepared.train
    known, order = canonical_order(everything), canonical_order(train)
    place = torch.searchsorted(everything.cells()[known], train.cells()[order])
    return truth.environment[known][place]


def _true_labels(stages: Stages) -> Tensor:
    """``[N]`` planted environments of the training pairs, in the canonical order."""
    prepared = stages.prepared
    if prepared.dataset.truth is None:
        raise ConfigError(
            "only planted data knows the true environments", key="environments.assignment", value="given"
        )
    found = _planted_labels(prepared, prepared.dataset.truth)
    if bool((found < 0).any()):
        raise ConfigError(
            "OOD rows have no training environment, so a refit on the valid parts cannot use the true ones",
            key="environments.assignment",
            value="given",
        )
    return found.to(prepared.device)
