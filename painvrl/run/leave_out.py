"""Leave one environment out: what a configuration is worth on a group of train interactions that it lacks.

A choice by ``loeo/...`` reads no OOD part. It does read what the environments are called. For each known
environment the final model is trained without its rows, and ranks them. Mask and epochs are those of the
whole training part, so two environments are enough, and a training costs one final model more for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.data.grouping import known_groups
from painvrl.data.interactions import Interactions
from painvrl.data.parts import LOEO, Part
from painvrl.evaluation.ranking import RankingPlan, evaluate_each
from painvrl.model.fusion import FusionConfig, ScoreParts, WeighedScores
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared, plan_parts, prepare_split
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
    train = prepared.train
    groups = known_groups(prepared.dataset, train, config.environments.column, config.seed)
    models = []
    for index, name in enumerate(groups.names):
        stage = f"leave out {name}"
        with state.stage("leave out", stage):
            inside = groups.label == index
            rest = train.select(~inside)
            part = _asked_for(prepared, train.select(inside), rest, name)
            without = prepare_split(config, prepared.dataset, prepared.split, rest, prepared.device)
            # The mask gates the features as they were, with smooth columns and statistics of all of train.
            without = replace(without, features=prepared.features, widths=prepared.widths)
            measured = config.evaluation.model_copy(update={"also": ()})
            plan = plan_parts({LOEO: part}, [rest], measured, prepared.device)
            stages = Stages(config=config, prepared=without, fixed_epochs=state.epochs, branch=branch)
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


def _asked_for(prepared: Prepared, left: Interactions, rest: Interactions, name: str) -> Part:
    """The rows of an environment as a part; like the OOD part it ranks new items alone, or all of train."""
    users, items = rest.user_degree() > 0, rest.item_degree() > 0
    rows = left.select(users[left.user])
    new = (left.item_degree() > 0) & ~items
    alone = prepared.split.ood_valid.held_out and bool(new[rows.item].any())
    if alone:
        rows = rows.select(new[rows.item])
    if len(rows) == 0:
        rule = "no user of this environment has an interaction in another one, so none can be asked for it"
        raise ConfigError(rule, key="evaluation.loeo", value=name)
    candidates = new if alone else (prepared.train.item_degree() > 0)
    return Part(name=LOEO, interactions=rows, candidates=candidates, held_out=alone)
