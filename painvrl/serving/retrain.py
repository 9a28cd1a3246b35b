"""The last step: train a chosen configuration, check it, read the sealed test parts, keep the model.

    train_best    a trial of a study, picked by hand (a tag in MLflow, a number, a run) or by rule
    train_config  a configuration file

Both end in a checkpoint and a registered MLflow model. The test parts are read once, after
everything else is fixed, and every read leaves a line in the workspace's access log.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from painvrl.core.errors import ConfigError, StudyError, TrialFailure
from painvrl.core.observer import NullObserver, Observer
from painvrl.core.ranks import first_alone, n_ranks
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.data.guard import AccessLog
from painvrl.data.split_statistics import SplitStatistics
from painvrl.run.checkpoint import TrainedOn, save_checkpoint, trained_on
from painvrl.run.config import TrainConfig
from painvrl.run.final import TestEvaluation, check_refit, evaluate_test, refit
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, prepare
from painvrl.run.state import run_key, run_state
from painvrl.serving.registered_models import RegisteredModel, register_model
from painvrl.study.choice.picks import stored_picks
from painvrl.study.choice.selection import Selection, select
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.mlflow_notes import tagged_runs
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which trial of a study to train; :func:`painvrl.study.choice.selection.select` says which wins.

    ``study``: its name or its file's content; ``None`` stands for the only one of the workspace. ``pick``:
    the alias of a stored pick. ``prefer``: a rule's word. ``storage``: a database in place of the
    workspace's own.
    """

    study: StudySpec | str | None = None
    trial: str | None = None
    run_id: str | None = None
    pick: str | None = None
    prefer: str | None = None
    storage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """How well the retrained model's valid metrics repeat the trial's.

    Attributes:
        compared: how many metrics both have.
        largest_difference: over them; 0.0 means equal to the last digit.
        worst: the metric with that difference.
    """

    compared: int
    largest_difference: float
    worst: str | None

    @property
    def exact(self) -> bool:
        """Whether every metric is equal to the last digit."""
        return self.compared > 0 and self.largest_difference == 0.0


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What came of a training.

    Attributes:
        config: what was trained, overrides included.
        pick: the trial that was chosen; ``None`` for a configuration file.
        statistics: of the split that it was trained on.
        repetition: against the trial's valid metrics under the same seed; ``None`` without a trial or with
            another seed.
        metrics: of the valid parts, of the model trained on the train part.
        test: of the sealed parts; ``None`` if they stayed sealed.
        trained_on: what the kept model was trained on.
        checkpoint: its folder.
        model: its entry in MLflow's registry; ``None`` if MLflow failed after the training.
        not_registered: why there is no ``model``.
        seconds: wall time by stage of the training on the train part, scoring its valid parts
            included; not of preparing the data, of a refit, of the test parts or of registering.
    """

    config: TrainConfig
    pick: Selection | None
    statistics: SplitStatistics
    repetition: Repetition | None
    metrics: Mapping[str, float]
    test: TestEvaluation | None
    trained_on: TrainedOn
    checkpoint: Path
    model: RegisteredModel | None
    not_registered: str | None
    seconds: Mapping[str, float]

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-ready values."""
        return {
            "config": self.config.model_dump(mode="json"),
            "pick": None
            if self.pick is None
            else {"trial": self.pick.trial, "name": self.pick.name, "reason": self.pick.reason},
            "split": self.statistics.as_dict(),
            "repetition": None if self.repetition is None else asdict(self.repetition),
            "metrics": dict(self.metrics),
            "test": None
            if self.test is None
            else {"reads": self.test.reads, "metrics": dict(self.test.metrics)},
            "trained_on": self.trained_on,
            "checkpoint": str(self.checkpoint),
            "model": None if self.model is None else self.model.uri,
            "not_registered": self.not_registered,
            "seconds": dict(self.seconds),
        }


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """``seed`` replaces the configuration's. ``refit``: train the kept model on train and valid parts."""

    device: torch.device
    seed: int | None = None
    refit: bool = False
    test: bool = False


def train_best(
    choice: Choice, workspace: Workspace, options: TrainOptions, *, observer: Observer | None = None
) -> TrainReport:
    """Train the chosen trial of a study again.

    Raises:
        UserError: no such study, trial or pick, two tagged runs, or data that are no longer there.
        NothingFeasible: the study has no complete trial that keeps to its constraints.
        KeyboardInterrupt: with a text if the same call continues where it was kept last.
    """
    study = open_study(choice.study, workspace, storage=choice.storage)
    tagged: tuple[str, ...] = ()
    if choice.trial is None and choice.run_id is None:
        tagged = tagged_runs(study, workspace)
    pick = select(
        study,
        trial=choice.trial,
        run_id=choice.run_id,
        tagged=tagged,
        pick=choice.pick,
        prefer=choice.prefer,
        picks=stored_picks(study),
    )
    return _train(
        pick.config,
        workspace,
        options,
        observer or NullObserver(),
        label=study.name,
        study=study.name,
        pick=pick,
    )


def train_config(
    config: TrainConfig,
    label: str,
    workspace: Workspace,
    options: TrainOptions,
    *,
    observer: Observer | None = None,
) -> TrainReport:
    """Train a configuration; ``label`` names its checkpoint and its model in MLflow.

    Raises:
        UserError: the data are missing or break a rule, or the configuration cannot be trained.
    """
    return _train(config, workspace, options, observer or NullObserver(), label=label, study=None, pick=None)


def train_along(config: TrainConfig, workspace: Workspace, options: TrainOptions) -> None:
    """What each process but the first does in the :func:`train_config` of them all; it keeps nothing.

    Raises:
        UserError: as there.
    """
    if options.seed is not None:
        config = config.model_copy(update={"seed": options.seed})
    with first_alone():
        prepared = prepare(config, cache_dir=workspace.cache, device=options.device)
    if options.refit:
        check_refit(config, prepared)
    try:
        result = run(config, prepared)
        if options.refit:
            refit(config, prepared, steps_of=result)
    except TrialFailure as failure:
        raise ConfigError(f"this configuration cannot be trained ({failure.reason}): {failure}") from failure


def compare(trial: Mapping[str, float], retrained: Mapping[str, float]) -> Repetition:
    """Compare two sets of metrics by name; a NaN on one side only is an infinite difference."""
    worst, largest = None, 0.0
    names = sorted(set(trial) & set(retrained))
    for name in names:
        one, other = trial[name], retrained[name]
        if one == other or (math.isnan(one) and math.isnan(other)):
            continue
        difference = math.inf if math.isnan(one - other) else abs(one - other)
        if difference > largest:
            worst, largest = name, difference
    return Repetition(compared=len(names), largest_difference=largest, worst=worst)


def _train(
    config: TrainConfig,
    workspace: Workspace,
    options: TrainOptions,
    observer: Observer,
    *,
    label: str,
    study: str | None,
    pick: Selection | None,
) -> TrainReport:
    _check_model_name(label)
    workspace.create()
    mlflow_tracker(workspace)  # a store that does not answer is said now, and not after the training
    same_seed = options.seed is None or options.seed == config.seed
    if options.seed is not None:
        config = config.model_copy(update={"seed": options.seed})
    observer.stage("prepare")
    with first_alone():
        prepared = prepare(config, cache_dir=workspace.cache, device=options.device)
    if options.refit:
        check_refit(config, prepared)
    # Processes that train together would each have to go on from the same epoch.
    key, resume_dir = run_key(config, prepared), workspace.run_states if n_ranks() == 1 else None
    try:
        # Gone on with until the model is kept: a refit that is interrupted needs the run before.
        with run_state(resume_dir, key, options.device, final=TrialFailure) as state:
            result = run(config, prepared, observer=observer, state=state)
            kept = result
            if options.refit:
                kept = refit(config, prepared, steps_of=result, observer=observer, resume_dir=resume_dir)
            folder = workspace.checkpoints / _folder_name(label, pick, kept)
            # Saved before the test parts are read: a failure further on must not cost the model.
            origin = {"study": label, "trial": pick.name} if pick else None
            checkpoint = save_checkpoint(folder, kept, prepared, origin=origin)
    except TrialFailure as failure:
        raise ConfigError(f"this configuration cannot be trained ({failure.reason}): {failure}") from failure
    test = _read_test(kept, prepared, workspace, folder.name, observer) if options.test else None
    repetition = compare(pick.first, result.metrics) if pick and same_seed else None
    observer.stage("register")
    model, not_registered = None, None
    try:
        model = register_model(
            checkpoint,
            name=label,
            workspace=workspace,
            study=study,
            source_run_id=pick.run_id if pick else None,
            config_yaml=dump_yaml(config),
            metrics={
                **result.metrics,
                **(test.metrics if test else {}),
                **({"test_reads": float(test.reads)} if test else {}),
            },
            tags=_tags(pick, repetition, trained_on(kept)),
            alias=pick.alias if pick else None,
            reason=pick.reason if pick else None,
        )
    except (StudyError, OSError) as error:  # the test parts were read: their metrics must not be lost
        not_registered = str(error)
    return TrainReport(
        config=config,
        pick=pick,
        statistics=prepared.split.statistics,
        repetition=repetition,
        metrics=result.metrics,
        test=test,
        trained_on=trained_on(kept),
        checkpoint=checkpoint,
        model=model,
        not_registered=not_registered,
        seconds=result.seconds,
    )


def _check_model_name(label: str) -> None:
    """MLflow's rule, before anything is trained."""
    if not label.strip() or set(label) & set("/:"):
        raise ConfigError(
            "gives the model its name in MLflow, so it must not be blank or hold / or :",
            key="the file's name",
            value=label,
        )


def _read_test(
    result: RunResult, prepared: Prepared, workspace: Workspace, reader: str, observer: Observer
) -> TestEvaluation:
    observer.stage("test")
    return evaluate_test(result, prepared, access_log=AccessLog(workspace.test_reads), reader=reader)


def _tags(pick: Selection | None, repetition: Repetition | None, parts: TrainedOn) -> dict[str, str]:
    tags: dict[str, str] = {"trained_on": parts}
    if pick is not None:
        tags |= {"trial": pick.name, "picked": pick.reason}
    if repetition is not None:
        tags["repeats_trial"] = str(repetition.exact).lower()
    return tags


def _folder_name(label: str, pick: Selection | None, result: RunResult) -> str:
    """Equal for equal requests, so that asking twice replaces the checkpoint instead of adding one."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", label).lstrip(".")  # a leading dot would hide the folder
    pieces = [plain, result.config.fingerprint()[:8]]
    if pick is not None:
        pieces.insert(1, f"trial-{pick.name}")
    if result.refit:
        pieces.append("refit")
    return "-".join(pieces)
