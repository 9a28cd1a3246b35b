from __future__ import annotations

import copy
from typing import Any

import optuna
import pytest

from painvrl.core.errors import StudyError
from painvrl.study.store.identity import StudyIdentity
from painvrl.study.store.storage import Attr, identity_of

Tree = dict[str, Any]


def identity(tree: Tree, data: str = "d") -> StudyIdentity:
    parts = {key: tree[key] for key in ("objectives", "config", "space")}
    return StudyIdentity.model_validate({**parts, "data": data})


def test_differences_are_lines_of_all_that_was_and_is(spec_tree: Tree) -> None:
    other = copy.deepcopy(spec_tree)
    other["objectives"] = ["iid/ndcg_at_20"]
    other["config"]["rounds"] = 3
    other["space"]["rounds"] = {"type": "fixed", "value": 2}
    del other["space"]["fusion.kind"]
    lines = identity(spec_tree).differences(identity(other, "e"))
    assert lines[:2] == (
        "- objectives: ['iid/ndcg_at_20', 'ood/ndcg_at_20']",
        "+ objectives: ['iid/ndcg_at_20']",
    )
    # Of config.rounds and config.fusion.kind only one of the two searches every trial's own.
    assert set(lines[2:]) == {
        "- config.rounds: 1",
        "+ config.fusion.kind: 'branch'",
        "- space.fusion.kind.type: 'categorical'",
        "- space.fusion.kind.choices: ['branch', 'invariant']",
        "+ space.rounds.type: 'fixed'",
        "+ space.rounds.value: 2",
        "- the data (content or split): 'd'",
        "+ the data (content or split): 'e'",
    }
    assert identity(spec_tree).differences(identity(copy.deepcopy(spec_tree))) == ()


def test_the_bases_value_of_a_hyperparameter_counts_only_where_some_trial_keeps_it(spec_tree: Tree) -> None:
    other = copy.deepcopy(spec_tree)
    other["config"]["mask"]["sparsity"] = 0.1
    assert identity(spec_tree).differences(identity(other)) == ()
    for tree in (spec_tree, other):
        tree["space"]["mask.sparsity"]["when"] = {"fusion.kind": "branch"}
    assert identity(spec_tree).differences(identity(other)) == (
        "- config.mask.sparsity: 0.5",
        "+ config.mask.sparsity: 0.1",
    )


def test_a_condition_is_part_of_the_space(spec_tree: Tree) -> None:
    other = copy.deepcopy(spec_tree)
    other["space"]["mask.sparsity"]["when"] = {"fusion.kind": "branch"}
    assert "+ space.mask.sparsity.when.fusion.kind: 'branch'" in identity(spec_tree).differences(
        identity(other)
    )


def test_an_identity_that_was_stored_before_there_were_conditions_is_the_same(spec_tree: Tree) -> None:
    stored = identity(spec_tree).model_dump(mode="json")
    for hyperparameter in stored["space"].values():
        del hyperparameter["when"]
    assert StudyIdentity.model_validate(stored).differences(identity(spec_tree)) == ()


def test_how_the_data_are_read_counts_only_where_other_data_come_of_it(spec_tree: Tree) -> None:
    other = copy.deepcopy(spec_tree)
    other["config"]["data"]["n_users"] = 61
    other["config"]["data"]["memory_limit"] = 3.0
    assert identity(spec_tree).differences(identity(other)) == ()
    assert identity(spec_tree).differences(identity(other, "e")) == (
        "- config.data.n_users: 60",
        "+ config.data.n_users: 61",
        "- the data (content or split): 'd'",
        "+ the data (content or split): 'e'",
    )


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", "..", ".hidden", "a\nb", "\x1b[2J", "x" * 200])
def test_a_name_that_could_lead_out_of_the_workspace_is_of_no_study_of_ours(name: str) -> None:
    study = optuna.create_study(study_name=name, storage=optuna.storages.InMemoryStorage())
    study.set_user_attr(Attr.IDENTITY, {"config": {"data": {}}})
    with pytest.raises(StudyError, match="was not made by painvrl") as caught:
        identity_of(study)
    assert len(str(caught.value).splitlines()) == 1
