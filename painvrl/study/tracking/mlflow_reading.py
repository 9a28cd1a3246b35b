"""What is read back from MLflow: the runs that somebody tagged, and the page that shows the front."""

from __future__ import annotations

from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.mlflow_database import tracked_at
from painvrl.study.tracking.port import DEFAULT_UI_URL, front_url, runs_filter


def tagged_runs(study: StoredStudy, workspace: Workspace, tracking_uri: str | None = None) -> tuple[str, ...]:
    """Runs of the study that somebody tagged ``selected = true`` in MLflow's UI."""
    tracked = tracked_at(study, workspace, tracking_uri)
    if tracked is None:
        return ()
    uri, parent_run = tracked
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return ()
        query = f"tags.selected ILIKE 'true' and {runs_filter(parent_run)}"
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
    tracked = tracked_at(study, workspace, tracking_uri)
    if tracked is None:
        return None
    uri, parent_run = tracked
    with mlflow_calls(uri):
        from mlflow.tracking import MlflowClient

        experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    base = uri if uri.startswith(("http://", "https://")) else base_url
    return front_url(base, experiment.experiment_id, parent_run, study.objectives[0])
