"""Trained models in MLflow's registry.

A registered model is a painvrl checkpoint and the name of this module, which loads it: safetensors
and JSON, no pickle. It takes raw user ids and returns each user's best items, seen ones left out.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import Checkpoint, load_checkpoint
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker
from painvrl.study.tracking.port import PARENT, resolve_tracking_uri

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

_NO_TAGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A version in the registry; ``mlflow.pyfunc.load_model(uri)`` loads it. ``alias``: its other name."""

    name: str
    version: int
    run_id: str
    alias: str | None = None

    @property
    def uri(self) -> str:
        """How MLflow names it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def alias_uri(self) -> str | None:
        """How MLflow names it as long as no later version has its alias."""
        return None if self.alias is None else f"models:/{self.name}@{self.alias}"


class CheckpointModel:
    """A checkpoint behind MLflow's ``predict``."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, int] | None = None) -> pd.DataFrame:
        """The best items of every user.

        Args:
            model_input: a column ``user`` of raw ids.
            params: ``k``, items a user (10 by default).

        Returns:
            Columns ``user``, ``rank`` (from 1), ``item``, ``title``, ``score``.

        Raises:
            ConfigError: a user is unknown.
        """
        import pandas as pd

        k = int((params or {}).get("k", 10))
        rows = [
            (str(user), best.rank, best.item, best.title, best.score)
            for user in model_input["user"]
            for best in self._checkpoint.recommend(str(user), k)
        ]
        return pd.DataFrame(rows, columns=["user", "rank", "item", "title", "score"])


def _load_pyfunc(data_path: str) -> CheckpointModel:
    """MLflow's hook: it finds this module by name and calls this function."""
    return CheckpointModel(load_checkpoint(Path(data_path)))


def register_model(
    checkpoint_dir: Path,
    *,
    name: str,
    workspace: Workspace,
    study: str | None = None,
    source_run_id: str | None = None,
    config_yaml: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str] = _NO_TAGS,
    alias: str | None = None,
    reason: str | None = None,
) -> RegisteredModel:
    """Log a checkpoint as a run of its own and register it as the next version of ``name``.

    Args:
        checkpoint_dir: of :func:`painvrl.run.checkpoint.save_checkpoint`.
        name: of the registered model; made if it does not exist.
        workspace: whose MLflow store it goes to.
        study: the study that it comes from.
        source_run_id: the run of the trial that it repeats; the new run becomes its sibling.
        config_yaml: what was trained.
        metrics: of the valid and, if read, the test parts.
        tags: for the run.
        alias: a name that the new version takes over from an earlier one.
        reason: why this configuration was chosen; the version's description.

    Raises:
        StudyError: MLflow refuses.
    """
    uri = resolve_tracking_uri(workspace)
    mlflow_tracker(workspace)  # makes the experiment if nothing was tracked before
    with mlflow_calls(uri), _global_uri(uri):
        import mlflow
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        all_tags = {"kind": "final", **({"study": study} if study else {}), **tags}
        if source_run_id is not None:
            all_tags["source_run"] = source_run_id
            parent = _parent_of(client, source_run_id)
            all_tags |= {PARENT: parent} if parent else {}
        with mlflow.start_run(
            experiment_id=experiment.experiment_id,
            run_name=f"{name}-final",
            tags=all_tags,
            log_system_metrics=False,
        ) as run:
            mlflow.log_metrics(dict(metrics))
            mlflow.log_text(config_yaml, "config.yaml")
            info = mlflow.pyfunc.log_model(
                name="model",
                loader_module=__name__,
                data_path=str(checkpoint_dir),
                signature=_signature(),
                pip_requirements=_requirements(),
                registered_model_name=name,
            )
        version = int(info.registered_model_version)
        _describe(client, name, version, alias, reason)
        return RegisteredModel(name=name, version=version, run_id=str(run.info.run_id), alias=alias)


@contextmanager
def _global_uri(uri: str) -> Iterator[None]:
    """``log_model`` knows no client; it gets its store from MLflow's global, put back afterwards."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _parent_of(client: object, run_id: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)  # type: ignore[attr-defined] # an MlflowClient
    except MlflowException:
        return None  # the trial was tracked elsewhere
    parent = run.data.tags.get(PARENT)
    return None if parent is None else str(parent)


def _describe(client: MlflowClient, name: str, version: int, alias: str | None, reason: str | None) -> None:
    number = str(version)
    if reason is not None:
        client.update_model_version(name, number, description=reason)
        client.set_model_version_tag(name, number, "picked", reason)
    if alias is not None:  # last: whoever finds the alias finds the reason
        client.set_registered_model_alias(name, alias, number)


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    columns = {
        "user": DataType.string,
        "rank": DataType.long,
        "item": DataType.string,
        "title": DataType.string,
        "score": DataType.double,
    }
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "user")]),
        outputs=Schema([ColSpec(kind, column) for column, kind in columns.items()]),
        params=ParamSchema([ParamSpec("k", DataType.long, 10)]),
    )


def _requirements() -> list[str]:
    """Named, not inferred: MLflow would start a process that imports the model to find out."""
    packages = ("painvrl", "numpy", "pandas", "safetensors", "torch")
    return [f"{package}=={importlib.metadata.version(package).split('+')[0]}" for package in packages]
