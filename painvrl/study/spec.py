"""A study as its YAML file describes it: what to search, in which space, for which objectives."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from painvrl.config import TrainConfig
from painvrl.data.parts import is_scored_name
from painvrl.errors import ConfigError
from painvrl.pretrained import NOT_READ
from painvrl.settings import Settings
from painvrl.study.budget import StallConfig
from painvrl.study.pruning import PruningConfig
from painvrl.study.space import FIXED_SECTIONS, Categorical, Distribution, IntRange, Space, apply, knobs
from painvrl.yamlfile import config_error, near_matches, read_yaml, validated

_METRIC = re.compile(r"([^/]+)/(recall|ndcg|precision|hit_rate|ndcg_legacy)_at_([1-9][0-9]*)")


def _valid_part_metric(name: str) -> str:
    if re.match(r"(iid|ood[^/]*)_test/", name):
        raise ValueError(
            f"is sealed: a study must not look at the test parts; use {name.replace('_test/', '/', 1)}"
        )
    match = _METRIC.fullmatch(name)
    if match is None or not is_scored_name(match[1]):
        raise ValueError(
            "is not a metric; one reads PART/METRIC_at_K with PART iid, ood or ood_NAME and METRIC recall, "
            "ndcg, precision, hit_rate or ndcg_legacy"
        )
    return name


ObjectiveName = Annotated[str, AfterValidator(_valid_part_metric)]


class StudySettings(Settings):
    """How a study searches.

    ``name``: what it is resumed by. ``seed``: of the sampler; split and initialisation follow
    ``config.seed``. ``trials``: finished trials wanted in all, resumed ones included. ``startup_trials``:
    random points before ``tpe`` and ``gp`` model anything; the population of ``nsga2``. ``storage``: an
    SQLAlchemy URL instead of the workspace's own database.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = Field(default=0, ge=0)
    trials: int = Field(default=40, ge=1)
    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    startup_trials: int = Field(default=10, ge=2)
    storage: str | None = None
    timeout: float | None = Field(default=None, gt=0)
    trial_timeout: float | None = Field(default=None, gt=0)
    stall: StallConfig | None = None


class StudySpec(Settings):
    """A study's file. All objectives are maximised."""

    study: StudySettings
    objectives: tuple[ObjectiveName, ...] = Field(min_length=1, max_length=6)
    config: TrainConfig
    space: Space
    pruning: bool | PruningConfig = True


ABLATION = "ablation"
"""The key that makes a file that of an ablation (:mod:`painvrl.study.ablation`)."""


def load_spec(path: Path) -> StudySpec:
    """Read and check a study's file.

    Raises:
        ConfigError: a rule is broken; the message names file, key, rule and value.
    """
    content = read_yaml(path)
    if ABLATION in content:
        rule = "an ablation has a table and no front: only `painvrl study run` takes its file"
        raise ConfigError(rule, file=path, key=ABLATION)
    spec = validated(StudySpec, content, file=path)
    check_spec(spec, file=path)
    return spec


def check_spec(spec: StudySpec, *, file: object = None) -> None:
    """The rules that join several keys.

    Raises:
        ConfigError: see :func:`load_spec`.
    """
    _check_objectives(spec, file)
    for path in spec.space.root:
        _check_knob(spec, path, file)


def _check_objectives(spec: StudySpec, file: object) -> None:
    for position, name in enumerate(spec.objectives):
        key = f"objectives.{position}"
        if name in spec.objectives[:position]:
            raise ConfigError("must not stand twice", file=file, key=key, value=name)
        match = _METRIC.fullmatch(name)
        cutoffs = spec.config.evaluation.ks
        if match and int(match[3]) not in cutoffs:
            raise ConfigError(
                f"its K must be one of config.evaluation.ks, {list(cutoffs)}", file=file, key=key, value=name
            )
    parts = spec.config.scored_names()
    if parts is not None:
        check_measured(spec, parts, file=file)


def check_measured(spec: StudySpec, parts: tuple[str, ...], *, file: object = None) -> None:
    """Refuse objectives of other parts than ``parts``, which the split has.

    Raises:
        ConfigError: the first such objective is named.
    """
    for position, name in enumerate(spec.objectives):
        if name.partition("/")[0] not in parts:
            rule = f"the split has no such part; it has {', '.join(parts)}"
            raise ConfigError(rule, file=file, key=f"objectives.{position}", value=name)


def _check_knob(spec: StudySpec, path: str, file: object) -> None:
    key = f"space.{path}"
    if path.split(".", maxsplit=1)[0] in FIXED_SECTIONS:
        rule = "cannot be searched: all trials of a study share their data, split, evaluation and seed"
        raise ConfigError(rule, file=file, key=key)
    known = knobs(spec.config)
    below = [knob for knob in known if knob.startswith(f"{path}.")]
    if below:
        raise ConfigError(f"is a section; name one of its knobs: {', '.join(below)}", file=file, key=key)
    if path not in known:
        raise ConfigError("is not a knob of the config" + near_matches(path, known), file=file, key=key)
    for end, value in spec.space.root[path].probes():
        try:
            apply(spec.config, {path: value})
        except ValidationError as error:
            cause = config_error(error, TrainConfig, {})
            rule = f"the config refuses it: {cause.rule}"
            raise ConfigError(rule, file=file, key=f"{key}.{end}", value=value) from None


MAX_SHARED_PRETRAININGS = 64
"""Beyond so many different ones the same pretraining hardly comes back."""


def pretraining_comes_back(space: Space) -> bool:
    """Whether trials of ``space`` share few enough pretrainings for keeping them.

    With a continuous knob over a setting that the pretraining reads, every trial has its own.
    """
    read = [knob for path, knob in space.root.items() if path.split(".", maxsplit=1)[0] not in NOT_READ]
    return math.prod(_n_values(knob) for knob in read) <= MAX_SHARED_PRETRAININGS


def _n_values(knob: Distribution) -> float:
    if isinstance(knob, Categorical):
        return len(knob.choices)
    if isinstance(knob, IntRange):
        return (knob.high - knob.low) // knob.step + 1
    return math.inf if knob.step is None else round((knob.high - knob.low) / knob.step) + 1
