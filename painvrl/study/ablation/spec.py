"""An ablation as its YAML file describes it: which configurations to compare, under which seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from painvrl.core.errors import ConfigError, Mistakes
from painvrl.core.settings import Settings
from painvrl.core.yamlfile import config_error, near_matches, validated
from painvrl.engine.grid import Cell
from painvrl.engine.job import Job
from painvrl.evaluation import metrics
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Categorical, Fixed, Value
from painvrl.run.hyperparameters import FIXED_SECTIONS, all_hyperparameters, apply, hyperparameters
from painvrl.run.presets import KEY, PRESETS, PresetName, changes_of, is_preset
from painvrl.study.file.checks import check_is_no_section
from painvrl.study.file.overrides import loaded
from painvrl.study.file.queued import config_of_preset
from painvrl.study.file.spec import ABLATION, StudySpec, spec_of

PARTS = ("iid", "ood")

BUDGET = ("training.max_epochs", "training.evaluate_every", "training.patience", "training.monitor")
"""Hyperparameters that decide how long a row trains; all rows have those of the base configuration."""

RowName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,49}$")]


class AblationSettings(Settings):
    """What is compared, and how."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """What the ablation is resumed by."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    """Each is split and initialisation of one run of every row."""
    presets: tuple[PresetName, ...] = tuple(PRESETS)
    """Presets that are rows, over the file's ``config``."""
    reference: str = "painvrl"
    """The row that the others are compared with."""
    metrics: tuple[str, ...] = Field(default=("recall", "ndcg"), min_length=1)
    """Metrics in the table, each of IID and of OOD rows."""
    cutoff: int = Field(default=20, ge=1)
    """Length of the lists that the metrics judge."""
    draws: int = Field(default=2000, ge=100, le=1_000_000)
    """Draws of the bootstrap."""

    @model_validator(mode="after")
    def _distinct_and_known(self) -> Self:
        for key, values in (("seeds", self.seeds), ("presets", self.presets), ("metrics", self.metrics)):
            if len(set(values)) != len(values):
                raise ValueError(f"{key} must not name one twice (found {list(values)})")
        return self


class AblationSpec(Settings):
    """An ablation's file."""

    ablation: AblationSettings
    """What is compared, and how."""
    config: TrainConfig
    """The configuration that every row changes."""
    variants: dict[RowName, dict[str, Value]] = Field(default_factory=dict)
    """Further rows by name: what each changes in the configuration, over a ``preset`` or not."""

    def changes(self) -> dict[str, dict[str, Value]]:
        """The rows of the table in order, and what each turns in ``config``."""
        known_by = partial(changes_of, assignment=self.config.environments.assignment)
        rows: dict[str, dict[str, Value]] = {name: dict(known_by(name)) for name in self.ablation.presets}
        for name, turned in self.variants.items():
            preset = turned.get(KEY)
            known: Mapping[str, Value] = known_by(preset) if is_preset(preset) else {}  # type: ignore[arg-type]
            rows[name] = {**known, **{path: value for path, value in turned.items() if path != KEY}}
        return rows

    def measured(self) -> tuple[str, ...]:
        """Full names of what is in the table, ``iid/recall_at_20``, ..."""
        settings = self.ablation
        return tuple(
            metrics.name(part, metric, settings.cutoff) for metric in settings.metrics for part in PARTS
        )


def cells_of(spec: AblationSpec) -> Iterator[Cell]:
    """Every run, those of one seed after each other: they share the split."""
    rows = {name: apply(spec.config, turned) for name, turned in spec.changes().items()}
    for number, (seed, (row, config)) in enumerate(product(spec.ablation.seeds, rows.items())):
        seeded = config.model_copy(update={"seed": seed})
        yield Cell(row=row, seed=seed, job=Job(number=number, point={"variant": row}, config=seeded))


OF_DATA = ("features", "environments", "mask")
"""Sections that name what the data have, or count it."""


def others_of(spec: StudySpec | AblationSpec) -> Iterator[tuple[str, TrainConfig]]:
    """What a file trains and can be told without a sampler: each with the key that asks for it.

    Of a space these are the ends of each hyperparameter, but where a condition or a choice beside it in its
    section may change what it means.
    """
    if isinstance(spec, AblationSpec):
        for name, turned in spec.changes().items():
            where = f"variants.{name}" if name in spec.variants else f"ablation.presets {name}"
            yield where, apply(spec.config, turned)
        return
    for preset in spec.presets:
        yield f"presets {preset}", config_of_preset(spec.config, spec.space, preset)
    searched = {path: spec.space.root[path] for path in spec.space.searched(spec.config)}
    fixed = {path: one.value for path, one in searched.items() if isinstance(one, Fixed)}
    choices = {path for path, one in searched.items() if isinstance(one, Categorical)}
    for path, one in searched.items():
        section = path.partition(".")[0]
        beside = {other for other in choices - {path} if other.startswith(f"{section}.")}
        if section in OF_DATA and not beside and not one.when:
            for end, value in one.probes():
                with suppress(ValidationError):  # it goes with another choice; the space's rules have looked
                    yield f"space.{path}.{end}", apply(spec.config, {**fixed, path: value})


def load_study_file(path: Path, overrides: Sequence[str] = ()) -> StudySpec | AblationSpec:
    """Read and check the file of a study or, where it has the key ``ablation``, of an ablation.

    Args:
        path: the file.
        overrides: ``path=value`` each, as of ``--set``.

    Raises:
        ConfigError: a rule is broken; the message names file, key, rule and value.
    """
    return loaded(path, overrides, study_or_ablation)


def study_or_ablation(content: Mapping[str, object]) -> StudySpec | AblationSpec:
    """The content of either file, checked; see :func:`load_study_file`. Errors do not name the file."""
    if ABLATION not in content:
        return spec_of(content)
    return validated(AblationSpec, content, check=check_ablation, basis="config")


def check_ablation(spec: AblationSpec) -> None:
    """The rules that join several keys.

    Raises:
        ConfigError: see :func:`load_study_file`.
    """
    settings, mistakes = spec.ablation, Mistakes()
    for name, turned in spec.variants.items():
        with mistakes.noted():
            if name in settings.presets:
                rule = "is the name of a preset's row already; choose another"
                raise ConfigError(rule, key=f"variants.{name}")
        for path, value in turned.items():
            with mistakes.noted():
                _check_change(spec, name, path, value)
    with mistakes.noted():
        _check_metrics(spec)
    with mistakes.noted():
        rows = spec.changes()
        if not rows:
            raise ConfigError("must name a row: a preset, or one of variants", key="ablation.presets")
        if settings.reference not in rows:
            rule = "must be one of the rows" + near_matches(settings.reference, rows)
            raise ConfigError(rule, key="ablation.reference", value=settings.reference)
    mistakes.raise_all()
    for name, turned in rows.items():
        try:
            apply(spec.config, turned)
        except ValidationError as error:
            cause = config_error(error, TrainConfig, {})
            key = f"variants.{name}" if name in spec.variants else "ablation.presets"
            rule = f"the config refuses it: {cause.rule}"
            raise ConfigError(rule, key=key, value=cause.value or name) from None


def _check_metrics(spec: AblationSpec) -> None:
    settings, evaluation = spec.ablation, spec.config.evaluation
    cutoffs = list(evaluation.ks)
    if settings.cutoff not in cutoffs:
        rule = f"must be one of config.evaluation.ks, {cutoffs}"
        raise ConfigError(rule, key="ablation.cutoff", value=settings.cutoff)
    # The table's intervals are made of each user's values.
    known = [metric.name for metric in evaluation.metrics if metric.is_of_users]
    for name in settings.metrics:
        if name not in known:
            rule = f"must be among those of users, {', '.join(known)}"
            raise ConfigError(rule, key="ablation.metrics", value=name)


def _check_change(spec: AblationSpec, name: str, path: str, value: Value) -> None:
    key = f"variants.{name}.{path}"
    if path == KEY:
        if not is_preset(value):
            rule = "is not a preset" + near_matches(str(value), PRESETS)
            raise ConfigError(rule, key=key, value=value)
        return
    if path.split(".", maxsplit=1)[0] in FIXED_SECTIONS:
        rule = "cannot differ between rows: they share their data, split, evaluation and seeds"
        raise ConfigError(rule, key=key)
    if path in BUDGET:
        rule = "cannot differ between rows: they have equal budgets, those of config.training"
        raise ConfigError(rule, key=key)
    # Those of a variant that the base has not chosen, too: the row may choose it.
    known = {**hyperparameters(spec.config), **dict.fromkeys(all_hyperparameters())}
    check_is_no_section(path, known, key)
    if path not in known:
        raise ConfigError("is not a hyperparameter of the config" + near_matches(path, known), key=key)
