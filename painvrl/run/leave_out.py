"""Leave one environment out: what a configuration is worth on a group of train interactions that it lacks.

A choice by ``loeo/...`` reads no OOD part. It does read what the environments are called. For each known
environment the final model is trained without its rows, and ranks them. Mask and epochs are those of the
whole training part, so two environments are enough, and a training costs one final model more for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.observer import Observer
from painvrl.data.grouping import LeftOutGroup, known_groups, left_out_group
from painvrl.data.parts import LOEO, Part
from painvrl.evaluation.ranking import RankingPlan, evaluate_each
from painvrl.model.fusion import FusionConfig, ScoreParts, WeighedScores
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared, plan_parts, prepare_split
from painvrl.run.stages import Stages, Vectors, convert
from painvrl.run.state import RunState


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Models that each lack an environment, and how they are asked for it."""

    models: tuple[tuple[ScoreParts, RankingPlan], ...]

    def metrics(self, fusions: Sequence[FusionConfig]) -> tuple[dict[str, float], ...]:
        """``loeo/...`` under each of the weighings: means over the environments, which all count alike."""
        each = [evaluate_each(plan, WeighedScores(parts, fusions)) for parts, plan in self.models]
        return tuple(
            {name: sum(found[name] for found in of_one) / len(of_one) for name in of_one[0]}
            for of_one in zip(*each, strict=True)
        )


def leave_out(
    config: TrainConfig,
    prepared: Prepared,
    mask: Tensor,
    epochs: Mapping[str, int],
    *,
    branch: bool,
    observer: Observer,
    state: RunState | None = None,
) -> LeftOut:
    """Train the final model once without each known environment.

    Args:
        config: the run, whose ``environments.column`` names the environments.
        prepared: its data.
        mask: ``[F]`` that the run learned.
        epochs: that early stopping chose for each learner of the final model.
        branch: train the variant branch even where it weighs nothing.
        observer: hears of each environment.
        state: of the run; a model that is there is not trained again.

    Raises:
        ConfigError: the groups do not fit the data, or nobody can be asked for one of them.
    """
    models, state = [], state or RunState()
    for index, (stages, plan) in enumerate(_without_each(config, prepared, observer)):
        name = f"left out {index}"
        known: Vectors | None = state.load(name)
        if known is None:
            parts = convert(replace(stages, fixed_epochs=epochs, branch=branch), mask)
            state.save(name, (parts.users, parts.items, parts.projection))
        else:
            users, items, projection = known
            parts = stages.parts_of(users=users, items=items, projection=projection)
        models.append((parts, plan))
    return LeftOut(models=tuple(models))


def epochs_by_left_out(
    config: TrainConfig, prepared: Prepared, mask: Tensor, *, branch: bool, observer: Observer
) -> dict[str, int]:
    """The epoch of each learner of the final model at which left-out environments are served best.

    The final model is trained once without each environment, to the end. Its curves of the monitored metric
    are averaged over the environments, and the epoch with the best mean is taken.

    Args:
        config: the run, which monitors ``loeo/...``.
        prepared: its data.
        mask: ``[F]`` that the run learned.
        branch: train the variant branch even where it weighs nothing.
        observer: hears of each environment.
    """
    training = config.training.model_copy(update={"patience": config.training.max_epochs})
    config = config.model_copy(update={"training": training})
    curves: dict[str, dict[int, list[float]]] = {}
    for stages, plan in _without_each(config, prepared, observer):
        asked = replace(stages.prepared, valid_plan=plan)
        watched = replace(stages, prepared=asked, branch=branch)
        convert(watched, mask)
        for learner in watched.state.epochs:
            for epoch, values in watched.state.points(learner):
                curves.setdefault(learner, {}).setdefault(epoch, []).append(values[training.monitor])
    return {learner: max(curve, key=lambda epoch: sum(curve[epoch])) for learner, curve in curves.items()}


def _without_each(
    config: TrainConfig, prepared: Prepared, observer: Observer
) -> Iterator[tuple[Stages, RankingPlan]]:
    """For each environment what trains without it, and how it is asked for."""
    train = prepared.train
    groups = known_groups(prepared.dataset, train, config.environments.column, config.seed)
    held_out = prepared.split.ood_valid.held_out
    for index, name in enumerate(groups.names):
        observer.stage(f"leave out {name}")
        rest = train.select(groups.label != index)
        part = _asked_for(left_out_group(train, groups, index, held_out=held_out), name)
        without = prepare_split(config, prepared.dataset, prepared.split, rest, prepared.device)
        # The mask gates the features as they were, with smooth columns and statistics of all of train.
        without = replace(without, features=prepared.features, widths=prepared.widths)
        measured = config.evaluation.model_copy(update={"also": ()})
        plan = plan_parts({LOEO: part}, [rest], measured, prepared.device)
        yield Stages(config=config, prepared=without, groups=groups.without(index)), plan


def _asked_for(left: LeftOutGroup, name: str) -> Part:
    """An environment as a part; like the OOD part it ranks new items alone, or all of train."""
    if len(left.rows) == 0:
        rule = "no user of this environment has an interaction in another one, so none can be asked for it"
        raise ConfigError(rule, key="evaluation.loeo", value=name)
    return Part(name=LOEO, interactions=left.rows, candidates=left.candidates, held_out=left.alone)
