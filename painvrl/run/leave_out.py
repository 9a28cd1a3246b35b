"""Leave one environment out: what a configuration is worth on a group of train interactions that it lacks.

A choice by ``loeo/...`` reads no OOD part. It does read what the environments are called. For each known
environment the final model is trained without its rows, and ranks them. Mask and epochs are those of the
whole training part, so a mask needs two environments at least. A loss of their risks needs three: of two one
is left, whose risk is the plain loss. A training costs one final model more for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from painvrl.data.grouping import KnownGroups, LeftOutGroup, left_out_group
from painvrl.data.parts import LOEO, Part
from painvrl.evaluation.ranking import RankingPlan, evaluate_each
from painvrl.model.fusion import FusionConfig, ScoreParts, WeighedScores
from painvrl.run.config import TrainConfig
from painvrl.run.known import groups_of, require_asked
from painvrl.run.prepare import Prepared, plan_parts, with_train
from painvrl.run.stages import Stages, convert
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
    state: RunState,
    *,
    branch: bool,
) -> LeftOut:
    """Train the final model once without each known environment.

    Args:
        config: the run, whose ``environments.column`` names the environments.
        prepared: its data.
        mask: ``[F]`` that the run learned.
        state: of the run, with the epochs that early stopping chose for each learner of the final model. Each
            of the models is a stage of it.
        branch: train the variant branch even where it weighs nothing.

    Raises:
        ConfigError: the groups do not fit the data, or nobody can be asked for one of them.
    """
    groups = groups_of(config, prepared.dataset, prepared.train)
    models = []
    for index, name in enumerate(groups.names):
        stage = f"leave out {name}"
        with state.stage("leave out", stage):
            stages, plan = _without(config, prepared, groups, index)
            stages = replace(stages, fixed_epochs=state.epochs, branch=branch)
            known = state.load(stage)
            if known is None:
                parts = convert(stages, mask)
            else:
                users, items, projection = known
                parts = stages.parts_of(users=users, items=items, projection=projection)
        if known is None:
            state.save(stage, (parts.users, parts.items, parts.projection))
        models.append((parts, plan))
    return LeftOut(models=tuple(models))


def epochs_by_left_out(
    config: TrainConfig, prepared: Prepared, mask: Tensor, state: RunState, *, branch: bool
) -> dict[str, int]:
    """The epoch of each learner of the final model at which left-out environments are served best.

    The final model is trained once without each environment, to the end. Its curves of the monitored metric
    are averaged over the environments, and the epoch with the best mean is taken.

    Args:
        config: the run, which monitors ``loeo/...``.
        prepared: its data.
        mask: ``[F]`` that the run learned.
        state: of the run; each of the trainings is a stage of it.
        branch: train the variant branch even where it weighs nothing.
    """
    training = config.training.model_copy(update={"patience": config.training.max_epochs})
    config = config.model_copy(update={"training": training})
    groups = groups_of(config, prepared.dataset, prepared.train)
    curves: dict[str, dict[int, list[float]]] = {}
    for index, name in enumerate(groups.names):
        stage = f"stop by loeo: leave out {name}"
        found: dict[str, list[tuple[int, float]]] | None = state.load(stage)
        if found is None:
            with state.stage("stop by loeo", stage):
                stages, plan = _without(config, prepared, groups, index)
                watched = replace(stages, prepared=replace(stages.prepared, valid_plan=plan), branch=branch)
                convert(watched, mask)
                found = {
                    learner: [
                        (epoch, values[training.monitor]) for epoch, values in watched.state.points(learner)
                    ]
                    for learner in watched.state.epochs
                }
            state.save(stage, found)
        for learner, points in found.items():
            for epoch, value in points:
                curves.setdefault(learner, {}).setdefault(epoch, []).append(value)
    return {learner: max(curve, key=lambda epoch: sum(curve[epoch])) for learner, curve in curves.items()}


def _without(
    config: TrainConfig, prepared: Prepared, groups: KnownGroups, index: int
) -> tuple[Stages, RankingPlan]:
    """What trains without an environment, and how it is asked for."""
    train, held_out = prepared.train, prepared.split.ood_valid.held_out
    rest = train.select(groups.label != index)
    part = _asked_for(left_out_group(train, groups, index, held_out=held_out), groups.names[index])
    measured = config.evaluation.model_copy(update={"also": ()})
    plan = plan_parts({LOEO: part}, [rest], measured, prepared.device)
    without = with_train(config, prepared, rest)
    return Stages(config=config, prepared=without, groups=groups.without(index)), plan


def _asked_for(left: LeftOutGroup, name: str) -> Part:
    """An environment as a part; like the OOD part it ranks new items alone, or all of train."""
    require_asked(left, name)
    return Part(name=LOEO, interactions=left.rows, candidates=left.candidates, held_out=left.alone)
