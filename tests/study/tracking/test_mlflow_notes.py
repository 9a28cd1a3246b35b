from __future__ import annotations

from typing import Any

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.storage import StoredStudy, open_study
from painvrl.study.tracking.mlflow_notes import tag_pick
from painvrl.study.tracking.mlflow_tracker import mlflow_tracker


@pytest.fixture
def study(go: Any, spec: StudySpec, formula: Any, tracked: Workspace) -> StoredStudy:
    go(spec, formula, tracker=mlflow_tracker(tracked), trials=2)
    return open_study("toy", tracked)


def tags(workspace: Workspace, run_id: str | None) -> dict[str, str]:
    """The picks' tags of a run."""
    from mlflow.tracking import MlflowClient

    found = MlflowClient(tracking_uri=workspace.tracking_uri).get_run(run_id).data.tags
    return {key: value for key, value in found.items() if key.startswith("pick")}


@pytest.mark.slow
def test_a_pick_is_a_tag_with_its_reason_on_one_run_at_a_time(study: StoredStudy, tracked: Workspace) -> None:
    one, other = (record.run_id for record in study.trials())
    assert tag_pick(study, tracked, alias="balanced", run_id=one, reason="it bends")
    assert tag_pick(study, tracked, alias="my-own_1", run_id=one, reason="by hand")
    assert tags(tracked, one) == {"pick.balanced": "it bends", "pick.my-own_1": "by hand"}
    assert tag_pick(study, tracked, alias="balanced", run_id=other, reason="it bends more")
    assert tags(tracked, one) == {"pick.my-own_1": "by hand"}
    assert tags(tracked, other) == {"pick.balanced": "it bends more"}


@pytest.mark.slow
def test_the_picks_of_another_study_are_its_own(
    study: StoredStudy, tracked: Workspace, go: Any, spec: StudySpec, formula: Any
) -> None:
    named = spec.study.model_copy(update={"name": "other"})
    go(spec.model_copy(update={"study": named}), formula, tracker=mlflow_tracker(tracked), trials=1)
    other = open_study("other", tracked)
    mine, theirs = study.trials()[0].run_id, other.trials()[0].run_id
    tag_pick(study, tracked, alias="ood", run_id=mine, reason="best")
    tag_pick(other, tracked, alias="ood", run_id=theirs, reason="best there")
    assert not tag_pick(other, tracked, alias="iid", run_id=mine, reason="not its run")
    assert tags(tracked, mine) == {"pick.ood": "best"}
    assert tags(tracked, theirs) == {"pick.ood": "best there"}


@pytest.mark.slow
def test_without_a_run_the_tag_is_taken_away(study: StoredStudy, tracked: Workspace) -> None:
    run_id = study.trials()[0].run_id
    for alias in ("iid", "ood"):
        tag_pick(study, tracked, alias=alias, run_id=run_id, reason="best")
    assert not tag_pick(study, tracked, alias="ood", run_id=None, reason="")
    assert tags(tracked, run_id) == {"pick.iid": "best"}


@pytest.mark.slow
def test_a_run_that_is_gone_is_no_error(study: StoredStudy, tracked: Workspace) -> None:
    assert not tag_pick(study, tracked, alias="ood", run_id="0" * 32, reason="best")


@pytest.mark.slow
def test_an_untracked_study_is_left_alone_and_gets_no_store(
    go: Any, spec: StudySpec, formula: Any, workspace: Workspace
) -> None:
    go(spec, formula, trials=1)
    study = open_study("toy", workspace)
    assert not tag_pick(study, workspace, alias="ood", run_id="run-0", reason="best")
    assert not workspace.mlflow_db.exists()


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_said_in_one_line(
    study: StoredStudy, tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(StudyError, match="MLflow does not answer as it should"):
        tag_pick(study, tracked, alias="ood", run_id="r", reason="best")
