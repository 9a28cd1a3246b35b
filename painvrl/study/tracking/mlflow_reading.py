"""What is read back from MLflow: the runs that somebody tagged, and the page that shows the front."""

from __future__ import annotations

from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, PARENT, mlflow_calls
from painvrl.study.tracking.port import DEFAULT_UI_URL, front_url, resolve_tracking_uri
from painvrl.workspace import Workspace


def tagged_runs(study: StoredStudy, workspace: Workspace, tracking_uri: str | None = None) -> tuple[str, ...]:
    """Runs of the study that somebody tagged ``selected = true`` in MLflow's UI."""
    uri = resolve_tracking_uri(workspace, tracking_uri)
    if study.parent_run is None or (uri == workspace.tracking_uri and not workspace.mlflow_db.exists()):
        return ()
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return ()
        query = f"tags.selected ILIKE 'true' and tags.`{PARENT}` = '{study.parent_run}'"
        runs = client.search_runs([experiment.experiment_id], query, order_by=["attributes.start_time ASC"])
        return tuple(str(run.info.run_id) for run in runs)


def front_link(
    study: StoredStudy,
    workspace: Workspace,
    *,
    base_url: str = DEFAULT_UI_URL,
    tracking_uri: str | None = None,
) -> str | None:
    """The page of MLflow's UI that shows exactly the study's front; ``None`` if it was never tracked."""
    uri = resolve_tracking_uri(workspace, tracking_uri)
    if study.parent_run is None or (uri == workspace.tracking_uri and not workspace.mlflow_db.exists()):
        return None
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    base = uri if uri.startswith(("http://", "https://")) else base_url
    return front_url(base, experiment.experiment_id, study.parent_run, study.objectives[0])
