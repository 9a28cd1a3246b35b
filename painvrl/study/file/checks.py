"""The rules of a study's file that join several keys. Whoever has read the file names it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from painvrl.core.errors import ConfigError, Mistakes
from painvrl.core.yamlfile import config_error, near_matches
from painvrl.data.parts import LOEO
from painvrl.engine.constraints import COSTS
from painvrl.evaluation.metrics import STANDARD, split_name
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Value, same
from painvrl.run.hyperparameters import (
    FIXED_SECTIONS,
    Point,
    all_hyperparameters,
    apply,
    hyperparameters,
    leaves,
)
from painvrl.study.file.queued import config_of_preset
from painvrl.study.search.port import SAMPLERS

if TYPE_CHECKING:
    from painvrl.study.file.spec import StudySpec


def check_objectives(spec: StudySpec) -> None:
    """Objectives differ, and are metrics that trials measure."""
    mistakes = Mistakes()
    for position, name in enumerate(spec.objectives):
        key = f"objectives.{position}"
        with mistakes.noted():
            if name in spec.objectives[:position]:
                raise ConfigError("must not stand twice", key=key, value=name)
            _check_metric(spec, name, key)
    mistakes.raise_all()


def check_constraints(spec: StudySpec) -> None:
    """Constraints are of what trials measure, each bound is given once, and they can be kept."""
    mistakes = Mistakes()
    for position in range(len(spec.constraints)):
        with mistakes.noted():
            _check_constraint(spec, position)
    mistakes.raise_all()


def _check_constraint(spec: StudySpec, position: int) -> None:
    one, others, key = spec.constraints[position], spec.constraints[:position], f"constraints.{position}"
    if any(one.name == other.name for other in others):
        raise ConfigError(f"bounds {one.name} a second time", key=key)
    for other in others:
        low, high = (one, other) if one.side == "min" else (other, one)
        if one.metric == other.metric and low.bound > high.bound:
            rule = f"leaves nothing: {one.metric} cannot be at least {low.bound} and at most {high.bound}"
            raise ConfigError(rule, key=key)
    if one.metric not in COSTS:
        _check_metric(spec, one.metric, f"{key}.metric")


def _check_metric(spec: StudySpec, full: str, key: str) -> None:
    part, metric, cutoff = split_name(full)
    evaluation = spec.config.evaluation
    if part == LOEO and metric not in (names := [one.name for one in STANDARD]):
        raise ConfigError(f"environments are left out for {', '.join(names)} alone", key=key, value=full)
    if cutoff not in evaluation.ks:
        rule = f"its K must be one of config.evaluation.ks, {list(evaluation.ks)}"
        raise ConfigError(rule, key=key, value=full)
    if metric not in evaluation.names:
        raise ConfigError(f"is not measured; add {metric} to config.evaluation.also", key=key, value=full)


def check_measured(spec: StudySpec, parts: tuple[str, ...]) -> None:
    """Objectives and constraints are of ``parts``, those that the split has.

    Raises:
        ConfigError: those that are not are named.
    """
    named = [(f"objectives.{position}", name) for position, name in enumerate(spec.objectives)]
    named += [
        (f"constraints.{position}.metric", one.metric)
        for position, one in enumerate(spec.constraints)
        if one.metric not in COSTS
    ]
    mistakes = Mistakes()
    for key, name in named:
        if name.partition("/")[0] not in parts:
            rule = f"the split has no such part; it has {', '.join(parts)}"
            mistakes.found.append(ConfigError(rule, key=key, value=name))
    mistakes.raise_all()


def check_space(spec: StudySpec) -> None:
    """Hyperparameters are the configuration's, their conditions can hold, their values are accepted."""
    known, mistakes = leaves(spec.config), Mistakes()
    for path in spec.space.root:
        with mistakes.noted():
            if path.split(".", maxsplit=1)[0] in FIXED_SECTIONS:
                rule = (
                    "cannot be searched: all trials of a study share their data, split, evaluation and seed"
                )
                raise ConfigError(rule, key=f"space.{path}")
            _check_condition(spec, path, known)
            _check_values(spec, path)
    mistakes.raise_all()
    if not spec.space.searched(spec.config):
        raise ConfigError("has no hyperparameter whose condition can hold", key="space")


def _check_condition(spec: StudySpec, path: str, known: dict[str, Value]) -> None:
    for other, values in spec.space.root[path].conditions().items():
        key = f"space.{path}.when.{other}"
        if other in spec.space.root:
            distribution = spec.space.root[other]
            wrong = [value for value in values if not distribution.contains(value)]
            rule = f"is not a value of space.{other}, so the condition would never hold"
            if not wrong and math.isinf(distribution.count()):
                wrong = list(values)
                rule = (
                    "is one value of a continuous hyperparameter, so the condition would never hold: "
                    f"give space.{other} a step"
                )
        elif other not in known:
            rule = "is neither a hyperparameter of the space nor a key of the config"
            raise ConfigError(rule + near_matches(other, [*spec.space.root, *known]), key=key)
        else:
            wrong = [value for value in values if not _is_possible(spec.config, other, value)]
            rule = f"is not a value that config.{other} may have"
        if wrong:
            raise ConfigError(rule, key=key, value=wrong[0])
    if not any(True for _ in spec.space.contexts(path)):
        rule = "can never hold: it asks other hyperparameters for values that exclude each other"
        raise ConfigError(rule, key=f"space.{path}.when")


def _is_possible(config: TrainConfig, path: str, value: Value) -> bool:
    if path.split(".", maxsplit=1)[0] in FIXED_SECTIONS:
        return True  # the data and the split of other studies are not to be judged from here
    try:
        apply(config, {path: value})
    except ValidationError:
        return False
    return True


def _check_values(spec: StudySpec, path: str) -> None:
    key = f"space.{path}"
    if path not in spec.space.searched(spec.config) and path in all_hyperparameters():
        return  # the config decides against its condition: another variant's hyperparameter, perhaps
    for context in spec.space.contexts(path):
        try:
            base = apply(spec.config, context)
        except ValidationError:
            continue  # what else the base has may not go with it; the trial will say so
        known = hyperparameters(base)
        check_is_no_section(path, known, key)
        if path not in known:
            raise ConfigError(_no_such_hyperparameter(base, path, context, known), key=key)
        for end, value in spec.space.root[path].probes():
            with _accepted(f"{key}.{end}", value):
                apply(base, {path: value})


def check_is_no_section(path: str, known: Iterable[str], key: str) -> None:
    """``path`` is not a section of the hyperparameters that are ``known``; ``key`` is named if it is."""
    below = [hyperparameter for hyperparameter in known if hyperparameter.startswith(f"{path}.")]
    if below:
        raise ConfigError(f"is a section; name one of its hyperparameters: {', '.join(below)}", key=key)


@contextmanager
def _accepted(key: str, value: object = None, what: str = "it") -> Iterator[None]:
    """Around what makes a configuration: if that refuses, so does the rule, and names ``key``."""
    try:
        yield
    except ValidationError as error:
        rule = f"the config refuses {what}: {config_error(error, TrainConfig, {}).rule}"
        raise ConfigError(rule, key=key, value=value) from None


def _no_such_hyperparameter(base: TrainConfig, path: str, context: Point, known: Iterable[str]) -> str:
    section, _, name = path.rpartition(".")
    at: object = base
    for part in section.split("."):
        at = getattr(at, part, None)
    if isinstance(at, Mapping):
        return f"config.{section} does not name {name}; give it a value there first"
    if path not in all_hyperparameters():
        return "is not a hyperparameter of the config" + near_matches(path, known)
    where = ", ".join(f"{other} is {value}" for other, value in context.items())
    config = f"the config where {where}" if where else "the config as it is"
    return f"{config} has no such hyperparameter: it belongs to another kind of {section}"


def check_sampler(spec: StudySpec) -> None:
    """The sampler can search such a space."""
    sampler = spec.study.sampler
    rule = SAMPLERS.get(sampler).refusal(spec.sampled, spec.config)
    if rule is not None:
        raise ConfigError(rule, key="study.sampler", value=sampler)


def check_presets(spec: StudySpec) -> None:
    """The configuration accepts the presets."""
    mistakes = Mistakes()
    for position, name in enumerate(spec.presets):
        with mistakes.noted(), _accepted(f"presets.{position}", name, "this preset, so leave it out"):
            config_of_preset(spec.config, spec.space, name)
    mistakes.raise_all()


def check_points(spec: StudySpec) -> None:
    """Points lie in the space, say what theirs depend on, and are accepted by the configuration."""
    mistakes = Mistakes()
    for position, point in enumerate(spec.points):
        key, before = f"points.{position}", len(mistakes.found)
        for path, value in point.items():
            with mistakes.noted():
                _check_coordinate(spec, point, path, value, f"{key}.{path}")
        with mistakes.noted():
            if any(dict(point) == dict(other) for other in spec.points[:position]):
                raise ConfigError("stands twice", key=key)
            if len(mistakes.found) == before:
                with _accepted(key):
                    apply(spec.config, {**spec.space.fixed(spec.config), **point})
    mistakes.raise_all()


def _check_coordinate(spec: StudySpec, point: Point, path: str, value: Value, key: str) -> None:
    space, known = spec.space, leaves(spec.config)
    if path not in space.root:
        raise ConfigError("is not a hyperparameter of the space" + near_matches(path, space.root), key=key)
    if not space.root[path].contains(value):
        raise ConfigError("lies outside the space", key=key, value=value)
    reported = {**space.fixed(spec.config), **point}
    for other, allowed in space.root[path].conditions().items():
        searched = other in space.root and space.may_be_active(other, point, known)
        if other not in reported and other in known and not searched:
            reported[other] = known[other]
        if other not in reported or not any(same(reported[other], one) for one in allowed):
            wanted = " or ".join(str(one) for one in allowed)
            rule = f"is only searched where {other} is {wanted}, which the point must say"
            raise ConfigError(rule, key=key)
