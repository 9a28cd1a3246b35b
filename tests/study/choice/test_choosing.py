from __future__ import annotations

from typing import Any

import pytest

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.choice.choosing import choose, forget, kept_picks
from painvrl.study.choice.picks import Pick, store_pick, stored_picks
from painvrl.study.choice.rules import KNEE, MaxOodWithIid, rule_named
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.storage import StoredStudy, open_study


def at(iid: float, ood: float) -> Completed:
    return Completed(metrics={"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood})


@pytest.fixture
def study(go: Any, spec: StudySpec, formula: Any, workspace: Workspace) -> StoredStudy:
    """Trials 0, 1 and 2 on the front, 3 dominated, 4 failed."""
    ends = [
        at(0.1, 0.3),
        at(0.25, 0.25),
        at(0.3, 0.1),
        at(0.05, 0.05),
        Failed(reason="diverged", message="no"),
    ]
    formula.script = dict(enumerate(ends))
    go(spec, formula, trials=5)
    return open_study("toy", workspace)


def test_a_rule_gives_a_pick_that_is_stored_with_its_reason(study: StoredStudy, workspace: Workspace) -> None:
    kept = choose(study, workspace, KNEE)
    assert kept.pick.model_dump() == {
        "alias": "knee",
        "trial": 1,
        "place": None,
        "rule": "knee",
        "reason": "it is the knee of the 3 points on the front: farthest above the line of its ends in "
        "iid/ndcg_at_20 and ood/ndcg_at_20; iid/ndcg_at_20 0.2500 (16.7% below the best, 0.3000), "
        "ood/ndcg_at_20 0.2500 (16.7% below the best, 0.3000)",
        "values": {"iid/ndcg_at_20": 0.25, "ood/ndcg_at_20": 0.25},
    }
    assert stored_picks(study) == (kept.pick,)
    assert (kept.standing, kept.warning) == ("front", None)


def test_rules_bring_their_alias_and_a_name_wins_over_it(study: StoredStudy, workspace: Workspace) -> None:
    choose(study, workspace, rule_named("iid"))
    choose(study, workspace, rule_named("ood"))
    choose(study, workspace, MaxOodWithIid(share=0.8), alias="cheap")
    assert [(pick.alias, pick.trial) for pick in stored_picks(study)] == [
        ("cheap", 1),
        ("iid", 2),
        ("ood", 0),
    ]


def test_a_pick_says_which_other_trial_it_replaces(study: StoredStudy, workspace: Workspace) -> None:
    first = choose(study, workspace, KNEE)
    assert first.replaced is None
    assert choose(study, workspace, KNEE).replaced is None, "the same trial again"
    assert choose(study, workspace, "2", alias="knee").replaced == first.pick
    assert choose(study, workspace, rule_named("ood")).replaced is None, "another alias"


def test_a_trial_by_its_number_says_what_it_gives_up(study: StoredStudy, workspace: Workspace) -> None:
    kept = choose(study, workspace, "3")
    assert (kept.pick.alias, kept.pick.rule, kept.standing) == ("trial", "trial 3", "dominated")
    assert kept.pick.reason == (
        "trial 3 was asked for by its number (another point dominates it); "
        "iid/ndcg_at_20 0.0500 (83.3% below the best, 0.3000), "
        "ood/ndcg_at_20 0.0500 (83.3% below the best, 0.3000)"
    )


@pytest.mark.parametrize(
    ("what", "alias", "error", "words"),
    [
        ("4", None, StudyError, "trial 4 is failed"),
        ("9", None, StudyError, r"no such trial \(found '9'\)"),
        (KNEE, "latest", ConfigError, "is reserved"),
    ],
)
def test_what_cannot_be_picked_is_refused_and_nothing_is_stored(
    study: StoredStudy, workspace: Workspace, what: Any, alias: str | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        choose(study, workspace, what, alias=alias)
    assert stored_picks(study) == ()


def test_without_a_complete_trial_there_is_nothing_to_pick(
    go: Any, spec: StudySpec, formula: Any, workspace: Workspace
) -> None:
    formula.script = {0: Failed(reason="diverged", message="no")}
    with pytest.raises(NothingFeasible):
        go(spec, formula, trials=1)
    with pytest.raises(NothingFeasible, match="has no complete trial"):
        choose(open_study("toy", workspace), workspace, KNEE)


@pytest.mark.slow
def test_the_list_says_where_each_pick_stands_now(
    study: StoredStudy, workspace: Workspace, go: Any, spec: StudySpec, formula: Any
) -> None:
    choose(study, workspace, rule_named("ood"))
    for alias, trial in (("failed", 4), ("gone", 99)):
        store_pick(study, Pick(alias=alias, trial=trial, rule="x", reason="y", values={}))
    assert {kept.pick.alias: kept.standing for kept in kept_picks(study)} == {
        "failed": "failed",
        "gone": "gone",
        "ood": "front",
    }
    formula.script = {len(formula.jobs): at(0.4, 0.4)}
    go(spec, formula, trials=6)
    (ood,) = [kept for kept in kept_picks(study) if kept.pick.alias == "ood"]
    assert (ood.pick.trial, ood.standing) == (0, "dominated")


def test_a_forgotten_pick_is_gone_and_the_others_stay(study: StoredStudy, workspace: Workspace) -> None:
    choose(study, workspace, rule_named("iid"))
    choose(study, workspace, rule_named("ood"))
    assert forget(study, workspace, "iid").pick.trial == 2
    assert [pick.alias for pick in stored_picks(study)] == ["ood"]


def test_a_store_that_does_not_answer_costs_a_warning_and_not_the_pick(
    study: StoredStudy, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.study.tracking import mlflow_notes

    def down(*_: object, **__: object) -> bool:
        raise StudyError("MLflow is down")

    monkeypatch.setattr(mlflow_notes, "tag_pick", down)
    assert choose(study, workspace, KNEE).warning == "MLflow is down"
    assert [pick.trial for pick in stored_picks(study)] == [1]
    assert forget(study, workspace, "knee").warning == "MLflow is down"
    assert stored_picks(study) == ()
