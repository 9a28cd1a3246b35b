"""``painvrl baselines``: recommenders of others on the splits of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from painvrl.cli.options import DEFAULT_WORKSPACE, DeviceOption, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from painvrl.config import TrainConfig


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
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Tune other recommenders on a configuration's splits.

    Takes its data, split, features and evaluation, and scores with the same ranking. Prints of each
    baseline the trials that no other of its trials beats on both IID and OOD NDCG@20; --json has them all,
    seed by seed. Both are measured on the valid parts; the test parts stay sealed. Baselines whose packages
    are missing are skipped.
    """
    from painvrl.baselines.comparison import choose, compare
    from painvrl.baselines.registry import BASELINES
    from painvrl.cli import progress, render
    from painvrl.device import select_device
    from painvrl.workspace import Workspace

    chosen = choose(BASELINES, baseline or ())
    settings = _config_of(config)
    with progress.run_progress() as observer:
        report = compare(
            settings,
            chosen,
            seeds=seeds,
            trials=trials,
            cache_dir=Workspace(workspace).cache,
            device=select_device(device),
            observer=observer,
        )
    if json:
        render.json({"config": str(config), **report.as_dict()})
    else:
        render.comparison(report)


def _config_of(path: Path) -> TrainConfig:
    """The configuration that a file holds by itself, or as a study's or an ablation's."""
    from painvrl.config import TrainConfig
    from painvrl.study.file.spec import ABLATION
    from painvrl.yamlfile import read_yaml, validated

    content = read_yaml(path)
    if "study" in content or ABLATION in content:
        from painvrl.study.ablation.spec import load_study_file

        return load_study_file(path).config
    return validated(TrainConfig, content, file=path)
