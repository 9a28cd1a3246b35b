"""What is read back from MLflow: the runs that somebody tagged, and the page that shows the front."""

from __future__ import annotations

from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_database import tracked
from painvrl.study.tracking.port import DEFAULT_UI_URL, front_url


def tagged_runs(study: StoredStudy, workspace: Workspace, tracking_uri: str | None = None) -> tuple[str, ...]:
    """Runs of the study that somebody tagged ``selected = true`` in MLflow's UI."""
    with tracked(study, workspace, tracking_uri) as store:
        runs = () if store is None else store.runs("tags.selected ILIKE 'true'")
        return tuple(str(run.info.run_id) for run in runs)


def front_link(
    study: StoredStudy,
    workspace: Workspace,
    *,
    base_url: str = DEFAULT_UI_URL,
    tracking_uri: str | None = None,
) -> str | None:
    """The page of MLflow's UI that shows exactly the study's front; ``None`` if it was never tracked."""
    with tracked(study, workspace, tracking_uri) as store:
        if store is None or (experiment := store.experiment) is None:
            return None
        base = store.uri if store.uri.startswith(("http://", "https://")) else base_url
        return front_url(base, experiment, store.parent_run, study.objectives[0])
