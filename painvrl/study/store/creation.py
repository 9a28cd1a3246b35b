"""Making a study, or finding the version of it that continues; and queueing what it trains first."""

from __future__ import annotations

import logging
import warnings

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from painvrl.core.errors import Differs, StudyError
from painvrl.core.workspace import Workspace
from painvrl.run.distributions import Value
from painvrl.run.hyperparameters import leaves
from painvrl.study.file.queued import queue_of
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.database import connect, quick_commits, readable_errors, sole_creator
from painvrl.study.store.identity import StudyIdentity
from painvrl.study.store.stamp import refuse_newer
from painvrl.study.store.storage import Attr, StoredStudy, identity_of, not_ours
from painvrl.study.store.versions import VERSION_OF, next_version, versions_of
from painvrl.study.store.warm_start import planned, take_over

_logger = logging.getLogger(__name__)


def create_study(
    spec: StudySpec,
    workspace: Workspace,
    *,
    data: str,
    new_version: bool = False,
    warm_start: str | None = None,
    joined: bool = False,
) -> tuple[StoredStudy, bool]:
    """The study of a file, made if it does not exist; and whether it existed.

    Of several versions it is the latest whose trials compare with those of the file. The caller holds
    the study's lock. Presets, the base configuration's own values and the file's points are queued
    (:mod:`painvrl.study.file.queued`); on a resumed study those that are new, while those that the file
    names no more, and that no one has begun, are dropped.

    Args:
        spec: a checked study file.
        workspace: must exist.
        data: fingerprint of what the trials train on.
        new_version: make the next version where no version compares.
        warm_start: a study whose trials a new one begins with (:mod:`painvrl.study.store.warm_start`).
        joined: the file was read of the study, and may be another there by now: it changes nothing.

    Raises:
        StudyError: the study exists and its trials would not compare with new ones, or it is not painvrl's;
            or it cannot begin with trials of ``warm_start``; or it is ``joined`` and there no more.
    """
    url = spec.study.storage or workspace.storage_url
    refuse_newer(workspace)
    identity = StudyIdentity(
        objectives=spec.objectives, config=spec.config, space=spec.space, data=data, seeds=spec.study.seeds
    )
    with readable_errors(url), sole_creator(url), quick_commits(connect(url)) as connection:
        if joined and spec.study.name not in optuna.get_all_study_names(connection):
            raise StudyError("was deleted meanwhile", key=spec.study.name)
        name = _version_for(connection, spec.study.name, identity, set(spec.swept), new_version=new_version)
        taken_over = planned(connection, name, spec, identity, warm_start)
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
        elif not joined and (noted := identity_of(study)) != (now := noted.reading(spec.config)):
            study.set_user_attr(Attr.IDENTITY, now.model_dump(mode="json"))
        stored = StoredStudy(study=study, storage=connection, identity=identity_of(study))
        if joined:
            return stored, existed
        kept = [one.model_dump(mode="json") for one in spec.constraints]
        study.set_user_attr(Attr.CONSTRAINTS, kept)
        _note_kept_values(stored, spec)
        _note_sweep(stored, spec, existed=existed)
        if taken_over is not None:
            take_over(stored, taken_over, workspace)
        _queue(stored, spec)
        return stored, existed


def _note_kept_values(stored: StoredStudy, spec: StudySpec) -> None:
    """Presets and the default configuration take the values that the study was made with."""
    kept, now = leaves(stored.config), leaves(spec.config)
    for path in spec.sampled.root:
        if path in kept and path in now and kept[path] != now[path]:
            _logger.warning(
                "note: config.%s stays %s, with which the study was made; the file has %s now",
                path,
                kept[path],
                now[path],
            )


def _note_sweep(stored: StoredStudy, spec: StudySpec, *, existed: bool) -> None:
    """How trials are swept from now on; a study continues as it was begun unless its file says otherwise."""
    before = stored.sweep
    if existed and "sweep" not in spec.model_fields_set:
        return
    now = spec.sweeping
    if now != before:
        stored.study.set_user_attr(Attr.SWEEP, None if now is None else now.model_dump(mode="json"))
    if existed and (now is None) != (before is None) and spec.space.swept():
        was, becomes = ("one point", "several") if before is None else ("several points", "one")
        _logger.warning("note: trials of the study have %s each so far, and %s from now on", was, becomes)


def _version_for(
    connection: RDBStorage, name: str, identity: StudyIdentity, swept: set[str], *, new_version: bool
) -> str:
    """The name of the version that a study file continues with, or of the one to make."""
    versions = versions_of(connection, name)
    latest: tuple[str, str] | None = None
    for version in reversed(versions):
        study = optuna.load_study(study_name=version, storage=connection)
        if Attr.IDENTITY not in study.user_attrs and not study.get_trials(deepcopy=False):
            if study.directions != [StudyDirection.MAXIMIZE] * len(identity.objectives):
                raise not_ours(version)
            return version  # its maker died before it was done
        if not (differences := identity_of(study).differences(identity, swept=swept)):
            return version
        latest = latest or (version, "\n".join(differences))
    if latest is None:
        return name
    if new_version:
        return next_version(connection, name)
    version, shown = latest
    raise Differs(
        f"the study {version!r} exists and was run otherwise; its trials would not compare:\n{shown}\n"
        "take the change back, choose a new name, or make a new version of the study with --new-version",
        key="study.name",
    )


def _queue(stored: StoredStudy, spec: StudySpec) -> None:
    """Bring the queue of a study up to date with its file."""
    wanted = queue_of(stored.config, stored.sampled, spec.presets, spec.points)
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
    tried = [_asked_for(trial) for trial in kept]
    for one in wanted:
        if one.preset is not None and one.preset not in presets:
            stored.study.enqueue_trial({}, user_attrs={Attr.PRESET: one.preset, Attr.ORIGIN: one.origin})
        elif one.preset is None and dict(one.point) not in tried:
            stored.study.enqueue_trial(dict(one.point), user_attrs={Attr.ORIGIN: one.origin})


def _asked_for(trial: FrozenTrial) -> dict[str, Value]:
    """The values that a point of the file must name for the trial to be its own."""
    fixed: dict[str, Value] = trial.system_attrs.get("fixed_params", {})
    if Attr.TAKEN_FROM in trial.user_attrs:  # no file of this study asked for it: it must be all of the point
        return {**trial.params, **fixed}
    return fixed or trial.params


def _is_listed(trial: FrozenTrial, spec: StudySpec, points: list[dict[str, Value]]) -> bool:
    """Whether a study's file still asks for a queued trial, or somebody has begun it before."""
    if Attr.RETRY_OF in trial.user_attrs:
        return True  # dropped, it would be lost for good: what it tries again counts as queued already
    preset = trial.user_attrs.get(Attr.PRESET)
    if preset is not None:
        return preset in spec.presets
    return trial.user_attrs.get(Attr.ORIGIN) != "point" or trial.system_attrs.get("fixed_params") in points
