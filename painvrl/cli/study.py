"""``painvrl study``: run a study, look at its front and at how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    JsonOption,
    MemoryFractionOption,
    QuietOption,
    WorkersOption,
    WorkspaceOption,
    named_study,
)
from painvrl.errors import ConfigError

if TYPE_CHECKING:
    from painvrl.study.storage import StoredStudy

app = typer.Typer(help="Run studies and look at them.", no_args_is_help=True, rich_markup_mode=None)

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The study's file.")]
StudyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY", help="A study's name or file; not needed while the workspace holds only one."
    ),
]


@app.command()
def run(
    spec: SpecArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Finished trials wanted in all, in place of the file's study.trials."
        ),
    ] = None,
    workers: WorkersOption = 1,
    memory_fraction: MemoryFractionOption = None,
    quiet: QuietOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, print it with every default, and stop.")
    ] = False,
) -> None:
    """Run a study or an ablation; called again, it goes on.

    Searches the space that SPEC.yaml describes. Prints the split's card, a line a trial, the front, and as
    the last line a link to exactly the front in the MLflow UI (open it with `painvrl ui`). Of an ablation it
    prints the table, keeps it as Markdown and JSON in the workspace, and links to all its runs.
    """
    from painvrl.cli import progress, render
    from painvrl.study.ablation.spec import AblationSpec, load_study_file

    loaded = load_study_file(spec)
    if isinstance(loaded, AblationSpec) and trials is not None:
        rule = "is for studies; an ablation has one run for each row and seed of its file"
        raise ConfigError(rule, key="--trials")
    if dry_run:
        from painvrl.yamlfile import dump_yaml

        typer.echo(dump_yaml(loaded), nl=False)
        if isinstance(loaded, AblationSpec):
            render.ablation_rows(loaded)
        return

    from painvrl.device import select_device
    from painvrl.study.ablation.runner import AblationSummary, run_ablation
    from painvrl.study.runner import StudySummary, run_study
    from painvrl.workspace import Workspace

    place, where = Workspace(workspace), select_device(device)
    summary: StudySummary | AblationSummary
    with progress.study_progress(quiet=quiet) as lines:
        try:
            if isinstance(loaded, AblationSpec):
                summary = run_ablation(
                    loaded, place, where, workers=workers, memory_fraction=memory_fraction, progress=lines
                )
            else:
                summary = run_study(
                    loaded,
                    place,
                    where,
                    trials=trials,
                    workers=workers,
                    memory_fraction=memory_fraction,
                    progress=lines,
                )
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on") from None
    if isinstance(summary, AblationSummary):
        render.ablation(summary.table)
        typer.echo(f"table: {summary.folder / 'table.md'}")
    else:
        render.front(summary.front)
    if summary.link:
        typer.echo(summary.link)


@app.command()
def front(
    study: StudyArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print the front: trials that no other beats."""
    from painvrl.cli import render
    from painvrl.study.report import front_table

    table = front_table(_open(study, workspace))
    if json:
        render.json(table.as_dict())
    elif table.rows:
        render.front(table)
    if not table.rows:
        raise _nothing_feasible(table.study)


@app.command()
def status(
    study: StudyArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Print how far a study is, and why trials failed."""
    from painvrl.cli import render
    from painvrl.study.report import status as status_of

    now = status_of(_open(study, workspace))
    if json:
        render.json(now.as_dict())
    else:
        render.status(now)
    if not now.front_size:
        raise _nothing_feasible(now.study)


def _open(study: str | None, workspace: Path) -> StoredStudy:
    from painvrl.study.storage import open_study
    from painvrl.workspace import Workspace

    return open_study(named_study(study), Workspace(workspace))


def _nothing_feasible(study: str) -> Exception:
    from painvrl.errors import NothingFeasible

    return NothingFeasible(f"the study {study!r} has no complete trial")
