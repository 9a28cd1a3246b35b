"""Notes on a finished study in MLflow: pages on its own run, metrics and tags on its trials' runs."""

from __future__ import annotations

import time
from collections.abc import Mapping

from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_calls import mlflow_calls
from painvrl.study.tracking.mlflow_database import tracked_at


def write_notes(
    study: StoredStudy,
    workspace: Workspace,
    *,
    pages: Mapping[str, str] | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    tags: Mapping[str, Mapping[str, str]] | None = None,
    tracking_uri: str | None = None,
) -> bool:
    """Write notes; whether there was a tracked study to write them on.

    Args:
        study: whose.
        workspace: where it is tracked unless ``tracking_uri`` says otherwise.
        pages: texts by file name, as artifacts of the study's own run.
        metrics: by run id, then by name.
        tags: by run id, then by name.
        tracking_uri: see ``resolve_tracking_uri``.

    Raises:
        StudyError: the store cannot be reached, or a run is gone.
    """
    tracked = tracked_at(study, workspace, tracking_uri)
    if tracked is None:
        return False
    uri, parent_run = tracked
    with mlflow_calls(uri):
        from mlflow.entities import Metric, RunTag
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        now = int(time.time() * 1000)
        for run_id in {**(metrics or {}), **(tags or {})}:
            numbers = (metrics or {}).get(run_id, {})
            words = (tags or {}).get(run_id, {})
            client.log_batch(
                run_id,
                metrics=[Metric(name, float(value), now, 0) for name, value in numbers.items()],
                tags=[RunTag(name, value) for name, value in words.items()],
            )
        for name, text in (pages or {}).items():
            client.log_text(parent_run, text, name)
    return True
