"""Trained models in MLflow's registry.

A registered model is a checkpoint (safetensors and JSON, no pickle) and the file ``served_model.py``.
Its environment has a few packages; painvrl and torch are not among them.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from painvrl.core.errors import StudyError
from painvrl.core.shown import redacted
from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import load_checkpoint
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.mlflow_database import ready_database
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker
from painvrl.study.tracking.port import PARENT, resolve_tracking_uri

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

_NO_TAGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A version in the registry; ``mlflow.pyfunc.load_model(uri)`` loads it.

    Attributes:
        name: of the model; versions share it.
        version: from 1.
        run_id: the run that it was logged in.
        snippet: lines of Python that load it and ask it for a user, wherever they are pasted.
        alias: its other name.
    """

    name: str
    version: int
    run_id: str
    snippet: str
    alias: str | None = None

    @property
    def uri(self) -> str:
        """How MLflow names it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def alias_uri(self) -> str | None:
        """How MLflow names it as long as no later version has its alias."""
        return None if self.alias is None else f"models:/{self.name}@{self.alias}"


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
    example = load_checkpoint(checkpoint_dir).trained_users[0]
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
        with (
            _plainly_named(checkpoint_dir) as plain,
            mlflow.start_run(
                experiment_id=experiment.experiment_id,
                run_name=f"{name}-final",
                tags=all_tags,
                log_system_metrics=False,
            ) as run,
        ):
            mlflow.log_metrics(dict(metrics))
            mlflow.log_text(config_yaml, "config.yaml")
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={"checkpoint": str(plain)},
                signature=_signature(),
                input_example=_input_example(example),
                pip_requirements=_requirements(),
                registered_model_name=name,
            )
        version = int(info.registered_model_version)
        _describe(client, name, version, alias, reason)
        return RegisteredModel(
            name=name,
            version=version,
            run_id=str(run.info.run_id),
            snippet=_snippet(uri, f"models:/{name}/{version}", example),
            alias=alias,
        )


def find_model(model: str | None, workspace: Workspace) -> str:
    """The URI of a version in the registry.

    Args:
        model: ``NAME`` for its latest version, ``NAME/VERSION``, ``NAME@ALIAS``, each with or without
            ``models:/``; ``None`` for the version that was registered last.
        workspace: whose MLflow store is asked.

    Raises:
        StudyError: there is no such version, or MLflow refuses.
    """
    uri = resolve_tracking_uri(workspace)
    if uri == workspace.tracking_uri:
        if not workspace.mlflow_db.exists():
            raise _no_model(workspace, model)
        ready_database(workspace)
    wanted = None if model is None else model.removeprefix("models:/")
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        if wanted is not None and "@" in wanted:
            found = [client.get_model_version_by_alias(*wanted.rsplit("@", 1))]
        elif wanted is not None and "/" in wanted:
            found = [client.get_model_version(*wanted.rsplit("/", 1))]
        elif wanted is not None:
            found = client.search_model_versions(f"name = '{wanted}'")
        else:
            found = client.search_model_versions(order_by=["creation_timestamp DESC"], max_results=1)
    if not found:
        raise _no_model(workspace, model)
    latest = max(found, key=lambda version: int(version.version))
    return f"models:/{latest.name}/{latest.version}"


def example_request(uri: str, workspace: Workspace) -> str:
    """The body of a request that the model ``uri`` of :func:`find_model` answers, for a user whom it knows.

    Raises:
        StudyError: MLflow refuses.
    """
    store = resolve_tracking_uri(workspace)
    with mlflow_calls(store), _global_uri(store):
        import mlflow

        return json.dumps(json.loads(mlflow.artifacts.load_text(f"{uri}/serving_input_example.json")))


def _no_model(workspace: Workspace, model: str | None) -> StudyError:
    return StudyError(
        "there is no such registered model; make one with `painvrl train --best`",
        file=workspace.root,
        value=model,
    )


@contextmanager
def _plainly_named(checkpoint_dir: Path) -> Iterator[Path]:
    """A copy for MLflow, which takes an artifact's path for a URL: a ``%`` or ``#`` in it leads astray."""
    with tempfile.TemporaryDirectory(prefix="painvrl-") as folder:
        yield Path(shutil.copytree(checkpoint_dir, Path(folder) / "checkpoint"))


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
    from mlflow.types.schema import AnyType

    columns = {
        "user": DataType.string,
        "rank": DataType.long,
        "item": DataType.string,
        "title": DataType.string,
        "score": DataType.double,
        "status": DataType.string,
    }
    # Any: MLflow has no type for ids that are texts in one request and integers in another.
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(AnyType(), "user"),
                *(ColSpec(AnyType(), name, required=False) for name in ("candidates", "new_items")),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(kind, column, required=column not in {"rank", "title", "score"})
                for column, kind in columns.items()
            ]
        ),
        params=ParamSchema(
            [ParamSpec("k", DataType.long, 10), ParamSpec("exclude_seen", DataType.boolean, default=True)]
        ),
    )


def _input_example(user: str) -> tuple[pd.DataFrame, dict[str, object]]:
    import pandas as pd

    return pd.DataFrame({"user": [user]}), {"k": 5, "exclude_seen": True}


def _snippet(tracking_uri: str, model_uri: str, user: str) -> str:
    """A URI with a password is not shown: MLflow finds it where painvrl has found it, in its variable."""
    lines = ["import mlflow, pandas as pd"]
    lines += [] if redacted(tracking_uri) != tracking_uri else [f"mlflow.set_tracking_uri({tracking_uri!r})"]
    lines += [
        f"model = mlflow.pyfunc.load_model({model_uri!r})",
        f"print(model.predict(pd.DataFrame({{'user': [{user!r}]}}), params={{'k': 5}}))",
    ]
    return "\n".join(lines)


def _requirements() -> list[str]:
    """Of ``served_model.py`` and of MLflow's server for it.

    Named, not inferred: MLflow would start a process that imports the model to find out.
    """
    packages = ("mlflow-skinny", "numpy", "pandas", "safetensors")
    return [f"{package}=={importlib.metadata.version(package)}" for package in packages]
