"""Notes on a finished study in MLflow: pages on its own run, metrics, tags and picks on its trials' runs."""

from __future__ import annotations

import time
from collections.abc import Mapping

from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_database import tracked


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
    metrics, tags = metrics or {}, tags or {}
    with tracked(study, workspace, tracking_uri) as store:
        if store is None:
            return False
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        for run_id in {**metrics, **tags}:
            store.client.log_batch(
                run_id,
                metrics=[
                    Metric(name, float(value), now, 0) for name, value in metrics.get(run_id, {}).items()
                ],
                tags=[RunTag(name, value) for name, value in tags.get(run_id, {}).items()],
            )
        for name, text in (pages or {}).items():
            store.client.log_text(store.parent_run, text, name)
    return True


def tag_pick(
    study: StoredStudy,
    workspace: Workspace,
    *,
    alias: str,
    run_id: str | None,
    reason: str = "",
    tracking_uri: str | None = None,
) -> bool:
    """Tag ``run_id`` with ``pick.ALIAS = reason`` and no other run of the study; whether one has the tag now.

    A study that was never tracked, and a run that is gone, are left alone.

    Args:
        study: whose runs they are.
        workspace: whose MLflow store is meant.
        alias: of the pick.
        run_id: of its trial; ``None`` takes the tag away.
        reason: of the pick.
        tracking_uri: another store.

    Raises:
        StudyError: MLflow does not answer.
    """
    tag = f"pick.{alias}"
    with tracked(study, workspace, tracking_uri) as store:
        if store is None:
            return False
        for run in store.runs(f"tags.`{tag}` LIKE '%'"):
            if run.info.run_id != run_id:
                store.client.delete_tag(run.info.run_id, tag)
        found = () if run_id is None else store.runs(f"attributes.run_id = '{run_id}'")
        for run in found:
            store.client.set_tag(run.info.run_id, tag, reason)
        return bool(found)
