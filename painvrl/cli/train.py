"""``painvrl train``: train one configuration, from a file or from a study's front."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    JsonOption,
    RunStatesOption,
    StorageOption,
    WorkspaceOption,
    first_words,
    named_study,
)
from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.run.config import TrainConfig


class Prefer(StrEnum):
    """Rules that pick from a front; the same words as ``painvrl.study.choice.rules.PREFERENCES``."""

    KNEE = "knee"
    IID = "iid"
    OOD = "ood"
    LOEO = "loeo"
    BALANCED = "balanced"


class Refit(StrEnum):
    """Parts that the kept model may be trained on instead of the train part alone."""

    TRAIN_VALID = "train+valid"


def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.yaml", help="A configuration; or give --best.")
    ] = None,
    *,
    best: Annotated[bool, typer.Option("--best", help="Train a trial of a study's front.")] = False,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY", help="With --best: the study's name or file; not needed while there is only one."
        ),
    ] = None,
    prefer: Annotated[
        Prefer | None,
        typer.Option(
            help="With --best: the rule that picks (knee where nothing was picked); a run tagged "
            "selected=true wins."
        ),
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --best: what `study pick` stored under this name; not needed for the only one.",
        ),
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(metavar="N", help="With --best: this trial; of a swept one a point, such as 12.3."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN_ID", help="With --best: the trial of this MLflow run.")
    ] = None,
    refit: Annotated[
        Refit | None, typer.Option(help="Keep a model trained on the valid parts, too, for as many epochs.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="S", help="Another seed: another split and another initialisation."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Read the sealed test parts (--best always does).")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check the file, print it with preset and defaults written out, and stop."
        ),
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    run_states: RunStatesOption = None,
    storage: StorageOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train a configuration and keep the model.

    The model is saved as a checkpoint and registered in MLflow. With --best the configuration is a trial of
    a study: the one tagged selected=true in the MLflow UI, or what `study pick` stored, or what --prefer
    picks from the front. It is trained again, its valid metrics are checked against the trial's, and the
    sealed test parts are read: each read is counted in the workspace, printed and logged. The model of a
    pick or of a rule gets its alias in MLflow. Where torchrun starts several processes, they train one
    model together.

    Example: painvrl train --best --prefer knee
    """
    chosen = {"study": study, "prefer": prefer, "pick": pick, "trial": trial, "run": run}
    _check(config=config, best=best, **chosen, storage=storage)
    if dry_run:
        _print_expanded(config)
        return

    first_words("loading PyTorch and MLflow")
    from painvrl.cli import progress, render
    from painvrl.core.device import select_device
    from painvrl.core.ranks import joined_ranks, leave_at_once, rank, started_together
    from painvrl.serving.retrain import Choice, TrainOptions, train_along, train_best, train_config

    if started_together() and config is None:
        raise ConfigError("torchrun trains a configuration file", key="--best")
    place = Workspace(workspace, run_states)
    with joined_ranks(select_device(device)) as own_device:
        options = TrainOptions(
            device=own_device, seed=seed, refit=refit is not None, test=test or config is None
        )
        if rank() > 0 and config is not None:
            train_along(_config_in(config), place, options)
            leave_at_once()
        with progress.run_progress() as observer:
            if config is None:
                choice = Choice(
                    study=named_study(study),
                    trial=trial,
                    run_id=run,
                    pick=pick,
                    prefer=None if prefer is None else prefer.value,
                    storage=storage,
                )
                report = train_best(choice, place, options, observer=observer)
            else:
                settings = _config_in(config)
                report = train_config(settings, config.stem, place, options, observer=observer)
    if json:
        render.data_warnings(report.statistics.provenance.warnings)
        render.print_json(report.as_dict())
    else:
        render.train_report(report)


def _print_expanded(config: Path | None) -> None:
    if config is None:
        raise ConfigError("only works with a configuration file", key="--dry-run")

    from painvrl.core.yamlfile import dump_yaml

    typer.echo(dump_yaml(_config_in(config)), nl=False)


def _config_in(path: Path) -> TrainConfig:
    from painvrl.core.yamlfile import checked, validated
    from painvrl.run.config import TrainConfig

    def check(content: Mapping[str, object]) -> TrainConfig:
        kind = next((key for key in ("study", "ablation") if key in content), None)
        if kind is not None:
            raise ConfigError(f"is the file of a whole {kind}: `painvrl study run {path}` runs it", file=path)
        return validated(TrainConfig, content)

    return checked(path, check)


def _check(*, config: Path | None, best: bool, **only_with_best: object) -> None:
    """Options that contradict each other."""
    if config is None and not best:
        raise ConfigError("needs a configuration file, or --best to train a trial of a study", key="train")
    if config is not None and best:
        raise ConfigError("give either a configuration file or --best", key="train")
    for name, value in only_with_best.items():
        if config is not None and value is not None:
            raise ConfigError("only works with --best", key=f"--{name}")
    choosers = [name for name in ("prefer", "pick", "trial", "run") if only_with_best.get(name) is not None]
    if len(choosers) > 1:
        raise ConfigError(f"give only one of {' and '.join(f'--{name}' for name in choosers)}", key="train")
