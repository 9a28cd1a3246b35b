"""Studies as Optuna's storage keeps them: what a study is, and the records of its trials."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from pydantic import TypeAdapter, ValidationError

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError, StudyError
from painvrl.presets import is_preset
from painvrl.study.constraints import Constraint, excess, violated
from painvrl.study.database import engine_url, sole_creator
from painvrl.study.identity import StudyIdentity
from painvrl.study.outcomes import Completed, Failed, Outcome, Pruned
from painvrl.study.queued import config_of_preset, queue_of
from painvrl.study.records import TrialRecord, TrialState
from painvrl.study.space import Point, Space, Value, apply
from painvrl.study.spec import StudySpec
from painvrl.study.versions import VERSION_OF, next_version, versions_of
from painvrl.workspace import Workspace

OUTCOME = TypeAdapter[Outcome](Outcome)
_CONSTRAINTS = TypeAdapter[tuple[Constraint, ...]](tuple[Constraint, ...])


class Attr:
    """Names of the user attributes: of a study those with a prefix, of a trial the others."""

    IDENTITY = "painvrl:identity"
    WANTED = "painvrl:wanted"
    PARENT_RUN = "painvrl:parent_run"
    RUNS = "painvrl:runs"
    CARD = "painvrl:card"
    SAMPLER = "painvrl:sampler"
    CONSTRAINTS = "painvrl:constraints"
    AUTO = "painvrl:auto"
    ORIGIN = "origin"
    DROPPED = "dropped"
    OUTCOME = "outcome"
    RUN_ID = "run_id"
    RETRY_OF = "retry_of"
    DEATHS = "deaths"
    WORKER = "worker"
    PRESET = "preset"
    RUNG = "rung:"
    """Begins the names of what a trial had at a rung."""


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """A study that exists.

    Attributes:
        study, storage: Optuna's; only ``painvrl.study`` touches them.
        identity: what it searches.
    """

    study: optuna.Study
    storage: RDBStorage
    identity: StudyIdentity
    _ended: dict[int, TrialRecord] = field(default_factory=dict, repr=False)
    """Records of trials that have ended, which never change: reading one costs more than all else."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the metrics that are maximised."""
        return self.identity.objectives

    @property
    def config(self) -> TrainConfig:
        """The base configuration."""
        return self.identity.config

    @property
    def space(self) -> Space:
        """The search space."""
        return self.identity.space

    @property
    def wanted(self) -> int:
        """How many finished trials the last command asked for."""
        return int(self.study.user_attrs.get(Attr.WANTED, 0))

    @property
    def sampler(self) -> Mapping[str, str]:
        """``sampler`` and ``reason`` of the next trial; empty before the first."""
        return dict(self.study.user_attrs.get(Attr.SAMPLER, {}))

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What trials must keep to: that of the last command, for all trials alike."""
        return _CONSTRAINTS.validate_python(self.study.user_attrs.get(Attr.CONSTRAINTS, ()))

    def excess(self, outcome: Completed) -> dict[str, float]:
        """How far a trial lies beyond each constraint, by its name; what was not measured counts as kept."""
        found = excess(self.constraints, outcome.metrics, outcome.total_seconds, outcome.peak_memory_mib)
        return {constraint.name: found.get(constraint.name, 0.0) for constraint in self.constraints}

    @property
    def parent_run(self) -> str | None:
        """The study's own MLflow run."""
        run_id = self.study.user_attrs.get(Attr.PARENT_RUN)
        return None if run_id is None else str(run_id)

    def trial_id(self, number: int) -> int:
        """What the storage knows a trial by."""
        study_id = self.storage.get_study_id_from_name(self.name)
        return int(self.storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def trials(self) -> tuple[TrialRecord, ...]:
        """The records of all trials, by number."""
        moved = self.study.user_attrs.get(Attr.RUNS, {})
        constraints = self.constraints
        return tuple(
            replace(
                record,
                run_id=moved.get(str(record.number), record.run_id),
                violated=_violated(constraints, record.outcome),
            )
            for record in map(self._record_of, self.study.get_trials(deepcopy=False))
        )

    def _record_of(self, trial: FrozenTrial) -> TrialRecord:
        known = self._ended.get(trial.number)
        if known is None:
            known = _record(trial)
            if trial.state.is_finished():
                self._ended[trial.number] = known
        return known

    def trial(self, number: int) -> optuna.Trial:
        """A trial that has not ended, as Optuna hands it out."""
        study_id = self.storage.get_study_id_from_name(self.name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        return optuna.Trial(self._plain, trial_id)

    @cached_property
    def _plain(self) -> optuna.Study:
        """The study with a sampler that does nothing when a trial is looked at; others prepare one then."""
        sampler = optuna.samplers.RandomSampler()
        return optuna.load_study(study_name=self.name, storage=self.storage, sampler=sampler)

    def config_of(self, record: TrialRecord) -> TrainConfig:
        """The configuration that a trial trained.

        Raises:
            pydantic.ValidationError: the base configuration refuses the trial's point.
        """
        return self.config_at(record.point, record.preset)

    def config_at(self, point: Point, preset: str | None) -> TrainConfig:
        """The configuration of a point, or of a preset; raises as :meth:`config_of` does."""
        if preset is not None:
            if not is_preset(preset):
                rule = "the study has a preset that this version of painvrl does not know"
                raise StudyError(rule, key=self.name, value=preset)
            return config_of_preset(self.config, self.space, preset)
        return apply(self.config, point)


def open_study(
    study: StudySpec | str | None, workspace: Workspace, *, storage: str | None = None
) -> StoredStudy:
    """A study that exists, by its file, by its name, or the only one there is.

    Args:
        study: ``None`` stands for the only study of the storage; a file for its latest version.
        workspace: where the storage is unless ``storage`` or the study's file names another.
        storage: an SQLAlchemy URL.

    Raises:
        StudyError: there is none, or no such one, or several to choose from.
    """
    if isinstance(study, StudySpec):
        storage = storage or study.study.storage
        name: str | None = study.study.name
    else:
        name = study
    known = list_studies(workspace, storage=storage)
    if not known:
        raise StudyError("holds no study yet; `painvrl study run SPEC.yaml` makes one", file=workspace.root)
    if name is None and len(known) > 1:
        raise StudyError(f"several studies are here; name one of {', '.join(known)}", file=workspace.root)
    name = name or known[0]
    if name not in known:
        raise StudyError(f"no such study; there are {', '.join(known)}", file=workspace.root, value=name)
    with _readable_errors(storage or workspace.storage_url):
        connection = _connect(storage or workspace.storage_url)
        if isinstance(study, StudySpec):
            name = versions_of(connection, name)[-1]
        loaded = optuna.load_study(study_name=name, storage=connection)
        return StoredStudy(study=loaded, storage=connection, identity=_identity(loaded))


def list_studies(workspace: Workspace, *, storage: str | None = None) -> tuple[str, ...]:
    """Names of the studies in a storage; none if it does not exist yet."""
    if storage is None and not workspace.optuna_db.exists():
        return ()
    url = storage or workspace.storage_url
    with _readable_errors(url):
        return tuple(optuna.get_all_study_names(_connect(url)))


def create_study(
    spec: StudySpec, workspace: Workspace, *, data: str, new_version: bool = False
) -> tuple[StoredStudy, bool]:
    """The study of a file, made if it does not exist; and whether it existed.

    Of several versions it is the latest whose trials compare with those of the file. The caller holds
    the study's lock. Presets, the base configuration's own values and the file's points are queued
    (:mod:`painvrl.study.queued`); on a resumed study those that are new, while those that the file
    names no more, and that nobody has begun, are dropped.

    Args:
        spec: a checked study file.
        workspace: must exist.
        data: fingerprint of what the trials train on.
        new_version: make the next version where no version compares.

    Raises:
        StudyError: the study exists and its trials would not compare with new ones.
    """
    url = spec.study.storage or workspace.storage_url
    identity = StudyIdentity(objectives=spec.objectives, config=spec.config, space=spec.space, data=data)
    with _readable_errors(url), sole_creator(url):
        connection = _connect(url)
        name = _version_for(connection, spec.study.name, identity, new_version=new_version)
        study = optuna.create_study(
            storage=connection,
            study_name=name,
            directions=["maximize"] * len(spec.objectives),
            load_if_exists=True,
        )
        existed = bool(study.get_trials(deepcopy=False))
        if Attr.IDENTITY not in study.user_attrs and not existed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(spec.objectives))
            if name != spec.study.name:
                study.set_user_attr(VERSION_OF, spec.study.name)
            study.set_user_attr(Attr.IDENTITY, identity.model_dump(mode="json"))
        stored = StoredStudy(study=study, storage=connection, identity=_identity(study))
        kept = [one.model_dump(mode="json") for one in spec.constraints]
        study.set_user_attr(Attr.CONSTRAINTS, kept)
        _queue(stored, spec)
        return stored, existed


def _version_for(connection: RDBStorage, name: str, identity: StudyIdentity, *, new_version: bool) -> str:
    """The name of the version that a study file goes on with, or of the one to make."""
    versions = versions_of(connection, name)
    latest: tuple[str, str] | None = None
    for version in reversed(versions):
        study = optuna.load_study(study_name=version, storage=connection)
        if Attr.IDENTITY not in study.user_attrs and not study.get_trials(deepcopy=False):
            return version  # its maker died before it was done
        if not (differences := _identity(study).differences(identity)):
            return version
        latest = latest or (version, "\n".join(differences))
    if latest is None:
        return name
    if new_version:
        return next_version(connection, name)
    version, shown = latest
    raise StudyError(
        f"the study {version!r} exists and was run otherwise; its trials would not compare:\n{shown}\n"
        "take the change back, choose a new name, or make a new version of the study with --new-version",
        key="study.name",
    )


def _queue(stored: StoredStudy, spec: StudySpec) -> None:
    """Bring the queue of a study up to date with its file."""
    wanted = queue_of(stored.config, stored.space, spec.presets, spec.points)
    points = [dict(one.point) for one in wanted]
    kept = []
    for trial in stored.study.get_trials(deepcopy=False):
        if trial.state is optuna.trial.TrialState.WAITING and not _is_listed(trial, spec, points):
            trial_id = stored.trial_id(trial.number)
            stored.storage.set_trial_user_attr(trial_id, Attr.DROPPED, value=True)
            stored.storage.set_trial_state_values(trial_id, optuna.trial.TrialState.FAIL)
        elif Attr.DROPPED not in trial.user_attrs:
            kept.append(trial)
    presets = {trial.user_attrs.get(Attr.PRESET) for trial in kept}
    tried = [trial.system_attrs.get("fixed_params", trial.params) for trial in kept]
    for one in wanted:
        if one.preset is not None and one.preset not in presets:
            stored.study.enqueue_trial({}, user_attrs={Attr.PRESET: one.preset, Attr.ORIGIN: one.origin})
        elif one.preset is None and dict(one.point) not in tried:
            stored.study.enqueue_trial(dict(one.point), user_attrs={Attr.ORIGIN: one.origin})


def _is_listed(trial: FrozenTrial, spec: StudySpec, points: list[dict[str, Value]]) -> bool:
    """Whether a study's file still asks for a queued trial."""
    preset = trial.user_attrs.get(Attr.PRESET)
    if preset is not None:
        return preset in spec.presets
    return trial.user_attrs.get(Attr.ORIGIN) != "point" or trial.system_attrs.get("fixed_params") in points


def lock_path(spec: StudySpec, workspace: Workspace, name: str | None = None) -> Path:
    """Where the study's lock lies: beside a storage that is a file, whoever's workspace opens it.

    ``name``: of one of the study's versions.
    """
    url, name = spec.study.storage, name or spec.study.name
    with _readable_errors(url or workspace.storage_url):
        parsed = sqlalchemy.make_url(url or workspace.storage_url)
    if url is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
        return Workspace(Path(parsed.database).absolute().parent).lock_path(name)
    return workspace.lock_path(name)


def _identity(study: optuna.Study) -> StudyIdentity:
    stored = study.user_attrs.get(Attr.IDENTITY)
    if stored is None:
        raise StudyError("was not made by painvrl; choose a new name", key=study.study_name)
    try:
        return StudyIdentity.model_validate(stored)
    except ValidationError:
        rule = "was made by a version of painvrl whose settings this one does not know; choose a new name"
        raise StudyError(rule, key=study.study_name) from None


def _record(trial: FrozenTrial) -> TrialRecord:
    stored = trial.user_attrs.get(Attr.OUTCOME)
    outcome = None if stored is None else OUTCOME.validate_python(stored)
    state = _state(trial, outcome)
    complete = state is TrialState.COMPLETE
    return TrialRecord(
        number=trial.number,
        state=state,
        point={**trial.system_attrs.get("fixed_params", {}), **trial.params},
        values=tuple(trial.values) if complete else None,
        outcome=outcome,
        run_id=trial.user_attrs.get(Attr.RUN_ID),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
        deaths=int(trial.user_attrs.get(Attr.DEATHS, 0)),
        preset=trial.user_attrs.get(Attr.PRESET),
    )


def _violated(constraints: tuple[Constraint, ...], outcome: Outcome | None) -> tuple[str, ...]:
    if not isinstance(outcome, Completed):
        return ()
    return violated(constraints, outcome.metrics, outcome.total_seconds, outcome.peak_memory_mib)


def _state(trial: FrozenTrial, outcome: Outcome | None) -> TrialState:
    """Ours, not Optuna's: to that a configuration that cannot be trained is a complete, infeasible trial."""
    if not trial.state.is_finished():
        waits = trial.state is optuna.trial.TrialState.WAITING
        return TrialState.WAITING if waits else TrialState.RUNNING
    if isinstance(outcome, Pruned):
        return TrialState.PRUNED
    if isinstance(outcome, Failed):
        return TrialState.FAILED
    return TrialState.COMPLETE if isinstance(outcome, Completed) else TrialState.INTERRUPTED


def _connect(url: str) -> RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parsed = engine_url(url)
    engine: dict[str, object] = {"pool_pre_ping": True}
    if parsed.get_backend_name() == "sqlite":
        engine["connect_args"] = {"timeout": 60}  # seconds to wait for another process's write
        if parsed.database:
            Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    return RDBStorage(parsed.render_as_string(hide_password=False), engine_kwargs=engine)


@contextmanager
def _readable_errors(url: str) -> Iterator[None]:
    """Turn the database's errors into one line that keeps the password out."""
    try:
        yield
    except sqlalchemy.exc.ArgumentError:
        raise ConfigError(
            "is not a database URL such as sqlite:////folder/optuna.db", key="storage"
        ) from None
    except ImportError as error:
        driver = getattr(error.__cause__, "name", None) or error.name
        raise StudyError(f"the database's driver {driver} is not installed", key="storage") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, OSError) as error:
        shown = sqlalchemy.make_url(url).render_as_string(hide_password=True)
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise StudyError(f"the studies cannot be read: {cause}", file=shown) from None
