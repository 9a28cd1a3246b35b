"""Module 1, heterogeneous identification: which latent environment did each interaction come from?

``soft_mixture`` (:mod:`painvrl.invariance.soft_mixture`) is our extension and the default, ``hard_em``
(:mod:`painvrl.invariance.hard_em`) is that of InvRL (Du et al., ACM MM 2022); ``random`` and ``given`` are
controls. ``column`` finds nothing: the data say where an interaction comes from
(:mod:`painvrl.data.grouping`).

Shape letters: ``I`` items, ``N`` interactions, ``F`` features, ``E`` environments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self, TypeAlias

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from painvrl.core.errors import EmptyEnvironment
from painvrl.data.grouping import Grouping, KnownGroups
from painvrl.invariance.hard_em import EnvironmentModels, HardEMSettings, fit_hard_em
from painvrl.invariance.labels import SETTLED_SHARE, moved_share, with_least_size
from painvrl.invariance.per_user_mixture import fit_per_user_mixture, per_user_posterior
from painvrl.invariance.shared_model import Affinities, SharedModel
from painvrl.invariance.soft_mixture import MixtureSettings, fit_mixture, labelled_offsets, posterior
from painvrl.invariance.variant import ItemFeatures, VariantPart
from painvrl.model.streamed import Features
from painvrl.model.training_data import TrainingData

Sees = Literal["variant", "all"]


def _one_or_more(value: object) -> object:
    """A name alone stands for its column, and one grouping for a list of it."""
    many = value if isinstance(value, list | tuple) else [value]
    return [{"column": one} if isinstance(one, str) else one for one in many]


Groupings: TypeAlias = Annotated[
    tuple[Grouping, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=str | Grouping | tuple[str | Grouping, ...]),
]
"""A column's name, a grouping, or a list of them, which are crossed."""


class EnvironmentConfig(MixtureSettings):
    """How environments are identified. The mixture's settings stand beside these."""

    assignment: Literal["soft_mixture", "hard_em", "random", "given", "column"] = "soft_mixture"
    """``soft_mixture``; ``hard_em`` (InvRL); ``random`` labels, a control; ``column``: the environments are
    known; or ``given``: the data set's own labels, of planted data only.
    """
    column: Groupings = ()
    """Of ``assignment: column``: the groups that are the environments, such as ``decade``; several are
    crossed. Other assignments read it where they start from it.
    """
    start: Literal["random", "column"] = "random"
    """Where ``soft_mixture`` and ``hard_em`` start: at ``random``, or from the groups of ``column``, whose
    number is then that of the environments. Where they end is what they find.
    """
    count: int = Field(default=2, ge=2, le=50)
    """Number of environments; of ``assignment: column`` the groups decide it."""
    sees: Sees = "variant"
    """Features that environments are fitted on: the ``variant`` part, or ``all`` of them (InvRL's code)."""
    min_share: float = Field(default=0.02, ge=0, lt=0.5)
    """An environment below this share of the interactions is re-seeded with the worst-explained ones. One
    that the data name is refused. So are those that ``evaluation.loeo`` leaves out.
    """
    hard_em: HardEMSettings = HardEMSettings()
    """How the models of ``hard_em`` are fitted."""

    @model_validator(mode="after")
    def _says_what_a_column_is_for(self) -> Self:
        if self.assignment == "column" and not self.column:
            raise ValueError("assignment 'column' needs environments.column")
        if self.column and "assignment" not in self.model_fields_set:
            raise ValueError(
                "column says nothing without assignment; set it (column makes them the environments)"
            )
        if self.start == "column":
            if not self.column:
                raise ValueError("start 'column' needs environments.column")
            if self.assignment not in ("soft_mixture", "hard_em"):
                raise ValueError(
                    f"start 'column' needs assignment 'soft_mixture' or 'hard_em' (found {self.assignment!r})"
                )
            if self.assignment == "soft_mixture" and self.logit_offset != "shared":
                raise ValueError(f"start 'column' needs logit_offset 'shared' (found {self.logit_offset!r})")
        if self.assignment == "column" and any(one.unknown == "open" for one in self.column):
            raise ValueError("unknown: open is for start: column; known environments leave none open")
        return self


@dataclass(frozen=True, kw_only=True)
class Environments:
    """The labels of one round.

    Attributes:
        label: ``[N]`` int64 in ``[0, E)``, in the canonical order of the training pairs.
        offsets: ``[E, C]`` of ``soft_mixture`` (:class:`~painvrl.invariance.soft_mixture.Mixture`), else
            ``None``.
        models: of ``hard_em``, else ``None``.
        sizes: interactions of each environment.
        moved_share: share of the interactions whose label changed since the round before (1 in
            the first).
        moves: the same within this round, by round of ``hard_em``; empty for the others.
        reseeded: environments that the guard had to fill.
        log_likelihood: what the mixture gains over the shared model, as the mean log-likelihood of
            a fitted interaction; NaN for the others.
    """

    label: Tensor
    offsets: Tensor | None = None
    models: EnvironmentModels | None = None
    sizes: tuple[int, ...]
    moved_share: float
    moves: tuple[float, ...] = ()
    reseeded: int = 0
    log_likelihood: float = float("nan")

    @property
    def converged(self) -> bool:
        """Whether the labels had settled: within ``hard_em``, elsewhere since the round before."""
        return (self.moves[-1] if self.moves else self.moved_share) <= SETTLED_SHARE


def identify(
    features: Features,
    shared: SharedModel,
    data: TrainingData,
    config: EnvironmentConfig,
    generator: torch.Generator,
    *,
    mask: Tensor | None = None,
    last: Environments | None = None,
    given: Tensor | None = None,
    known: KnownGroups | None = None,
    affinities: Affinities | None = None,
    compiled: bool = False,
) -> Environments:
    """Label every training interaction with its environment.

    Args:
        features: ``[I, F]``.
        shared: the calibrated model that all environments of a mixture share.
        data: the training part.
        config: which assignment, and its hyperparameters.
        generator: a CPU generator.
        mask: ``[F]`` of the round before; where ``sees`` is ``variant``, only ``1 - mask`` of each feature
            is seen. Without one all of it is.
        last: the round before; this fit starts from its logit offsets, or from its labels and models.
        given: ``[N]`` true labels for ``assignment: given``.
        known: the groups of ``assignment: column`` or ``start: column``, with labels ``[N]`` on the device.
        affinities: of the users, for a ``logit_offset`` that is not ``shared``.
        compiled: whether steps go through ``torch.compile``.

    Raises:
        EmptyEnvironment: fewer interactions than environments need.
        Diverged: the fit is not finite.
    """
    needed = max(2, round(config.min_share * data.n_pairs))
    if config.assignment == "column":
        assert known is not None
        return _labelled(known.label, last, len(known.names))  # none is filled up or merged
    from_groups = known if config.start == "column" else None
    count = config.count if from_groups is None else len(from_groups.names)
    if count * needed > data.n_pairs:
        raise EmptyEnvironment(
            f"{data.n_pairs} training interactions cannot fill {count} environments with at "
            f"least {needed} each; lower environments.count or environments.min_share"
        )
    if config.assignment == "given":
        assert given is not None
        return _labelled(given, last, config.count)
    if config.assignment == "random":
        label = torch.randint(config.count, (data.n_pairs,), generator=generator)
        return _labelled(label.to(features.device) if last is None else last.label, last, config.count)
    if config.assignment == "hard_em":
        start = None if last is None or last.models is None else (last.label, last.models)
        labels = None if from_groups is None else from_groups.label
        seen = _seen(data.warm_features(features), mask, config.sees)
        found = fit_hard_em(
            seen,
            data,
            count,
            needed,
            config.hard_em,
            generator,
            start=start,
            labels=labels,
            compiled=compiled,
        )
        labelled = _labelled(found.label, last, count)
        return replace(labelled, models=found.models, moves=found.moves, reseeded=found.reseeded)
    variant = _seen(features, mask, config.sees)
    start_at = None if last is None else last.offsets
    if start_at is None and from_groups is not None:
        start_at = labelled_offsets(
            variant, shared, data, from_groups.label, count, config, generator, compiled=compiled
        )
    if config.logit_offset == "shared":
        mixture = fit_mixture(
            variant, shared, data, count, config, generator, start=start_at, compiled=compiled
        )
        log_posterior = posterior(variant, shared, data, mixture.offsets)
    else:
        assert affinities is not None
        mixture = fit_per_user_mixture(
            variant,
            shared,
            affinities,
            data,
            count,
            config,
            generator,
            start=start_at,
            compiled=compiled,
        )
        log_posterior = per_user_posterior(variant, shared, affinities, data, mixture.offsets, config)
    label, reseeded = with_least_size(
        log_posterior.argmax(dim=1), log_posterior.logsumexp(dim=1), count, needed
    )
    return replace(
        _labelled(label, last, count),
        offsets=mixture.offsets,
        reseeded=reseeded,
        log_likelihood=mixture.log_likelihood,
    )


def _seen(features: Features, mask: Tensor | None, sees: Sees) -> ItemFeatures:
    """What the environments are fitted on."""
    return features if mask is None or sees == "all" else VariantPart(features, 1 - mask)


def _labelled(label: Tensor, last: Environments | None, count: int) -> Environments:
    sizes = torch.bincount(label, minlength=count)
    if int(sizes.min()) == 0:
        raise EmptyEnvironment(f"an environment has no interactions (sizes {sizes.tolist()})")
    return Environments(
        label=label,
        sizes=tuple(sizes.tolist()),
        moved_share=1.0 if last is None else moved_share(label, last.label),
    )
