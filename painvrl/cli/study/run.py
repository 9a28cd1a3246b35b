"""``painvrl study run``, ``work``, ``validate``, ``schema``: run what a file describes, or only check it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from painvrl.cli.options import (
    DEFAULT_WORKSPACE,
    AddressOption,
    CpusOption,
    DeviceOption,
    ExecutorOption,
    GpusOption,
    JsonOption,
    MemoryFractionOption,
    QuietOption,
    RunStatesOption,
    SetOption,
    SpecArgument,
    StorageOption,
    WorkersOption,
    WorkspaceOption,
    YesOption,
    first_words,
    goes_on,
)
from painvrl.core.errors import ConfigError, ConfigErrors, PlaceError, UserError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.data.split_statistics import SplitStatistics
    from painvrl.study.ablation.spec import AblationSpec
    from painvrl.study.file.spec import StudySpec


def run(
    spec: SpecArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Finished trials requested in all, in place of the file's study.trials."
        ),
    ] = None,
    *,
    workers: WorkersOption = 1,
    memory_fraction: MemoryFractionOption = None,
    run_states: RunStatesOption = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = 0,
    storage: StorageOption = None,
    quiet: QuietOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check the file, print it with every default, and the plan as comments; stop."
        ),
    ] = False,
    settings: SetOption = None,
    new_version: Annotated[
        bool,
        typer.Option(
            "--new-version",
            help="Where the study exists and was run otherwise, make NAME-v2 (-v3, ...) instead of refusing.",
        ),
    ] = False,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--warm-start",
            metavar="NAME",
            help="Begin a new study with what study NAME has trained in its space: same data, split and "
            "objectives. That does not count towards the trials requested.",
        ),
    ] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Run a study or an ablation. The same command continues one that was stopped.

    Searches the space that SPEC.yaml describes, or continues the latest version of that study. Prints the
    split's statistics, a line for each trial, and the front. The last line is a link to the front in the
    MLflow UI; `painvrl ui` opens it. For an ablation it prints the table and a link to all its runs. With
    --json what it came to is on stdout, and the progress on stderr. Asks on a terminal whether a study with
    fewer trials than presets is meant. In a PostgreSQL any number of hosts may run the same study at once.

    Example: painvrl study run studies/movielens.yaml --trials 10
    """
    first_words(f"reading {spec}, loading PyTorch, Optuna and MLflow", quiet=quiet or dry_run)
    from painvrl.cli import progress, render
    from painvrl.study.ablation.spec import AblationSpec, load_study_file

    loaded = load_study_file(spec, settings or ())
    if not isinstance(loaded, AblationSpec):
        loaded = _stored_in(storage, loaded)
    else:
        _refuse_for_ablations(trials=trials, new_version=new_version, warm_start=warm_start, storage=storage)
    if dry_run:
        if warm_start is not None:
            rule = "is not planned: --dry-run looks at no study; leave out one of the two"
            raise ConfigError(rule, key="--warm-start", value=warm_start)
        _print_plan(loaded, workspace, device, trials)
        return

    from painvrl.core.device import select_device
    from painvrl.engine.executor import Placement
    from painvrl.study.ablation.ablate import AblationSummary, run_ablation
    from painvrl.study.runner import StudySummary, run_study

    place, where = Workspace(workspace, run_states), select_device(device)
    placement = Placement(executor=executor, address=address, cpus=cpus_per_trial, gpus=gpus_per_trial)
    if not isinstance(loaded, AblationSpec):
        _need_room_for_presets(loaded, place, trials, ask=not (yes or quiet or json))
    summary: StudySummary | AblationSummary
    with goes_on(), progress.study_progress(quiet=quiet, err=json) as lines, _named_in(Path(spec), "config."):
        if isinstance(loaded, AblationSpec):
            summary = run_ablation(
                loaded,
                place,
                where,
                workers=workers,
                memory_fraction=memory_fraction,
                placement=placement,
                progress=lines,
            )
        else:
            summary = run_study(
                loaded,
                place,
                where,
                trials=trials,
                workers=workers,
                memory_fraction=memory_fraction,
                placement=placement,
                progress=lines,
                new_version=new_version,
                warm_start=warm_start,
            )
    if json:
        render.print_json(summary.as_dict())
    else:
        render.show(*summary.blocks())


def work(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="The study's name.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    *,
    workers: WorkersOption = 1,
    memory_fraction: MemoryFractionOption = None,
    run_states: RunStatesOption = None,
    executor: ExecutorOption = None,
    address: AddressOption = None,
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = 0,
    storage: StorageOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Join a study that other hosts run, until all trials that it was asked for are finished.

    The study must lie in a PostgreSQL, and have been started with `painvrl study run`. Its file is not
    needed, but its data are, in the same place. Prints what `study run` prints.

    Example: painvrl study work movielens --storage postgresql://painvrl@db.example/studies
    """
    first_words(f"joining {study}, loading PyTorch, Optuna and MLflow", quiet=quiet)
    from painvrl.cli import progress, render
    from painvrl.core.device import select_device
    from painvrl.engine.executor import Placement
    from painvrl.study.runner import join_study

    placement = Placement(executor=executor, address=address, cpus=cpus_per_trial, gpus=gpus_per_trial)
    with goes_on(), progress.study_progress(quiet=quiet, err=json) as lines:
        summary = join_study(
            study,
            Workspace(workspace, run_states),
            select_device(device),
            storage=storage,
            workers=workers,
            memory_fraction=memory_fraction,
            placement=placement,
            progress=lines,
        )
    if json:
        render.print_json(summary.as_dict())
    else:
        render.show(*summary.blocks())


def _stored_in(storage: str | None, spec: StudySpec) -> StudySpec:
    """The spec, with the storage that the command line names."""
    if storage is None:
        return spec
    return spec.model_copy(update={"study": spec.study.model_copy(update={"storage": storage})})


def _need_room_for_presets(spec: StudySpec, workspace: Workspace, trials: int | None, *, ask: bool) -> None:
    """Say that a new study has fewer trials than presets, and ask on a terminal whether that is meant."""
    from painvrl.study.file.plan import by_origin
    from painvrl.study.store.storage import list_studies

    asked = spec.study.trials if trials is None else trials
    before = by_origin(spec, asked + len(spec.presets))["preset"]
    if asked >= before or spec.study.name in list_studies(workspace, storage=spec.study.storage):
        return
    said = f"all trials requested ({asked}) go to presets, of which there are {before}: nothing is searched"
    typer.echo(f"warning: {said}", err=True)
    if ask and sys.stdin.isatty() and sys.stderr.isatty() and not typer.confirm("Go on?", err=True):
        rule = f"the file has {before} presets, which come first; request more, or take some from the file"
        raise ConfigError(rule, key="--trials" if trials is not None else "study.trials", value=asked)


def _refuse_for_ablations(
    *, trials: int | None, new_version: bool, warm_start: str | None, storage: str | None
) -> None:
    for option, given, what in (
        ("--trials", trials is not None, "has one run for each row and seed of its file"),
        ("--new-version", new_version, "has no versions"),
        ("--warm-start", warm_start is not None, "has no sampler"),
        ("--storage", storage is not None, "keeps its runs in the workspace"),
    ):
        if given:
            raise ConfigError(f"is for studies; an ablation {what}", key=option)


def _print_plan(loaded: StudySpec | AblationSpec, workspace: Path, device: str, trials: int | None) -> None:
    """What ``--dry-run`` prints: YAML, with the plan in comments."""
    from painvrl.core.yamlfile import dump_yaml
    from painvrl.study.file.spec import StudySpec

    if not isinstance(loaded, StudySpec):
        typer.echo(dump_yaml(loaded), nl=False)
        for row, turned in loaded.changes().items():
            hyperparameters = ", ".join(f"{path}: {value}" for path, value in turned.items())
            typer.echo(f"# row {row} = config with {hyperparameters or 'no change'}")
        return
    typer.echo(dump_yaml(loaded), nl=False)

    from painvrl.core.device import select_device
    from painvrl.study.file.plan import lines_of, plan_of

    for line in lines_of(plan_of(loaded, Workspace(workspace), select_device(device), trials=trials)):
        typer.echo(f"# {line}")


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of studies and ablations.")],
    settings: SetOption = None,
    data: Annotated[
        bool,
        typer.Option("--data", help="Read and split the data, too; what was joined and left out is printed."),
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Check files as `study run` would, all rules included; data are read with --data only.

    Prints a line a file, and one a mistake. Exit code 2 if any of them is wrong.

    Example: painvrl study validate studies/movielens.yaml --data
    """
    from painvrl.cli import render
    from painvrl.study.ablation.spec import load_study_file

    answers: list[dict[str, Any]] = []
    for file in files:
        found = None
        try:
            spec = load_study_file(file, settings or ())
            found = _statistics(spec, workspace, file) if data else None
            answers.append({"file": str(file), "kind": _kind(spec), "mistakes": ()})
        except PlaceError:
            raise
        except UserError as error:
            answers.append({"file": str(file), "kind": None, "mistakes": _said(error, file)})
        if not json:
            _print_check(answers[-1], found)
    if json:
        render.print_json({"files": answers})
    if any(answer["mistakes"] for answer in answers):
        raise typer.Exit(2)


def _said(error: UserError, file: Path) -> tuple[str, ...]:
    """Each mistake; what is wrong with data names the data's file, not the study's."""
    return tuple(map(str, error.each)) if isinstance(error, ConfigError) else (f"{file}: {error}",)


def _print_check(answer: Mapping[str, Any], found: SplitStatistics | None) -> None:
    from painvrl.cli import render

    for mistake in answer["mistakes"]:
        typer.echo(f"error: {mistake}", err=True)
    if not answer["mistakes"]:
        typer.echo(f"{answer['file']}: ok, {answer['kind']}")
    if found is not None:
        render.data_warnings(found.provenance.warnings)
        render.print_split(found.tables())


@contextmanager
def _named_in(file: Path, where: str) -> Iterator[None]:
    """Around what reads data: a setting that does not fit them is told with its file, as any other is.

    ``where`` stands before the key in ``config``.
    """
    from painvrl.run.config import TrainConfig

    try:
        yield
    except ConfigError as error:
        each = [
            ConfigError(one.rule, file=file, key=f"{where}{one.key}", value=one.value)
            if one.file is None and (one.key or "").partition(".")[0] in TrainConfig.model_fields
            else one
            for one in error.each
        ]
        raise ConfigErrors(each) from None


def _statistics(spec: StudySpec | AblationSpec, workspace: Path, file: Path) -> SplitStatistics:
    """Of the split, after all that the file asks of the data was looked at."""
    from painvrl.core.errors import Mistakes
    from painvrl.run.prepare import check_fits, split_of
    from painvrl.study.ablation.spec import others_of

    with _named_in(file, "config."):
        dataset, split = split_of(spec.config, cache_dir=Workspace(workspace).cache)
    mistakes = Mistakes()
    for where, config in others_of(spec):
        with mistakes.noted(), _named_in(file, f"{where}: "):
            check_fits(config, dataset, split, trained=True)
    mistakes.raise_all()
    return split.statistics


def _kind(spec: object) -> str:
    from painvrl.study.file.plan import swept_in
    from painvrl.study.file.spec import StudySpec

    if not isinstance(spec, StudySpec):
        return "an ablation"
    if not (swept := swept_in(spec)):
        return "a study"
    sampled = len(spec.sampled.searched(spec.config))
    hyperparameters = f"{sampled} hyperparameter{'' if sampled == 1 else 's'}"
    return f"a study of {hyperparameters} sampled before each training and {len(swept)} swept after it"


def schema() -> None:
    """Print the JSON schema of study files, for completion in editors.

    Example: painvrl study schema
    """
    from painvrl.cli import render
    from painvrl.study.file.schema import study_schema

    render.print_json(study_schema())
