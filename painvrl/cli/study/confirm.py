"""``painvrl study confirm``: run the front's candidates under further seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    JsonOption,
    MemoryFractionOption,
    QuietOption,
    StorageOption,
    StudyArgument,
    WorkersOption,
    WorkspaceOption,
    first_words,
    goes_on,
    open_named,
)
from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.study.confirmation.confirm import Step

SCOPES = ("front", "plausible")


def confirm(
    study: StudyArgument = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    seeds_at_most: Annotated[
        int, typer.Option(min=2, metavar="N", help="Fresh seeds of any candidate, at most.")
    ] = 10,
    sure: Annotated[
        float, typer.Option(metavar="P", help="Probability at which a candidate is decided; above 0.5.")
    ] = 0.9,
    candidates: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="front: the front's points; plausible: also dominated ones that noise may have kept off it.",
        ),
    ] = "plausible",
    workers: WorkersOption = 1,
    memory_fraction: MemoryFractionOption = None,
    storage: StorageOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Train the front again under new seeds: which of its points are there by luck?

    Trains the front's candidates under seeds that the study has not seen, until for each the probability of
    being on the front is at least P or at most 1 - P; points of one trial share its training. Prints their
    means with intervals, the confirmed front, and how optimistic the first one was.

    Example: painvrl study confirm --seeds-at-most 5
    """
    if candidates not in SCOPES:
        raise ConfigError(f"must be one of {', '.join(SCOPES)}", key="--candidates", value=candidates)
    if not 0.5 < sure < 1:
        raise ConfigError("must lie above 0.5 and below 1", key="--sure", value=sure)

    first_words("loading PyTorch, Optuna and MLflow", quiet=quiet or json)
    from painvrl.cli import progress, render
    from painvrl.core.device import select_device
    from painvrl.study.confirmation.confirm import run_confirmation

    stored = open_named(study, workspace, storage)
    silent = quiet or json

    def tell(step: Step) -> None:
        if not silent:
            typer.echo(
                f"after {step.seeds} seeds: {len(step.undecided)} of {step.candidates} candidates undecided"
            )

    with goes_on(), progress.study_progress(quiet=silent) as lines:
        summary = run_confirmation(
            stored,
            Workspace(workspace),
            select_device(device),
            seeds_at_most=seeds_at_most,
            sure=sure,
            scope="front" if candidates == "front" else "plausible",
            workers=workers,
            memory_fraction=memory_fraction,
            progress=lines,
            on_step=tell,
        )
    if summary.not_tracked is not None:
        typer.echo(f"warning: the confirmation is not in MLflow: {summary.not_tracked}", err=True)
    render.answer(summary.confirmation, json=json)
    if not json:
        typer.echo(f"table: {summary.folder / 'table.md'}")
