"""Studies as Optuna's storage keeps them: what a study is, and the records of its trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from pydantic import TypeAdapter, ValidationError

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError, StudyError
from painvrl.settings import Settings
from painvrl.study.database import engine_url, sole_creator
from painvrl.study.outcomes import Outcome
from painvrl.study.records import TrialRecord, TrialState
from painvrl.study.space import Space, apply
from painvrl.study.spec import ObjectiveName, StudySpec
from painvrl.workspace import Workspace

OUTCOME = TypeAdapter[Outcome](Outcome)

P = ParamSpec("P")
T = TypeVar("T")


class Attr:
    """Names of the user attributes: of a study the first four, of a trial the others."""

    IDENTITY = "painvrl:identity"
    WANTED = "painvrl:wanted"
    PARENT_RUN = "painvrl:parent_run"
    RUNS = "painvrl:runs"
    OUTCOME = "outcome"
    RUN_ID = "run_id"
    RETRY_OF = "retry_of"
    DEATHS = "deaths"
    WORKER = "worker"


class StudyIdentity(Settings):
    """What must not change while a study goes on: else its trials would not compare."""

    objectives: tuple[ObjectiveName, ...]
    config: TrainConfig
    space: Space
    data: str

    def differences(self, other: StudyIdentity) -> tuple[str, ...]:
        """What ``other`` has otherwise, a phrase each.

        A knob's own value in the base configuration may differ: no trial but the first looks at it.
        """
        mine, theirs = self._flat(), other._flat()
        return tuple(
            f"{key} was {_shown(mine, key)} and is {_shown(theirs, key)}"
            for key in {**mine, **theirs}
            if mine.get(key) != theirs.get(key)
        )

    def _flat(self) -> dict[str, object]:
        turned = {f"config.{path}" for path in self.space.root}
        flat = dict(_flatten(self.model_dump(mode="json", exclude={"data"})))
        flat["the data (content or split)"] = self.data
        return {key: value for key, value in flat.items() if key not in turned}


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
    def parent_run(self) -> str | None:
        """The study's own MLflow run."""
        run_id = self.study.user_attrs.get(Attr.PARENT_RUN)
        return None if run_id is None else str(run_id)

    def trials(self) -> tuple[TrialRecord, ...]:
        """The records of all trials, by number."""
        moved = self.study.user_attrs.get(Attr.RUNS, {})
        frozen = self.study.get_trials(deepcopy=False)
        return tuple(_record(trial, moved.get(str(trial.number))) for trial in frozen)

    def config_of(self, record: TrialRecord) -> TrainConfig:
        """The configuration that a trial trained."""
        return apply(self.config, record.point)


def open_study(
    study: StudySpec | str | None, workspace: Workspace, *, storage: str | None = None
) -> StoredStudy:
    """A study that exists, by its file, by its name, or the only one there is.

    Args:
        study: ``None`` stands for the only study of the storage.
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
        loaded = optuna.load_study(study_name=name, storage=connection)
        return StoredStudy(study=loaded, storage=connection, identity=_identity(loaded))


def list_studies(workspace: Workspace, *, storage: str | None = None) -> tuple[str, ...]:
    """Names of the studies in a storage; none if it does not exist yet."""
    if storage is None and not workspace.optuna_db.exists():
        return ()
    url = storage or workspace.storage_url
    with _readable_errors(url):
        return tuple(optuna.get_all_study_names(_connect(url)))


def _one_at_a_time(
    create: Callable[Concatenate[StudySpec, Workspace, P], T],
) -> Callable[Concatenate[StudySpec, Workspace, P], T]:
    @wraps(create)
    def alone(spec: StudySpec, workspace: Workspace, /, *more: P.args, **named: P.kwargs) -> T:
        url = spec.study.storage or workspace.storage_url
        with _readable_errors(url), sole_creator(url):
            return create(spec, workspace, *more, **named)

    return alone


@_one_at_a_time
def create_study(spec: StudySpec, workspace: Workspace, *, data: str) -> tuple[StoredStudy, bool]:
    """The study of a file, made if it does not exist; and whether it existed.

    The caller holds the study's lock. The base configuration's own values are queued as the first
    point.

    Args:
        spec: a checked study file.
        workspace: must exist.
        data: fingerprint of what the trials train on.

    Raises:
        StudyError: the study exists and its trials would not compare with new ones.
    """
    url = spec.study.storage or workspace.storage_url
    identity = StudyIdentity(objectives=spec.objectives, config=spec.config, space=spec.space, data=data)
    with _readable_errors(url):
        connection = _connect(url)
        study = optuna.create_study(
            storage=connection,
            study_name=spec.study.name,
            directions=["maximize"] * len(spec.objectives),
            load_if_exists=True,
        )
        trials = study.get_trials(deepcopy=False)
        if Attr.IDENTITY not in study.user_attrs and not trials:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(spec.objectives))
            study.set_user_attr(Attr.IDENTITY, identity.model_dump(mode="json"))
        stored = StoredStudy(study=study, storage=connection, identity=_identity(study))
        if differences := stored.identity.differences(identity):
            shown = "; ".join(differences[:3]) + ("; ..." if len(differences) > 3 else "")
            raise StudyError(
                f"the study {spec.study.name!r} exists and was run otherwise: {shown}. Its trials would not "
                "compare: take the change back, or choose a new name",
                key="study.name",
            )
        if not trials and (point := spec.space.point_of(spec.config)):
            study.enqueue_trial(point)
        return stored, bool(trials)


def lock_path(spec: StudySpec, workspace: Workspace) -> Path:
    """Where the study's lock lies: beside a storage that is a file, whoever's workspace opens it."""
    url = spec.study.storage
    with _readable_errors(url or workspace.storage_url):
        parsed = sqlalchemy.make_url(url or workspace.storage_url)
    if url is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
        return Workspace(Path(parsed.database).absolute().parent).lock_path(spec.study.name)
    return workspace.lock_path(spec.study.name)


def _identity(study: optuna.Study) -> StudyIdentity:
    stored = study.user_attrs.get(Attr.IDENTITY)
    if stored is None:
        raise StudyError("was not made by painvrl; choose a new name", key=study.study_name)
    try:
        return StudyIdentity.model_validate(stored)
    except ValidationError:
        rule = "was made by a version of painvrl whose settings this one does not know; choose a new name"
        raise StudyError(rule, key=study.study_name) from None


def _record(trial: FrozenTrial, moved_run: str | None) -> TrialRecord:
    stored = trial.user_attrs.get(Attr.OUTCOME)
    state = {
        optuna.trial.TrialState.COMPLETE: TrialState.COMPLETE,
        optuna.trial.TrialState.RUNNING: TrialState.RUNNING,
        optuna.trial.TrialState.WAITING: TrialState.WAITING,
    }.get(trial.state, TrialState.INTERRUPTED if stored is None else TrialState.FAILED)
    if trial.state is optuna.trial.TrialState.PRUNED and stored is not None:
        state = TrialState.PRUNED
    complete = state is TrialState.COMPLETE
    return TrialRecord(
        number=trial.number,
        state=state,
        point={**trial.system_attrs.get("fixed_params", {}), **trial.params},
        values=tuple(trial.values) if complete else None,
        outcome=None if stored is None else OUTCOME.validate_python(stored),
        run_id=moved_run or trial.user_attrs.get(Attr.RUN_ID),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
        deaths=int(trial.user_attrs.get(Attr.DEATHS, 0)),
    )


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


def _flatten(tree: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _shown(flat: Mapping[str, object], key: str) -> str:
    return repr(flat[key])[:60] if key in flat else "absent"
