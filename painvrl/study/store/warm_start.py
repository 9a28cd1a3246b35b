"""Trials of another study that a new one begins with: ``study run --warm-start NAME``.

The sampler learns from them as if the study had trained them. None of their configurations is trained again,
and their points may be on the front. They do not count towards the trials that were asked for.

A trial is taken over where the new study's file describes the very training that it was: the same
configuration, at a point of the new space, swept over the same hyperparameters. So a hyperparameter may be
new in the space: its value is the one that the trial had. All others are left out, and the study remembers
how many and why. What is to be taken over is stored first: a process that dies leaves nothing half done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import optuna
from optuna.trial import FixedTrial, FrozenTrial
from pydantic import TypeAdapter, ValidationError

from painvrl.core.errors import Differs, StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import near_matches
from painvrl.engine.user_value_store import UserStore
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution, Value
from painvrl.run.hyperparameters import FIXED_SECTIONS, apply, leaves
from painvrl.study.file.queued import config_of_preset
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.identity import StudyIdentity, lines_of
from painvrl.study.store.known import StudyStorage
from painvrl.study.store.packed import unpacked
from painvrl.study.store.records import TakenFrom, TrialRecord, TrialState
from painvrl.study.store.storage import OUTCOME, Attr, StoredStudy, identity_of

OPTION = "--warm-start"


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What a study takes over, as it is stored with it.

    Attributes:
        study: the other one.
        trials: numbers there of what is taken over.
        left_out: how many others there are, by why they are not taken over.
    """

    study: str
    trials: tuple[int, ...]
    left_out: Mapping[str, int]

    def __str__(self) -> str:
        """For people."""
        left = "".join(f"; left out: {count} ({why})" for why, count in self.left_out.items())
        count = len(self.trials)
        return f"{count} trial{'' if count == 1 else 's'} of {self.study}{left}"


_WARM_START = TypeAdapter[WarmStart](WarmStart)


@dataclass(frozen=True, kw_only=True)
class TakeOver:
    """What :func:`take_over` is to add to a study: trials as they will be there, by number in ``source``."""

    source: StoredStudy
    reported: WarmStart
    trials: Mapping[int, FrozenTrial]


class _LeftOut(Exception):
    """Why a trial is not taken over, in a few words."""


def warm_start_of(study: optuna.Study) -> WarmStart | None:
    """What a study began with; ``None`` if it began with nothing."""
    noted = study.user_attrs.get(Attr.WARM_START)
    return None if noted is None else _WARM_START.validate_python(noted)


def planned(
    connection: StudyStorage, name: str, spec: StudySpec, identity: StudyIdentity, wanted: str | None
) -> TakeOver | None:
    """What a study has still to take over; nothing is written.

    Args:
        connection: to the storage of both studies.
        name: of the study, which need not exist yet.
        spec: its file.
        identity: what it searches.
        wanted: the other study; ``None`` continues with what the study was made with.

    Returns:
        ``None`` where nothing is to be done.

    Raises:
        StudyError: the other study is unknown or does not compare, the study was begun otherwise, or no
            trial of the other may be taken over.
    """
    known = optuna.get_all_study_names(connection)
    noted = None
    if name in known:
        study = optuna.load_study(study_name=name, storage=connection)
        noted, trials = warm_start_of(study), study.get_trials(deepcopy=False)
        if wanted is not None:
            _check_begun(name, wanted, noted, begun=bool(trials))
        if noted is not None and set(noted.trials) <= _taken(trials):
            return None
    source = wanted if noted is None else noted.study
    if source is None:
        return None
    if source == name:
        raise StudyError("is the study itself; name another one", key=OPTION, value=source)
    if source not in known:
        if noted is not None:
            rule = f"it was to begin with trials of {source!r}, which is gone; take a new name"
            raise StudyError(rule, key="study.name", value=name)
        rule = "no such study" + near_matches(source, [one for one in known if one != name])
        raise StudyError(rule, key=OPTION, value=source)
    other = optuna.load_study(study_name=source, storage=connection)
    found = _plan(StoredStudy(study=other, storage=connection, identity=identity_of(other)), spec, identity)
    if noted is not None:
        return _rest(found, noted, name)
    if not found.trials:
        raise StudyError(f"there is nothing to take over: {found.reported}", key=OPTION, value=source)
    return found


def _rest(found: TakeOver, noted: WarmStart, name: str) -> TakeOver:
    """What a process that died half-way was to take over.

    Raises:
        StudyError: the file has changed meanwhile, and describes some of it no more.
    """
    if lost := set(noted.trials) - set(found.trials):
        rule = (
            f"{len(lost)} of the trials of {noted.study!r} that it was to begin with do not fit the file as "
            "it is now; run it once as the file was"
        )
        raise StudyError(rule, key="study.name", value=name)
    return replace(found, trials={key: found.trials[key] for key in noted.trials})


def take_over(stored: StoredStudy, plan: TakeOver, workspace: Workspace) -> None:
    """Add what was planned to a study, with what each user got; what it has already stays as it is.

    Raises:
        PlaceError: what users got cannot be written; the same call continues.
    """
    if warm_start_of(stored.study) is None:
        stored.study.set_user_attr(Attr.WARM_START, asdict(plan.reported))
    trials = stored.study.get_trials(deepcopy=False)
    there, place = _taken(trials), len(trials)
    users, theirs = (UserStore(workspace.users / one.name) for one in (stored, plan.source))
    for number, trial in plan.trials.items():
        if number not in there:
            users.take_over(place, theirs, number)  # first: a trial that is there is not looked at again
            stored.study.add_trial(trial)
            place += 1


def _check_begun(name: str, wanted: str, noted: WarmStart | None, *, begun: bool) -> None:
    if noted is None and begun:
        rule = (
            f"the study {name!r} has trials already, and only a new one begins with others; take a new name"
        )
        raise StudyError(rule, key=OPTION, value=wanted)
    if noted is not None and noted.study != wanted:
        rule = f"the study {name!r} began with trials of {noted.study!r}; take a new name"
        raise StudyError(rule, key=OPTION, value=wanted)


def _taken(trials: list[FrozenTrial]) -> set[int]:
    """The numbers that trials of a study had where they were taken from."""
    return {
        trial.user_attrs[Attr.TAKEN_FROM]["trial"] for trial in trials if Attr.TAKEN_FROM in trial.user_attrs
    }


def _plan(source: StoredStudy, spec: StudySpec, identity: StudyIdentity) -> TakeOver:
    _check_compares(source, identity)
    trials: dict[int, FrozenTrial] = {}
    left_out = Counter[str]()
    frozen = source.study.get_trials(deepcopy=False)
    for record in source.trials():
        if record.state in {TrialState.WAITING, TrialState.INTERRUPTED, TrialState.REPEATED}:
            continue  # these trained nothing
        try:
            trials[record.number] = _taken_over(source, record, frozen[record.number], spec)
        except _LeftOut as why:
            left_out[str(why)] += 1
    reported = WarmStart(study=source.name, trials=tuple(trials), left_out=dict(left_out))
    return TakeOver(source=source, reported=reported, trials=trials)


def _check_compares(source: StoredStudy, identity: StudyIdentity) -> None:
    """Refuse a study of other data, another split, other objectives or another way to measure them."""
    changes = [
        (key, was, now)
        for key, was, now in source.identity.changes(identity)
        if not key.startswith("space.")
        and (not key.startswith("config.") or key.split(".")[1] in FIXED_SECTIONS)
    ]
    if changes:
        shown = "\n".join(lines_of(changes))
        rule = f"trials of the study {source.name!r} do not compare with those of the file:\n{shown}"
        raise Differs(rule, key=OPTION)


def _taken_over(source: StoredStudy, record: TrialRecord, trial: FrozenTrial, spec: StudySpec) -> FrozenTrial:
    """A trial as one of the new study.

    Raises:
        _LeftOut: it cannot be one.
    """
    if record.state not in {TrialState.COMPLETE, TrialState.PRUNED}:
        raise _LeftOut(record.state.value)
    if record.state is TrialState.PRUNED and spec.pruning is False:
        raise _LeftOut("pruned, which this study does with none")
    try:
        config = source.config_of(record)
    except (ValidationError, StudyError):
        raise _LeftOut("this version of painvrl refuses its configuration") from None
    preset = record.preset if record.preset in spec.presets and _is_preset(config, record, spec) else None
    fixed = FixedTrial({} if preset is not None else _sampled(config, spec))
    point = {} if preset is not None else spec.sampled.suggest(fixed, spec.config)
    reported = {} if preset is not None else _reported(config, point, spec)
    _check_sweep(source, record, config, spec)
    attrs: dict[str, object] = {
        key: value for key, value in trial.user_attrs.items() if key.startswith(Attr.RUNG)
    }
    assert record.outcome is not None, "it has ended"
    attrs[Attr.OUTCOME] = OUTCOME.dump_python(unpacked(record.outcome), mode="json")
    attrs[Attr.TAKEN_FROM] = asdict(TakenFrom(study=source.name, trial=record.number, run_id=record.run_id))
    if preset is not None:
        attrs[Attr.PRESET] = preset
    system = {key: value for key, value in trial.system_attrs.items() if key != "fixed_params"}
    made = optuna.create_trial(
        state=trial.state,
        values=trial.values,
        params=point,
        distributions=fixed.distributions,
        user_attrs=attrs,
        system_attrs={**system, "fixed_params": reported} if reported else system,
        intermediate_values=trial.intermediate_values,
    )
    made.datetime_start, made.datetime_complete = trial.datetime_start, trial.datetime_complete
    return made


def _is_preset(config: TrainConfig, record: TrialRecord, spec: StudySpec) -> bool:
    """Whether a preset's trial is what the preset trains over the file's configuration, too."""
    mine = config_of_preset(spec.config, spec.space, str(record.preset))
    return spec.space.turned(mine) == spec.space.turned(config)


def _sampled(config: TrainConfig, spec: StudySpec) -> dict[str, Value]:
    """The values that ``config`` has of what the new study samples."""
    known = leaves(config)

    def value_of(path: str) -> Value:
        if path not in known or not spec.sampled.root[path].contains(known[path]):
            raise _LeftOut(f"outside space.{path}")
        return known[path]

    return spec.sampled.chosen(spec.config, value_of)


def _reported(config: TrainConfig, point: Mapping[str, Value], spec: StudySpec) -> dict[str, Value]:
    """Where the sweep of ``config`` began, as far as that is not where the file's configuration begins.

    Raises:
        _LeftOut: the file describes another training at that point.
    """
    try:
        mine = apply(spec.config, point)
        known, own = leaves(config), leaves(mine)
        reported = {
            path: known[path] for path in spec.swept if path in known and known[path] != own.get(path)
        }
        mine = apply(mine, reported)
    except ValidationError:
        raise _LeftOut("the file's configuration refuses its point") from None
    turned, own = (dict(spec.space.turned(one)) for one in (config, mine))
    for path in {**own, **turned}:
        if path not in own or path not in turned or own[path] != turned[path]:
            raise _LeftOut(f"another config.{path}")
    for path, value in reported.items():
        if not spec.swept[path].contains(value):
            raise _LeftOut(f"outside space.{path}")
    return reported


def _check_sweep(source: StoredStudy, record: TrialRecord, config: TrainConfig, spec: StudySpec) -> None:
    """Leave out what was not swept over what it would be swept over now, or at points outside of it."""
    was_swept = bool(record.points) if record.state is TrialState.COMPLETE else bool(source.swept)
    before = source.space.swept_in(config) if was_swept else {}
    now: Mapping[str, Distribution] = spec.space.swept_in(config) if spec.swept else {}
    if set(before) != set(now) or was_swept != bool(spec.swept):
        over, here = (", ".join(one) or "nothing" for one in (before, now))
        raise _LeftOut(f"swept over {over}, not over {here}")
    for point in record.points[1:]:  # the first is where the sweep began
        for path, hyperparameter in now.items():
            if path in point.point and not hyperparameter.contains(point.point[path]):
                raise _LeftOut(f"a point outside space.{path}")
