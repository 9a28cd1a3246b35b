"""Training one configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from painvrl.api.inputs import DEFAULT_WORKSPACE, PathLike, Tree, config_of, place_of

if TYPE_CHECKING:
    from painvrl.core.workspace import Workspace
    from painvrl.run.config import TrainConfig
    from painvrl.serving.retrain import TrainReport


def train(
    config: TrainConfig | Tree | PathLike,
    *,
    seed: int | None = None,
    refit: bool = False,
    test: bool = False,
    workspace: Workspace | PathLike = DEFAULT_WORKSPACE,
    device: str = "auto",
) -> TrainReport:
    """Train a configuration and keep the model, as ``painvrl train`` does.

    Args:
        config: a configuration, its YAML file, or what such a file holds.
        seed: another seed than the configuration's: another split and another initialisation.
        refit: keep a model trained on the valid parts, too, for as many epochs.
        test: read the sealed test parts; the read is counted.
        workspace: where data are cached, and where the checkpoint goes.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        The metrics of the valid parts, the checkpoint's folder, and what else the command prints.

    Raises:
        UserError: the configuration or the data break a rule.

    Example::

        report = painvrl.train("config.yaml", device="cpu")
        report.metrics["ood/ndcg_at_20"]
        model = painvrl.load_model(report.checkpoint)
    """
    from painvrl.core.device import select_device
    from painvrl.serving.retrain import TrainOptions, train_config

    settings, label = config_of(config)
    options = TrainOptions(device=select_device(device), seed=seed, refit=refit, test=test)
    return train_config(settings, label, place_of(workspace), options)
