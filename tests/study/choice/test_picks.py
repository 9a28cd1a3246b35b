from __future__ import annotations

from typing import Any

import pytest
from mlflow.utils.validation import _validate_model_alias_name, _validate_model_alias_name_reserved

from painvrl.core.errors import ConfigError, StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.choice.picks import Pick, check_alias, pick_named, remove_pick, store_pick, stored_picks
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.storage import StoredStudy, open_study


def pick(alias: str, trial: int = 1) -> Pick:
    return Pick(alias=alias, trial=trial, rule="knee", reason="it bends", values={"iid/ndcg_at_20": 0.1})


@pytest.fixture
def study(go: Any, spec: StudySpec, formula: Any, workspace: Workspace) -> StoredStudy:
    go(spec, formula, trials=2)
    return open_study("toy", workspace)


def test_picks_are_found_again_by_alias_by_whoever_opens_the_study(
    study: StoredStudy, workspace: Workspace
) -> None:
    assert stored_picks(study) == ()
    store_pick(study, pick("ood"))
    store_pick(study, pick("balanced", 0))
    again = open_study("toy", workspace)
    assert stored_picks(again) == (pick("balanced", 0), pick("ood"))


def test_a_pick_takes_the_place_of_another_of_its_alias_only(study: StoredStudy) -> None:
    for one in (pick("ood", 0), pick("iid", 1), pick("ood", 1)):
        store_pick(study, one)
    assert stored_picks(study) == (pick("iid", 1), pick("ood", 1))


def test_a_removed_pick_is_gone_and_can_be_made_again(study: StoredStudy) -> None:
    for alias in ("iid", "ood"):
        store_pick(study, pick(alias))
    assert remove_pick(study, "ood") == pick("ood")
    assert stored_picks(study) == (pick("iid"),)
    with pytest.raises(StudyError, match=r"no such pick; there is iid \(found 'ood'\)"):
        remove_pick(study, "ood")
    store_pick(study, pick("ood", 0))
    assert stored_picks(study) == (pick("iid"), pick("ood", 0))


def test_a_pick_costs_neither_the_studys_identity_nor_its_trials(
    study: StoredStudy, workspace: Workspace
) -> None:
    before = study.trials()
    store_pick(study, pick("ood"))
    after = open_study("toy", workspace)
    assert (after.trials(), after.identity, after.requested) == (before, study.identity, study.requested)


def test_a_pick_of_another_version_is_named_and_can_be_overwritten(study: StoredStudy) -> None:
    study.study.set_user_attr("painvrl:pick:ood", {"trial": 3, "mood": "good"})
    with pytest.raises(StudyError, match=r"toy: its pick 'ood' cannot be read .* pick again with --as ood"):
        stored_picks(study)
    store_pick(study, pick("ood"))
    assert stored_picks(study) == (pick("ood"),)


def test_without_picks_the_message_says_how_to_make_one() -> None:
    with pytest.raises(StudyError, match="there is none; `painvrl study pick` makes one"):
        pick_named((), "ood", study="toy")


GOOD = ("iid", "balanced", "a-b_C9", "7", "é", "vital", "v", "version1", "latest1", "v1a", "-", "_")
BAD = ("", "latest", "Latest", "v1", "V22", "v٣", "a b", "a.b", "a/b", "a@b", "a:b", "ood\n", "x" * 256)


@pytest.mark.parametrize("alias", [*GOOD, *BAD])
def test_an_alias_is_refused_if_and_only_if_mlflow_refuses_it(alias: str) -> None:
    def allowed(check: Any) -> bool:
        try:
            check(alias)
        except Exception:  # noqa: BLE001 # MLflow's own, or ours
            return False
        return True

    theirs = allowed(_validate_model_alias_name) and allowed(_validate_model_alias_name_reserved)
    # A newline at the end slips through their expression.
    assert allowed(check_alias) is (theirs and "\n" not in alias)


def test_a_refused_alias_is_named_with_its_rule(study: StoredStudy) -> None:
    with pytest.raises(ConfigError, match=r"--as: is reserved: .*\(found 'v3'\)"):
        check_alias("v3")
    with pytest.raises(ConfigError, match=r"--as: holds letters, digits, _ and - only"):
        store_pick(study, pick("a b"))
    assert stored_picks(study) == ()
