"""The stages of a run that train: the backbone that the rounds start from, and the final model.

Each takes the run's :class:`Stages` and returns what the next one needs; :mod:`painvrl.rounds` lies
between them, and :mod:`painvrl.pipeline` is the list of them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from painvrl.config import TrainConfig
from painvrl.evaluation.ranking import evaluate
from painvrl.model.folding import fold_in
from painvrl.model.fusion import MixingKind, weighted_branch
from painvrl.model.losses import GramianLoss
from painvrl.model.ultragcn import Backbone, BackboneConfig
from painvrl.prepare import Prepared
from painvrl.pretrained import CurveRecorder, Pretrained, PretrainedStore, pretraining_key
from painvrl.progress import Observer
from painvrl.rng import generator
from painvrl.training import fit


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What every stage needs: the configuration, the data, who listens, and the clock.

    Attributes:
        fixed_epochs: by training; where set, nothing stops early.
        seconds: filled by :meth:`stage`. epochs: filled by :func:`train_backbone`.
    """

    config: TrainConfig
    prepared: Prepared
    observer: Observer
    fixed_epochs: Mapping[str, int] | None
    seconds: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, label: str | None = None) -> Iterator[None]:
        """Announce ``label`` and add the wall time of the block to ``seconds[name]``."""
        self.observer.stage(label or name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def folded_in(self, users: Tensor, items: Tensor, base_width: int) -> Tensor:
        """``users`` ``[U, D]`` with the vectors of users whom train does not have, fitted to their support.

        Args:
            users: trained vectors.
            items: ``[I, D]``, frozen.
            base_width: columns from here on are the variant branch; ``D`` without one.
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
            base_width=base_width,
        )


def all_pairs_weight(backbone: BackboneConfig) -> float:
    """That of the whole-data loss, which stands in where the backbone is trained with the sampled one."""
    loss = backbone.loss if isinstance(backbone.loss, GramianLoss) else GramianLoss()
    return loss.all_pairs_weight


def pretrain(stages: Stages, store: PretrainedStore | None) -> Backbone:
    """The backbone that the rounds start from: trained on all features, or taken from ``store``.

    A backbone from the store is the one that this run would train on this machine, and its curves are
    told again. Fixed epochs are always trained: the store holds only what stopped early.
    """
    everything = torch.ones(stages.prepared.features.matrix.shape[1], device=stages.prepared.device)
    if store is None or stages.fixed_epochs is not None:
        return train_backbone(stages, "pretrain", everything)
    key = pretraining_key(stages.config, stages.prepared)
    with store.claim(key):
        known = store.load(key)
        if known is None:
            return _pretrain_for(stages, everything, store, key)
    with stages.stage("pretrain"):
        model = _initial(stages, "pretrain", everything, None)
        model.load_state_dict(known.state)
        for epoch, values in known.curves:
            stages.observer.curve("pretrain", epoch, values)
    stages.epochs["pretrain"] = known.best_epoch
    return model


def _pretrain_for(stages: Stages, gates: Tensor, store: PretrainedStore, key: str) -> Backbone:
    """Train the backbone and leave it, with its curves, in ``store``."""
    recorder = CurveRecorder(stages.observer)
    model = train_backbone(replace(stages, observer=recorder), "pretrain", gates)
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    epoch = stages.epochs["pretrain"]
    store.store(key, Pretrained(state=state, best_epoch=epoch, curves=recorder.points))
    return model


def _initial(
    stages: Stages,
    name: str,
    gates: Tensor,
    base: tuple[Tensor, Tensor] | None,
    mixing: MixingKind = "sum",
) -> Backbone:
    """A backbone as its training begins."""
    config, prepared = stages.config, stages.prepared
    backbone = config.backbone
    if base is not None:
        backbone = backbone.model_copy(update={"id_dim": 0})
    return Backbone(
        prepared.features.matrix,
        prepared.training,
        backbone,
        generator(config.seed, name, "init"),
        gates=gates,
        base=base,
        base_id_dim=config.backbone.id_dim if base is not None else 0,
        mixing=mixing,
    )


def train_backbone(
    stages: Stages,
    name: str,
    gates: Tensor,
    base: tuple[Tensor, Tensor] | None = None,
    mixing: MixingKind = "sum",
) -> Backbone:
    """Train a backbone from scratch on gated features, on top of ``base``.

    ``gates``: ``[F]``, or ``[2 F]`` for two gated copies of the features side by side, whose projections
    ``mixing`` makes one.
    """
    config, prepared = stages.config, stages.prepared
    model = _initial(stages, name, gates, base, mixing)

    def curves(users: Tensor, items: Tensor) -> dict[str, float]:
        base_width = users.shape[1] if base is None else base[0].shape[1]
        return evaluate(prepared.valid_plan, stages.folded_in(users, items, base_width), items)

    refit = stages.fixed_epochs
    with stages.stage(name):
        fitted = fit(
            model,
            config.training,
            generator(config.seed, name, "fit"),
            evaluate=curves if refit is None else None,
            observe=lambda epoch, values: stages.observer.curve(name, epoch, values),
            epochs=None if refit is None else refit[name],
        )
    stages.epochs[name] = fitted.best_epoch
    return model


def convert(stages: Stages, mask: Tensor) -> tuple[Tensor, Tensor, int]:
    """Train the final model from scratch with the mask fixed: user vectors, item vectors, base width.

    Users are folded in last, and before the branch is weighed: neither branch is trained on them.
    """
    fusion = stages.config.fusion
    if fusion.kind in {"sum", "scalar", "item"}:
        both = torch.cat([mask, 1 - mask])
        model = train_backbone(stages, fusion.kind, both, mixing=fusion.kind)
        users, items = model.user_vectors().detach(), model.item_vectors().detach()
        return stages.folded_in(users, items, users.shape[1]), items, users.shape[1]
    invariant = train_backbone(stages, "invariant", mask)
    with torch.no_grad():
        users, items = invariant.user_vectors().detach(), invariant.item_vectors().detach()
    base_width = users.shape[1]
    if fusion.kind == "invariant" or fusion.variant_weight == 0:
        return stages.folded_in(users, items, base_width), items, base_width
    branch = train_backbone(stages, "variant", 1 - mask, base=(users, items))
    with torch.no_grad():
        users, items = branch.user_vectors(), branch.item_vectors()
        users = stages.folded_in(users, items, base_width)
        return users, weighted_branch(items, base_width, fusion.variant_weight), base_width
