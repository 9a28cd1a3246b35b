"""A study as its YAML file describes it: what to search, in which space, for which objectives."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from painvrl.core.errors import ConfigError, Mistakes
from painvrl.core.settings import Settings
from painvrl.core.shown import conceal
from painvrl.core.yamlfile import validated
from painvrl.engine.constraints import Constraint
from painvrl.engine.sweep import SweepConfig
from painvrl.evaluation.measured import ObjectiveName
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution, Value
from painvrl.run.presets import PRESETS, PresetName
from painvrl.run.pretrained import NOT_READ
from painvrl.study.file import checks as spec_rules
from painvrl.study.file.overrides import loaded
from painvrl.study.file.space import Space
from painvrl.study.search.budget import StallConfig
from painvrl.study.search.pruning import PruningConfig
from painvrl.study.search.samplers import SamplerName

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
"""A study's name and, behind it, its version: files and folders are called so."""


class StudySettings(Settings):
    """How a study searches. All of it may change on the way, but for ``seeds``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """What the study is resumed by."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler; split and initialisation follow ``config.seed``."""
    seeds: int = Field(default=1, ge=1, le=20)
    """How often each training is repeated, under ``config.seed`` and the seeds after it; a trial's values are
    the means.
    """
    trials: int = Field(default=40, ge=1)
    """Finished trials requested in all, resumed ones and presets included."""
    sampler: SamplerName = "auto"
    """How points are chosen; ``auto`` takes a sampler by space, budget and the time of a trial."""
    startup_trials: int = Field(default=10, ge=2)
    """Random points before ``auto``, ``tpe`` and ``gp`` model anything; the population of ``nsga2`` and
    ``nsga3``.
    """
    timeout: float | None = Field(default=None, gt=0)
    """Seconds of one run of the study; ``null`` is no limit."""
    trial_timeout: float | None = Field(default=None, gt=0)
    """Seconds of a trial; ``null`` is no limit."""
    stall: StallConfig | None = None
    """Ends the study when it no longer gets better; ``null`` never does."""
    storage: str | None = None
    """An SQLAlchemy URL; ``null`` is the workspace's own database."""

    @field_validator("storage")
    @classmethod
    def _has_a_secret(cls, storage: str | None) -> str | None:
        conceal(storage or "")
        return storage


class StudySpec(Settings):
    """A study's file."""

    study: StudySettings
    """How the study searches."""
    objectives: tuple[ObjectiveName, ...] = Field(min_length=1, max_length=6)
    """Metrics of valid parts, such as ``iid/ndcg_at_20``; all are maximised."""
    config: TrainConfig
    """The configuration that every trial changes."""
    space: Space
    """What is searched, and over which values."""
    presets: tuple[PresetName, ...] = tuple(PRESETS)
    """Presets that are trained first, over ``config``."""
    points: tuple[Annotated[dict[str, Value], Field(min_length=1)], ...] = ()
    """Points trained next, after the point of ``config`` itself; what a point leaves out is sampled."""
    constraints: tuple[Constraint, ...] = ()
    """A trial that breaks one is never on the front."""
    pruning: bool | PruningConfig = True
    """Whether hopeless trials are stopped early, and how."""
    sweep: Literal["auto", False] | SweepConfig = "auto"
    """How hyperparameters that act after training are searched: swept over each training (``auto`` or
    settings), or sampled before it (``false``) as any other.
    """

    @model_validator(mode="after")
    def _names_each_preset_once(self) -> Self:
        if len(set(self.presets)) != len(self.presets):
            raise ValueError(f"presets must not name one twice (found {list(self.presets)})")
        return self

    @property
    def sweeping(self) -> SweepConfig | None:
        """How trainings are swept; ``None`` where they are not."""
        if self.sweep is False:
            return None
        return SweepConfig() if self.sweep == "auto" else self.sweep

    @property
    def swept(self) -> Mapping[str, Distribution]:
        """The hyperparameters that are searched after each training."""
        return {} if self.sweep is False else self.space.swept()

    @property
    def sampled(self) -> Space:
        """The hyperparameters that are searched before it."""
        return self.space.without(self.swept)


ABLATION = "ablation"
"""The key that makes a file that of an ablation (:mod:`painvrl.study.ablation`)."""


def load_spec(path: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Read and check a study's file.

    Args:
        path: the file.
        overrides: ``path=value`` each, as of ``--set``.

    Raises:
        ConfigError: a rule is broken; the message names file, key, rule and value.
    """
    return loaded(path, overrides, spec_of)


def spec_of(content: Mapping[str, object]) -> StudySpec:
    """The content of a study's file, checked.

    Raises:
        ConfigError: see :func:`load_spec`.
    """
    if ABLATION in content:
        rule = "an ablation has a table and no front: only `painvrl study run` and `validate` take its file"
        raise ConfigError(rule, key=ABLATION)
    if content.keys().isdisjoint(StudySpec.model_fields) and not content.keys().isdisjoint(
        TrainConfig.model_fields
    ):
        rule = "is a configuration: `painvrl train` trains it; a study has it under `config`"
        raise ConfigError(rule)
    return validated(StudySpec, content, check=check_spec, basis="config")


def check_spec(spec: StudySpec) -> None:
    """The rules that join several keys.

    Raises:
        ConfigError: see :func:`load_spec`.
    """
    mistakes = Mistakes()
    with mistakes.noted():
        spec_rules.check_objectives(spec)
    with mistakes.noted():
        spec_rules.check_constraints(spec)
    parts = spec.config.scored_names()
    if parts is not None:
        with mistakes.noted():
            spec_rules.check_measured(spec, parts)
    with mistakes.noted():
        spec_rules.check_space(spec)
        # A space that is wrong says nothing of what is in it.
        for check in (spec_rules.check_sampler, spec_rules.check_presets, spec_rules.check_points):
            with mistakes.noted():
                check(spec)
    mistakes.raise_all()


MAX_SHARED_PRETRAININGS = 64
"""Beyond so many different ones the same pretraining hardly comes back."""


def pretraining_comes_back(space: Space) -> bool:
    """Whether trials of ``space`` share few enough pretrainings for keeping them.

    With a continuous hyperparameter over a setting that the pretraining reads, every trial has its own.
    """
    read = [
        hyperparameter
        for path, hyperparameter in space.root.items()
        if path.split(".", maxsplit=1)[0] not in NOT_READ
    ]
    return math.prod(hyperparameter.count() for hyperparameter in read) <= MAX_SHARED_PRETRAININGS
