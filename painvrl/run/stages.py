"""The stages of a run that train: the backbone that the rounds start from, and the final model.

Each takes the run's :class:`Stages` and returns what the next one needs; :mod:`painvrl.run.rounds` lies
between them, and :mod:`painvrl.run.pipeline` is the list of them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from painvrl.core.rng import generator
from painvrl.data.grouping import KnownGroups
from painvrl.data.parts import LOEO
from painvrl.evaluation.ranking import evaluate
from painvrl.model.fit import fit
from painvrl.model.folding import fold_in
from painvrl.model.fusion import Learner, ScoreParts
from painvrl.model.losses import GramianLoss
from painvrl.model.mixing import Mixing, Projection, Sum
from painvrl.model.pairs import canonical_order
from painvrl.model.robust import KnownEnvironments
from painvrl.model.ultragcn import Backbone, BackboneConfig
from painvrl.run.config import TrainConfig
from painvrl.run.known import groups_of
from painvrl.run.prepare import Prepared
from painvrl.run.pretrained import Pretrained, PretrainedStore, pretraining_key
from painvrl.run.state import RunState

Vectors: TypeAlias = tuple[Tensor, Tensor, Projection | None]
"""Of users and items ``[U, D]`` and ``[I, D]``, and what makes an item's columns of its features."""


class Look(Protocol):
    """Looks at a model while it is trained, and tells more of it than its metrics."""

    @property
    def key(self) -> str:
        """Equal for two that tell the same of a training."""

    def __call__(self, rung: str, parts: ScoreParts) -> Mapping[str, float]:
        """What is reported beside the metrics at ``rung``, a training and its epoch: ``pretrain/20``."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What every stage needs: the configuration, the data, and what the run has come to.

    Attributes:
        fixed_epochs: by training; where set, nothing stops early.
        branch: train the variant branch even where it weighs nothing: somebody will weigh it.
        look: what else is reported of a training at an evaluation; nothing by default.
        groups: of the train interactions where they are not those that ``environments.column`` makes of
            them: what is left of groups when one is left out.
        state: of the run; stages and curves are noted in it, and it is saved while the run is under way.
    """

    config: TrainConfig
    prepared: Prepared
    fixed_epochs: Mapping[str, int] | None = None
    branch: bool = False
    look: Look | None = None
    groups: KnownGroups | None = None
    state: RunState = field(default_factory=RunState)

    @property
    def base_width(self) -> int:
        """Columns of score vectors from here on are the variant branch, where there is one."""
        return self.config.backbone.id_dim + self.config.backbone.content_dim

    def parts_of(self, *, users: Tensor, items: Tensor, projection: Projection | None = None) -> ScoreParts:
        """The score vectors of a model of this run."""
        return ScoreParts(
            users=users,
            items=items,
            id_width=self.config.backbone.id_dim,
            base_width=self.base_width,
            degree=self.prepared.training.item_degree,
            projection=projection,
        )

    def folded_in(self, users: Tensor, items: Tensor) -> Tensor:
        """``users`` ``[U, D]`` with the vectors of users that train does not have, fitted to their support.

        Args:
            users: trained vectors.
            items: ``[I, D]``, frozen.
        """
        prepared, backbone = self.prepared, self.config.backbone
        if prepared.support is None:
            return users
        return fold_in(
            users,
            items,
            prepared.training.warm_rows(items),
            prepared.support,
            all_pairs_weight=all_pairs_weight(backbone),
            l2=backbone.l2,
            base_width=self.base_width,
        )


def all_pairs_weight(backbone: BackboneConfig) -> float:
    """That of the whole-data loss, which stands in where the backbone is trained with the sampled one."""
    loss = backbone.loss if isinstance(backbone.loss, GramianLoss) else GramianLoss()
    return loss.all_pairs_weight


def known_environments(stages: Stages) -> KnownGroups | None:
    """The groups of ``assignment: column`` or ``start: column``, in the canonical order of the pairs."""
    config, prepared = stages.config, stages.prepared
    if "column" not in (config.environments.assignment, config.environments.start):
        return None
    found = stages.groups or groups_of(config, prepared.dataset, prepared.train)
    return replace(found, label=found.label[canonical_order(prepared.train)].to(prepared.device))


def _of_risks(stages: Stages) -> KnownEnvironments | None:
    """The environments whose risks make the loss, if any do."""
    if not stages.config.backbone.reads_environments:
        return None
    groups = known_environments(stages)
    assert groups is not None  # the configuration sees to it
    return KnownEnvironments(label=groups.label, count=len(groups.names))


def pretrain(stages: Stages, store: PretrainedStore | None) -> Backbone:
    """The backbone that the rounds start from: trained on all features, or taken from ``store``.

    A backbone from the store is the one that this run would train on this machine, and its curves are
    reported again. Fixed epochs are always trained: the store holds only what stopped early.
    """
    everything = torch.ones(stages.prepared.features.shape[1], device=stages.prepared.device)
    known = stages.state.load("pretrain")
    if known is not None:
        model = _initial(stages, "pretrain", everything, None)
        model.load_state_dict(known)
        return model
    if store is None or stages.fixed_epochs is not None:
        model = train_backbone(stages, "pretrain", everything)
    else:
        model = _shared(stages, everything, store)
    stages.state.save("pretrain", model.state_dict())
    return model


def _shared(stages: Stages, gates: Tensor, store: PretrainedStore) -> Backbone:
    """The backbone from ``store``, or trained and left there, with its curves."""
    key = pretraining_key(stages.config, stages.prepared, "" if stages.look is None else stages.look.key)
    run = stages.state
    with store.claim(key):
        # One that is half-way here continues: what it reported is not reported twice.
        known = None if run.is_training("pretrain") else store.load(key)
        if known is None:
            model = train_backbone(stages, "pretrain", gates)
            state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            curves = run.points("pretrain")
            trained = Pretrained(state=state, best_epoch=run.epochs["pretrain"], curves=curves)
            store.store(key, trained)
            return model
    with run.stage("pretrain"):
        model = _initial(stages, "pretrain", gates, None)
        model.load_state_dict(known.state)
        for epoch, values in known.curves:
            run.curve("pretrain", epoch, values)
    run.epochs["pretrain"] = known.best_epoch
    return model


def _initial(
    stages: Stages,
    name: str,
    gates: Tensor,
    base: tuple[Tensor, Tensor] | None,
    mixing: type[Mixing] = Sum,
) -> Backbone:
    """A backbone as its training begins."""
    config, prepared = stages.config, stages.prepared
    backbone = config.backbone
    if base is not None:
        backbone = backbone.model_copy(update={"id_dim": 0})
    return Backbone(
        prepared.features,
        prepared.training,
        backbone,
        generator(config.seed, name, "init"),
        gates=gates,
        base=base,
        base_id_dim=config.backbone.id_dim if base is not None else 0,
        mixing=mixing,
        widths=tuple(prepared.widths.values()),
        environments=_of_risks(stages),
    )


def train_backbone(
    stages: Stages,
    name: str,
    gates: Tensor,
    base: tuple[Tensor, Tensor] | None = None,
    mixing: type[Mixing] = Sum,
) -> Backbone:
    """Train a backbone from scratch on gated features, on top of ``base``.

    ``gates``: ``[F]``, or ``[2 F]`` for two gated copies of the features side by side, whose projections
    ``mixing`` makes one.
    """
    config, prepared = stages.config, stages.prepared
    model = _initial(stages, name, gates, base, mixing)

    def curves(epoch: int, users: Tensor, items: Tensor) -> dict[str, float]:
        users = stages.folded_in(users, items)
        reported = evaluate(prepared.valid_plan, users, items)
        if stages.look is not None:
            reported |= stages.look(f"{name}/{epoch}", stages.parts_of(users=users, items=items))
        return reported

    refit, run = stages.fixed_epochs, stages.state
    training = config.training
    if training.stops_by_loeo and LOEO not in prepared.valid_plan.names:
        training = training.monitoring("iid")
    with run.stage(name):
        run.epochs[name] = fit(
            model,
            training,
            generator(config.seed, name, "fit"),
            evaluate=curves if refit is None else None,
            observe=partial(run.curve, name),
            epochs=None if refit is None else refit[name],
            start=partial(run.load_training, name),
            save=partial(run.save_training, name),
        )
    return model


def convert(stages: Stages, mask: Tensor) -> ScoreParts:
    """Train the final model from scratch with the mask fixed; nothing is weighed yet.

    Users are folded in last: no learner of the fusion is trained on them.
    """
    known: Vectors | None = stages.state.load("converted")
    if known is None:
        known = _converted(stages, mask)
        stages.state.save("converted", known)
    users, items, projection = known
    return stages.parts_of(users=users, items=items, projection=projection)


def _converted(stages: Stages, mask: Tensor) -> Vectors:
    """The vectors of all learners of the fusion."""
    *before, last = stages.config.fusion.learners(branch=stages.branch)
    base: Vectors | None = None
    for learner in before:
        known: Vectors | None = stages.state.load(learner.name)
        if known is None:
            known = _vectors(stages, learner, mask, base)
            stages.state.save(learner.name, known)
        base = known
    users, items, projection = _vectors(stages, last, mask, base)
    users = stages.folded_in(users, items)
    for learner in before:
        stages.state.drop(learner.name)
    return users, items, projection


def _vectors(stages: Stages, learner: Learner, mask: Tensor, base: Vectors | None) -> Vectors:
    """The vectors of a learner that is trained on top of ``base``."""
    below = None if base is None else base[:2]
    model = train_backbone(stages, learner.name, learner.gates(mask), below, learner.mixing)
    with torch.no_grad():
        own = model.projection()
        if base is not None:
            own = None if own is None or base[2] is None else base[2].beside(own)
        return model.user_vectors(), model.item_vectors(), own
