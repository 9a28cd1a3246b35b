"""``painvrl study validate`` and ``schema``: the files of studies, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from painvrl.cli.study.common import SetOption


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of studies and ablations.")],
    settings: SetOption = None,
) -> None:
    """Check files as `study run` would, all rules included; data are not looked at.

    Prints a line a file. Exit code 2 if any of them is wrong.
    """
    from painvrl.core.errors import ConfigError
    from painvrl.study.ablation.spec import load_study_file

    wrong = 0
    for file in files:
        try:
            spec = load_study_file(file, settings or ())
        except ConfigError as error:
            wrong += 1
            typer.echo(f"error: {error}", err=True)
        else:
            typer.echo(f"{file}: ok, {_kind(spec)}")
    if wrong:
        raise typer.Exit(2)


def _kind(spec: object) -> str:
    from painvrl.study.file.plan import swept_in
    from painvrl.study.file.spec import StudySpec

    if not isinstance(spec, StudySpec):
        return "an ablation"
    if not (swept := swept_in(spec)):
        return "a study"
    sampled = len(spec.sampled.searched(spec.config))
    knobs = f"{sampled} knob{'' if sampled == 1 else 's'}"
    return f"a study of {knobs} sampled before each training and {len(swept)} swept after it"


def schema() -> None:
    """Print the JSON schema of study files, for completion in editors."""
    from painvrl.cli import render
    from painvrl.study.file.schema import study_schema

    render.print_json(study_schema())
