"""The hyperparameters of a configuration: its scalars by their path, and how to turn them."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from pydantic.fields import FieldInfo

from painvrl.core.settings import AfterTraining, Settings
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Value

Point: TypeAlias = Mapping[str, Value]
"""Values of hyperparameters by their path, such as ``mask.sparsity``."""

FIXED_SECTIONS = ("data", "split", "evaluation", "seed")
"""What all trials of a study share: values measured on different parts do not compare."""


def apply(base: TrainConfig, point: Point) -> TrainConfig:
    """``base`` with the hyperparameters of ``point`` turned.

    A hyperparameter that chooses a variant of its section, such as ``backbone.loss.kind``, puts that
    variant's defaults in the place of the base's section.

    Raises:
        pydantic.ValidationError: a value breaks a rule of the configuration, or its hyperparameter belongs to
            a variant that is not chosen.
    """
    tree = base.model_dump(mode="json")
    for path, value in point.items():
        branch, leaf = _branch(tree, path)
        if leaf in branch and branch[leaf] != value and _chooses_a_variant(path):
            branch.clear()
            branch[leaf] = value
    for path, value in point.items():
        branch, leaf = _branch(tree, path)
        branch[leaf] = value
    return TrainConfig.model_validate(tree)


def _branch(tree: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *sections, leaf = path.split(".")
    for section in sections:
        tree = tree[section]
    return tree, leaf


def hyperparameters(config: TrainConfig) -> dict[str, Value]:
    """Every hyperparameter of a configuration that a study may turn, by path, with its value.

    Hyperparameters are scalars; which ones there are depends on the variants that ``config`` chose.
    """
    return {
        path: value
        for path, value in leaves(config).items()
        if path.split(".", maxsplit=1)[0] not in FIXED_SECTIONS
    }


def leaves(config: TrainConfig) -> dict[str, Value]:
    """Every scalar of a configuration by its path, what all trials of a study share included."""
    return dict(_leaves(config.model_dump(mode="json")))


def _leaves(tree: Mapping[str, object], above: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        elif value is None or isinstance(value, bool | int | float | str):
            yield f"{above}{key}", value


@functools.cache
def all_hyperparameters() -> tuple[str, ...]:
    """Every hyperparameter that some configuration has, those of all variants."""
    return tuple(dict.fromkeys(path for path, _ in _fields()))


@functools.cache
def after_training() -> frozenset[str]:
    """The hyperparameters that act on a trained model, which their settings mark: a study may sweep them."""
    return frozenset(
        path for path, field in _fields() if any(isinstance(mark, AfterTraining) for mark in field.metadata)
    )


@functools.cache
def _chooses_a_variant(path: str) -> bool:
    """Whether the hyperparameter is what a section of several variants is told apart by."""
    kinds = [field.annotation for known, field in _fields() if known == path]
    return len(kinds) > 1 and all(typing.get_origin(kind) is Literal for kind in kinds)


@functools.cache
def _fields() -> tuple[tuple[str, FieldInfo], ...]:
    """The hyperparameters' fields with their paths; what several variants have, once for each."""
    sections = {
        name: field
        for name, field in TrainConfig.model_fields.items()
        if name not in FIXED_SECTIONS and not field.exclude
    }
    return tuple(_below(sections))


def _below(fields: Mapping[str, FieldInfo], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in fields.items():
        for model in (models := _models(field.annotation)):
            yield from _below(model.model_fields, f"{above}{name}.")
        if not models and typing.get_origin(field.annotation) not in {tuple, list, dict}:
            yield f"{above}{name}", field


def _models(annotation: Any) -> tuple[type[Settings], ...]:
    """The settings classes that a field may hold; none for a scalar."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return (annotation,)
    if typing.get_origin(annotation) in {tuple, list, dict}:
        return ()
    return tuple(model for part in typing.get_args(annotation) for model in _models(part))
