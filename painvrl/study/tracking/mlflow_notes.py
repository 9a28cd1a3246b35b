"""A finished study in MLflow: notes on its runs, and what people find or have said there."""

from __future__ import annotations

import time
from collections.abc import Mapping

from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_database import tracked
from painvrl.study.tracking.mlflow_view import VIEW_TAG, opens_views, view_url
from painvrl.study.tracking.port import DEFAULT_UI_URL, front_url, run_pages_url, ui_of


def write_notes(
    study: StoredStudy,
    workspace: Workspace,
    *,
    pages: Mapping[str, str] | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    tags: Mapping[str, Mapping[str, str]] | None = None,
) -> bool:
    """Write notes; whether there was a tracked study to write them on.

    Args:
        study: whose.
        workspace: where it is tracked unless the environment names another store.
        pages: texts by file name, as artifacts of the study's own run.
        metrics: by run id, then by name.
        tags: by run id, then by name.

    Raises:
        StudyError: the store cannot be reached, or a run is gone.
    """
    metrics, tags = metrics or {}, tags or {}
    with tracked(study, workspace) as store:
        if store is None:
            return False
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        for run_id in {**metrics, **tags}:
            noted = [Metric(name, float(value), now, 0) for name, value in metrics.get(run_id, {}).items()]
            said = [RunTag(name, value) for name, value in tags.get(run_id, {}).items()]
            store.client.log_batch(run_id, metrics=noted, tags=said)
        for name, text in (pages or {}).items():
            store.client.log_text(store.parent_run, text, name)
    return True


def tag_pick(
    study: StoredStudy,
    workspace: Workspace,
    *,
    alias: str,
    run_id: str | None,
    reason: str,
) -> bool:
    """Tag ``run_id`` with ``pick.ALIAS = reason`` and no other run of the study; whether one has the tag now.

    A study that was never tracked, and a run that is gone, are left alone.

    Args:
        study: whose runs they are.
        workspace: where it is tracked unless the environment names another store.
        alias: of the pick.
        run_id: of its trial; ``None`` takes the tag away.
        reason: of the pick.

    Raises:
        StudyError: MLflow does not answer.
    """
    tag = f"pick.{alias}"
    with tracked(study, workspace) as store:
        if store is None:
            return False
        for run in store.runs(f"tags.`{tag}` LIKE '%'"):
            if run.info.run_id != run_id:
                store.client.delete_tag(run.info.run_id, tag)
        found = () if run_id is None else store.runs(f"attributes.run_id = '{run_id}'")
        for run in found:
            store.client.set_tag(run.info.run_id, tag, reason)
        return bool(found)


def tagged_runs(study: StoredStudy, workspace: Workspace) -> tuple[str, ...]:
    """Runs of the study that somebody tagged ``selected = true`` in MLflow's UI."""
    with tracked(study, workspace) as store:
        runs = () if store is None else store.runs("tags.selected ILIKE 'true'")
        return tuple(str(run.info.run_id) for run in runs)


def front_link(study: StoredStudy, workspace: Workspace, *, base_url: str = DEFAULT_UI_URL) -> str | None:
    """The page of MLflow's UI that shows the study's front; ``None`` if it was never tracked.

    Its saved view, if it has one that the UI opens; else a list of exactly the front.
    """
    with tracked(study, workspace) as store:
        if store is None or (experiment := store.experiment) is None:
            return None
        base = ui_of(store.uri, base_url)
        tags = store.client.get_experiment(experiment).tags
        if VIEW_TAG + store.parent_run in tags and opens_views(store.uri):
            return view_url(base, experiment, store.parent_run)
        return front_url(base, experiment, store.parent_run, study.objectives[0])


def run_pages(study: StoredStudy, workspace: Workspace, *, base_url: str = DEFAULT_UI_URL) -> str | None:
    """Where MLflow's UI has the pages of the study's runs, each under its id; ``None`` if it has none.

    Raises:
        StudyError: MLflow does not answer.
    """
    with tracked(study, workspace) as store:
        if store is None or (experiment := store.experiment) is None:
            return None
        return run_pages_url(ui_of(store.uri, base_url), experiment)
