"""Picks in MLflow: a tag on the run of each picked trial."""

from __future__ import annotations

from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.mlflow_database import tracked_at
from painvrl.study.tracking.port import runs_filter


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
    tracked = tracked_at(study, workspace, tracking_uri)
    if tracked is None:
        return False
    uri, parent_run = tracked
    tag = f"pick.{alias}"
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return False
        mine = runs_filter(parent_run)
        for run in client.search_runs([experiment.experiment_id], f"{mine} and tags.`{tag}` LIKE '%'"):
            if run.info.run_id != run_id:
                client.delete_tag(run.info.run_id, tag)
        if run_id is None:
            return False
        found = client.search_runs([experiment.experiment_id], f"{mine} and attributes.run_id = '{run_id}'")
        for run in found:
            client.set_tag(run.info.run_id, tag, reason)
        return bool(found)
