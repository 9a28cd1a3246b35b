"""Studies as Optuna's storage keeps them: what a study is, and the records of its trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeAlias

import optuna
from optuna.trial import FrozenTrial
from pydantic import TypeAdapter, ValidationError

import painvrl
from painvrl.core.errors import SeveralStudies, StudyError
from painvrl.core.renamed import with_new_names
from painvrl.core.workspace import Workspace
from painvrl.engine.constraints import Constraint, excess, violated
from painvrl.engine.loop import TakenOver
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned
from painvrl.engine.sweep import SweepConfig
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution, Value
from painvrl.run.hyperparameters import Point, apply
from painvrl.run.presets import is_preset
from painvrl.study.file.queued import config_of_preset
from painvrl.study.file.space import Space
from painvrl.study.file.spec import FILE_NAME, StudySpec
from painvrl.study.store.database import connect, is_there, readable_errors, refuse_cut_off
from painvrl.study.store.identity import StudyIdentity
from painvrl.study.store.known import StudyStorage
from painvrl.study.store.packed import packed
from painvrl.study.store.records import FINISHED, TakenFrom, TrialRecord, TrialState
from painvrl.study.store.stamp import is_newer, refuse_newer, too_new
from painvrl.study.store.versions import versions_of

Training: TypeAlias = frozenset[tuple[str, Value]]
"""What a trial has that its study's base configuration has not, or the other way about, by path."""

_PRESET = "preset"  # no hyperparameter's path, since it has no dot

OUTCOME = TypeAdapter[Outcome](Outcome)
_CONSTRAINTS = TypeAdapter[tuple[Constraint, ...]](tuple[Constraint, ...])


class Attr:
    """Names of the user attributes: of a study those with a prefix, of a trial the others."""

    IDENTITY = "painvrl:identity"
    REQUESTED = "painvrl:wanted"
    PARENT_RUN = "painvrl:parent_run"
    RUNS = "painvrl:runs"
    SPLIT = "painvrl:card"
    GATE = "painvrl:gate"
    SAMPLER = "painvrl:sampler"
    CONSTRAINTS = "painvrl:constraints"
    AUTO = "painvrl:auto"
    SWEEP = "painvrl:sweep"
    WARM_START = "painvrl:warm_start"
    MADE_BY = "painvrl:made_by"
    FILE = "painvrl:file"
    ORIGIN = "origin"
    DROPPED = "dropped"
    OUTCOME = "outcome"
    RUN_ID = "run_id"
    RETRY_OF = "retry_of"
    DEATHS = "deaths"
    DEATH = "death"
    PRESET = "preset"
    REPEATS = "repeats"
    TAKEN_FROM = "taken_from"
    CODE = "code"
    ASK = "ask"
    """Which sampler chose a trial, and the seconds that it took."""
    OWNER = "owner"
    RUNG = "rung:"
    """Begins the names of what a trial had at a rung."""
    VERDICT = "verdict:"
    """Begins the names of why it was stopped at a rung; ``None`` is kept for one that passed."""


_NOTED: Mapping[str, TypeAdapter[Any]] = {
    Attr.REQUESTED: TypeAdapter(int),
    Attr.CONSTRAINTS: _CONSTRAINTS,
    Attr.SWEEP: TypeAdapter(SweepConfig | None),
    Attr.RUNS: TypeAdapter(dict[str, str]),
    Attr.SAMPLER: TypeAdapter(dict[str, Any]),
    **dict.fromkeys(
        (Attr.AUTO, Attr.FILE, Attr.GATE, Attr.SPLIT, Attr.WARM_START), TypeAdapter(dict[str, Any] | None)
    ),
}
"""What is read of a study's attributes; a database may have been written by other hands."""


@dataclass(frozen=True, kw_only=True)
class StoredStudy:
    """A study that exists.

    Attributes:
        study, storage: Optuna's; only ``painvrl.study`` touches them.
        identity: what it searches.
    """

    study: optuna.Study
    storage: StudyStorage
    identity: StudyIdentity
    _ended: dict[int, TrialRecord] = field(default_factory=dict, repr=False)
    """Records of trials that have ended, which never change: reading one costs more than all else."""
    _turned: dict[Training, Training] = field(default_factory=dict, repr=False)
    """What :meth:`training` has said of points and presets: it validates a configuration."""

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
    def sweep(self) -> SweepConfig | None:
        """How trials are swept, as the last command said; ``None`` where they are not."""
        noted = self.study.user_attrs.get(Attr.SWEEP)
        return None if noted is None else SweepConfig.model_validate(noted)

    @property
    def swept(self) -> Mapping[str, Distribution]:
        """The hyperparameters that are searched after each training."""
        return {} if self.sweep is None else self.space.swept()

    @property
    def sampled(self) -> Space:
        """The hyperparameters that are searched before it."""
        return self.space.without(self.swept)

    @property
    def requested(self) -> int:
        """How many finished trials the last command asked for."""
        return int(self.study.user_attrs.get(Attr.REQUESTED, 0))

    @property
    def sampler(self) -> Mapping[str, str]:
        """``sampler`` and ``reason`` of the next trial; empty before the first."""
        return dict(self.study.user_attrs.get(Attr.SAMPLER, {}))

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What trials must keep to: that of the last command, for all trials alike."""
        return _constraints_in(self.study.user_attrs)

    def excess(self, outcome: Completed) -> dict[str, float]:
        """How far a trial lies beyond each constraint, by its name; what was not measured counts as kept."""
        return _excess(self.constraints, outcome)

    def excess_under(self, constraints: tuple[Constraint, ...], record: TrialRecord) -> dict[str, float]:
        """How far a complete trial, or a point of one, lies beyond some constraints, by their names."""
        return _excess(constraints, record.outcome)

    @property
    def parent_run(self) -> str | None:
        """The study's own MLflow run."""
        run_id = self.study.user_attrs.get(Attr.PARENT_RUN)
        return None if run_id is None else str(run_id)

    def trial_id(self, number: int) -> int:
        """What the storage knows a trial by."""
        return int(self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number))

    @cached_property
    def study_id(self) -> int:
        """What the storage knows the study by."""
        return int(self.storage.get_study_id_from_name(self.name))

    def trials(self) -> tuple[TrialRecord, ...]:
        """The records of all trials, by number."""
        attrs = self.study.user_attrs  # every look is a query
        moved, constraints = attrs.get(Attr.RUNS, {}), _constraints_in(attrs)

        def now(record: TrialRecord, shared: str | None) -> TrialRecord:
            run_id = moved.get(record.name, shared)
            return replace(
                record,
                run_id=run_id,
                violated=_violated(constraints, record.outcome),
                points=tuple(now(point, run_id) for point in record.points),
            )

        found = map(self.record_of, self.study.get_trials(deepcopy=False))
        return tuple(now(each, each.run_id) for each in found) if moved or constraints else tuple(found)

    def record_of(self, trial: FrozenTrial) -> TrialRecord:
        """The record of one of Optuna's trials, under no constraint; of one that has ended it is kept."""
        known = self._ended.get(trial.number)
        if known is None:
            with sound(self.name, f"trial {trial.number}"):
                known = _record(trial, self.objectives)
            if trial.state.is_finished():
                self._ended[trial.number] = known
                if known.outcome is not None:  # kept once: Optuna keeps what it read, too
                    trial.user_attrs[Attr.OUTCOME] = known.outcome
        return known

    def training(self, point: Point, preset: str | None = None) -> Training:
        """What a trial of a point or of a preset trains: equal for trials with one configuration.

        Where the configuration refuses a point, the point stands for it.
        """
        asked = frozenset({**point, _PRESET: preset}.items())
        if asked not in self._turned:
            try:
                self._turned[asked] = self.space.turned(self.config_at(point, preset)) ^ self._own
            except ValidationError:
                self._turned[asked] = asked
        return self._turned[asked]

    @cached_property
    def _own(self) -> Training:
        """What the base configuration trains; a training is kept as its differences to it."""
        return self.space.turned(self.config)

    def trained(self, records: Iterable[TrialRecord]) -> dict[Training, int]:
        """What trials have trained or train now, each with the number of the first such trial.

        What was interrupted is not among it: it is to be trained again.
        """
        found: dict[Training, int] = {}
        for record in records:
            if record.state in FINISHED or record.state is TrialState.RUNNING:
                found.setdefault(self.training(record.point, record.preset), record.number)
        return found

    def note(self, number: int, name: str, value: object) -> None:
        """Keep something with a trial that has not ended; handing the trial out first would read it whole.

        Raises:
            TakenOver: another process has ended it.
        """
        try:
            self.storage.set_trial_user_attr(self.trial_id(number), name, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            raise TakenOver(number) from None

    def forget(self) -> None:
        """Read everything anew: a transaction was taken back."""
        self._ended.clear()
        self.study._storage = optuna.storages.get_storage(self.storage)  # noqa: SLF001 (it caches)

    def trial(self, number: int) -> optuna.Trial:
        """A trial that has not ended, as Optuna hands it out."""
        return optuna.Trial(self._plain, self.trial_id(number))

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
            return apply(config_of_preset(self.config, self.space, preset), point)
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
    place = workspace.root if storage is None else storage
    if not known:
        rule = "holds no study yet" if storage is None or is_there(storage) else "is no file"
        raise StudyError(f"{rule}; `painvrl study run SPEC.yaml` makes one", file=place)
    if name is None and len(known) > 1:
        several = SeveralStudies(f"several studies are here; name one of {', '.join(known)}", file=place)
        several.first = known[0]
        raise several
    name = name or known[0]
    if name not in known:
        raise StudyError(f"no such study; there are {', '.join(known)}", file=place, value=name)
    with readable_errors(storage or workspace.storage_url):
        connection = connect(storage or workspace.storage_url)
        if isinstance(study, StudySpec):
            name = versions_of(connection, name)[-1]
        loaded = optuna.load_study(study_name=name, storage=connection)
        return StoredStudy(study=loaded, storage=connection, identity=identity_of(loaded))


def unlike(stored: StoredStudy, spec: StudySpec) -> tuple[str, ...]:
    """The keys by whose values a study's trials would not compare with trials of the file, data apart."""
    now = StudyIdentity(
        objectives=spec.objectives,
        config=spec.config,
        space=spec.space,
        data=stored.identity.data,
        seeds=spec.study.seeds,
    )
    return tuple(key for key, _, _ in stored.identity.changes(now, swept=set(spec.swept)))


def list_studies(workspace: Workspace, *, storage: str | None = None) -> tuple[str, ...]:
    """Names of the studies in a storage; none if it does not exist yet, and it is not made."""
    url = storage or workspace.storage_url
    refuse_newer(workspace)
    with readable_errors(url):
        if not is_there(url):
            return ()
        refuse_cut_off(url)
        return tuple(optuna.get_all_study_names(connect(url)))


def identity_of(study: optuna.Study) -> StudyIdentity:
    """What a study searches, as it was stored when it was made.

    Raises:
        StudyError: it was made by something else, or by another version.
    """
    attrs = study.user_attrs  # every look is a query
    stored = attrs.get(Attr.IDENTITY)
    if stored is None or not FILE_NAME.fullmatch(study.study_name):
        raise not_ours(study.study_name)
    with sound(study.study_name, Attr.MADE_BY):
        version = str(attrs.get(Attr.MADE_BY, {}).get("painvrl", ""))
    if is_newer(version):
        raise StudyError(f"was last run by {too_new(version)}", key=study.study_name)
    with sound(study.study_name, "what it searches"):
        data = stored["config"]["data"]
        if data.get("duplicates") == "drop":  # a word of old versions; the default tells what it meant
            del data["duplicates"]
        stored["config"].get("split", {}).setdefault("iid_candidates", "warm")  # all that old versions had
    try:
        identity = StudyIdentity.model_validate(stored)
    except ValidationError:
        rule = "was made by a version of painvrl whose settings this one does not know; "
        if with_new_names(stored) != stored:
            rule += (
                "`painvrl workspace upgrade` gives them the names of today (--storage URL names a database)"
            )
        else:
            rule += "choose a new name, or use that version"
        raise StudyError(rule, key=study.study_name) from None
    for name, kind in _NOTED.items():
        if name in attrs:
            with sound(study.study_name, name):
                kind.validate_python(attrs[name])
    return identity


def milliseconds(when: datetime | None) -> int | None:
    """A time that the storage keeps, since 1970; ``None`` where it keeps none."""
    return None if when is None else int(when.timestamp() * 1000)


def note_code(study: StoredStudy, code: str) -> None:
    """Note with a study which painvrl runs it from now on; ``code``: a digest of code and device."""
    now = {"painvrl": painvrl.__version__, "code": code}
    if study.study.user_attrs.get(Attr.MADE_BY) != now:
        study.study.set_user_attr(Attr.MADE_BY, now)


@contextmanager
def sound(name: str, what: str) -> Iterator[None]:
    """Around reading what is stored with a study.

    Raises:
        StudyError: it cannot be read.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise damaged(name, what, error) from error


def damaged(name: str, what: str, error: Exception) -> StudyError:
    """What is said of what is stored and cannot be read."""
    cause = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    return StudyError(f"the database is damaged: {what} is not as it was written ({cause})", key=name)


def not_ours(name: str) -> StudyError:
    """What is said of a study that something else made."""
    return StudyError("was not made by painvrl; choose a new name", key=name)


def _record(trial: FrozenTrial, objectives: Sequence[str]) -> TrialRecord:
    stored, origin = trial.user_attrs.get(Attr.OUTCOME), trial.user_attrs.get(Attr.TAKEN_FROM)
    outcome = None if stored is None else packed(OUTCOME.validate_python(stored))
    state = _state(trial, outcome)
    complete = state is TrialState.COMPLETE
    record = TrialRecord(
        number=trial.number,
        state=state,
        point={**trial.system_attrs.get("fixed_params", {}), **trial.params},
        values=tuple(trial.values) if complete else None,
        outcome=outcome,
        run_id=trial.user_attrs.get(Attr.RUN_ID),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
        deaths=int(trial.user_attrs.get(Attr.DEATHS, 0)),
        preset=trial.user_attrs.get(Attr.PRESET),
        repeats=trial.user_attrs.get(Attr.REPEATS) if state is TrialState.REPEATED else None,
        taken_from=None if origin is None else TakenFrom(**origin),
    )
    if not isinstance(outcome, Completed) or not outcome.points:
        return record
    points = tuple(
        replace(
            record,
            place=place,
            point={**record.point, **point.values},
            values=tuple(point.metrics[name] for name in objectives),
            outcome=replace(outcome, metrics=point.metrics, first=point.first, points=()),
        )
        for place, point in enumerate(outcome.points)
    )
    return replace(record, points=points)


def _constraints_in(attrs: Mapping[str, object]) -> tuple[Constraint, ...]:
    return _CONSTRAINTS.validate_python(attrs.get(Attr.CONSTRAINTS, ()))


def _excess(constraints: tuple[Constraint, ...], outcome: Outcome | None) -> dict[str, float]:
    found: dict[str, float] = {}
    if isinstance(outcome, Completed):
        found = excess(constraints, outcome.measured)
    return {constraint.name: found.get(constraint.name, 0.0) for constraint in constraints}


def _violated(constraints: tuple[Constraint, ...], outcome: Outcome | None) -> tuple[str, ...]:
    if not isinstance(outcome, Completed):
        return ()
    return violated(constraints, outcome.measured)


def _state(trial: FrozenTrial, outcome: Outcome | None) -> TrialState:
    """Ours, not Optuna's: to that a configuration that cannot be trained is a complete, infeasible trial."""
    if not trial.state.is_finished():
        waits = trial.state is optuna.trial.TrialState.WAITING
        return TrialState.WAITING if waits else TrialState.RUNNING
    if isinstance(outcome, Pruned):
        return TrialState.PRUNED
    if isinstance(outcome, Failed):
        return TrialState.FAILED
    if Attr.REPEATS in trial.user_attrs:
        return TrialState.REPEATED
    return TrialState.COMPLETE if isinstance(outcome, Completed) else TrialState.INTERRUPTED
