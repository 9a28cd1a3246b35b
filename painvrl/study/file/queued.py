"""What a study trains before its sampler has a say: presets, the base configuration, the file's points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import Point, apply, leaves
from painvrl.run.presets import PresetName, changes_of
from painvrl.study.file.space import Space

Origin: TypeAlias = Literal["preset", "base", "point"]


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A trial that is queued.

    Attributes:
        origin: where it comes from.
        point: values of hyperparameters of the space; those that it leaves out are sampled. A preset has
            none.
        preset: the preset's name.
    """

    origin: Origin
    point: Point = field(default_factory=dict)
    preset: PresetName | None = None


def config_of_preset(base: TrainConfig, space: Space, preset: str) -> TrainConfig:
    """What a preset's trial trains: the base configuration with fixed hyperparameters and, over them, the
    preset's.

    Raises:
        pydantic.ValidationError: the configuration refuses the preset.
    """
    changes = changes_of(preset, base.environments.assignment)  # type: ignore[arg-type] # KeyError if unknown
    return apply(base, {**space.fixed(base), **changes})


def queue_of(
    base: TrainConfig, space: Space, presets: Sequence[PresetName], points: Sequence[Point]
) -> tuple[Queued, ...]:
    """What is queued, in order: presets, the default configuration, the points of the file.

    A preset that turns nothing is left out where the default configuration is all of the base, and so is a
    point that is the base's: each is trained once.
    """
    own, known, fixed = space.point_of(base), leaves(base), space.fixed(base)
    itself = apply(base, {**fixed, **own})
    # Where the own point leaves a hyperparameter to the sampler, its trial is not that of the base.
    undecided = any(
        path not in own and path not in fixed and space.may_be_active(path, own, known)
        for path in space.order()
    )
    queue = [
        Queued(origin="preset", preset=name)
        for name in presets
        if undecided or config_of_preset(base, space, name) != itself
    ]
    if own:
        queue.append(Queued(origin="base", point=own))
    queue += [Queued(origin="point", point=dict(point)) for point in points if dict(point) != own]
    return tuple(queue)
