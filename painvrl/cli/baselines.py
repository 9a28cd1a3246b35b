"""``painvrl baselines``: recommenders of others on the splits of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
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
    first_words,
    goes_on,
)
from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.run.config import TrainConfig
    from painvrl.study.file.space import Space


def baselines(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.yaml", help="A configuration, or the file of a study or ablation (its `config`)."
        ),
    ],
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one; may be given several times."),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Splits, each with its own seed, from the file's `seed` up."),
    ] = 1,
    trials: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Settings of each baseline: its defaults, then random ones."),
    ] = 20,
    own: Annotated[
        bool,
        typer.Option(
            "--own",
            help="Tune the reference model over its `space`, too, and compare it with them by user.",
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="A value (YAML) in place of the file's, such as seed=3, or in a study's file config.seed=3; "
            "may be repeated.",
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    workers: WorkersOption = 1,
    memory_fraction: MemoryFractionOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Tune other recommenders on a configuration's splits.

    Takes its data, split, features and evaluation, and scores with the same ranking. Each trial is ranked
    under the same offsets of popularity and cold items, in units of its own scores' spread: trial 3 has the
    points 3.0 (plain), 3.1 and so on. Prints of each baseline the points that no other of them beats on both
    IID and OOD NDCG@20; --json has them all, seed by seed. Both are measured on the valid parts; the test
    parts stay sealed. Baselines whose packages are missing are skipped. Every trial is kept in the workspace
    and is a run in MLflow: the same command continues where it was stopped, and fits nothing twice.

    --own adds the reference model, with up to as many trials from the study's `space` (a file without one
    gives a single trial) under the same offsets in place of its own (`fusion.popularity_weight` and
    `fusion.cold_weight`). It sets every printed point of a baseline against the own one that comes nearest
    to beating it on both, with 95% intervals over seeds and users; so it needs --seeds of at least 2.

    Example: painvrl baselines studies/movielens.yaml --seeds 3 --trials 10
    """
    first_words(f"reading {config}, loading PyTorch and MLflow", quiet=quiet)
    from painvrl.baselines.comparison import choose, compare
    from painvrl.cli import progress, render
    from painvrl.core.device import select_device
    from painvrl.study.tracking.mlflow_tracker import mlflow_tracker

    chosen = choose(baseline or ())
    base, space = _config_of(config, settings or [])
    place = Workspace(workspace)
    with goes_on(), progress.study_progress(quiet=quiet, err=True) as lines:
        report = compare(
            base,
            chosen,
            place,
            select_device(device),
            seeds=seeds,
            trials=trials,
            workers=workers,
            memory_fraction=memory_fraction,
            own=own,
            space=space,
            progress=lines,
            tracker=mlflow_tracker(place),
        )
    # Those of the first seed were printed when the run began.
    render.data_warnings(report.warnings[len(report.splits[0].provenance.warnings) :])
    if json:
        render.print_json({"config": str(config), **report.as_dict()})
        return
    render.baselines(report)
    if report.link:
        typer.echo(report.link)


def _config_of(path: Path, settings: list[str]) -> tuple[TrainConfig, Space | None]:
    """The configuration of a file, which may be that of a study or ablation, and a study's space."""
    from painvrl.core.yamlfile import validated
    from painvrl.run.config import TrainConfig
    from painvrl.study.ablation.spec import study_or_ablation
    from painvrl.study.file.overrides import loaded
    from painvrl.study.file.spec import ABLATION, StudySpec

    def check(content: Mapping[str, object]) -> tuple[TrainConfig, Space | None]:
        if "study" not in content and ABLATION not in content:
            return validated(TrainConfig, content), None
        spec = study_or_ablation(content)
        return spec.config, spec.space if isinstance(spec, StudySpec) else None

    return loaded(path, settings, check)
