"""Old names in a studies' database become those of today, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import sqlalchemy

from painvrl.core.errors import StudyError
from painvrl.core.renamed import CHOICES, METRICS, SETTINGS
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.database import connect
from painvrl.study.store.lock import study_lock
from painvrl.study.store.storage import open_study
from painvrl.study.store.upgrade import _PRIMARY, upgrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from painvrl.core.workspace import Workspace

LEAVES = {now.rpartition(".")[2]: before.rpartition(".")[2] for before, now in SETTINGS.items()}
WORDS = {
    **{now: before for before, now in SETTINGS.items()},
    **{now: before for before, now in METRICS.items()},
}
CHOSEN = {now: before for names in CHOICES.values() for before, now in names.items()}


def as_before(tree: Any) -> Any:
    """JSON with the names of before, made in another way than the upgrade undoes it."""
    if isinstance(tree, dict):
        return {WORDS.get(key, LEAVES.get(key, key)): as_before(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [as_before(one) for one in tree]
    return WORDS.get(tree, CHOSEN.get(tree, tree)) if isinstance(tree, str) else tree


def age(workspace: Workspace) -> None:
    """Make the studies of the workspace those of an earlier version."""
    engine = sqlalchemy.create_engine(workspace.storage_url)
    with engine.begin() as connection:
        for table, number in _PRIMARY.items():
            name = "param_name" if table == "trial_params" else "key"
            value = "distribution_json" if table == "trial_params" else "value_json"
            rows = connection.execute(sqlalchemy.text(f"SELECT {number}, {name}, {value} FROM {table}")).all()
            for row, key, stored in rows:
                connection.execute(
                    sqlalchemy.text(
                        f"UPDATE {table} SET {name} = :key, {value} = :value WHERE {number} = :row"
                    ),
                    {
                        "row": row,
                        "key": WORDS.get(key, key),
                        "value": json.dumps(as_before(json.loads(stored))),
                    },
                )
    engine.dispose()


@pytest.fixture
def of_new_names(spec_tree: dict[str, Any]) -> StudySpec:
    """The study of ``spec``, over hyperparameters that had other names before."""
    offset = {"type": "categorical", "choices": ["shared", "per_user"]}
    penalty = {"type": "categorical", "choices": ["invrl", "vrex"]}
    space = {**spec_tree["space"], "environments.logit_offset": offset, "mask.penalty": penalty}
    return StudySpec.model_validate({**spec_tree, "space": space})


@pytest.mark.slow
def test_an_upgraded_study_is_the_one_that_it_was(
    of_new_names: StudySpec, workspace: Workspace, go: Callable[..., Any], formula: Any
) -> None:
    go(of_new_names, formula, trials=4)
    study = open_study(None, workspace)
    records, identity = study.trials(), study.identity
    age(workspace)
    with pytest.raises(StudyError, match="`painvrl workspace upgrade`"):
        open_study(None, workspace)
    done = upgrade(workspace)
    assert done.studies["toy"] > len(records)
    assert (open_study(None, workspace).trials(), open_study(None, workspace).identity) == (records, identity)
    assert json.loads(workspace.stamp.read_text()) == {"painvrl": done.version}
    go(of_new_names, formula, trials=6)  # and it continues
    assert len(open_study(None, workspace).trials()) == 6


def test_what_was_there_lies_beside_the_database(
    of_new_names: StudySpec, workspace: Workspace, go: Callable[..., Any], formula: Any
) -> None:
    go(of_new_names, formula, trials=2)
    age(workspace)
    backup = upgrade(workspace).backup
    assert backup is not None
    named = optuna.load_study(study_name="toy", storage=f"sqlite:///{backup}").get_trials()[-1].params
    assert "environments.tilt" in named


def test_a_second_upgrade_changes_nothing(
    of_new_names: StudySpec, workspace: Workspace, go: Callable[..., Any], formula: Any
) -> None:
    go(of_new_names, formula, trials=2)
    age(workspace)
    assert upgrade(workspace).studies["toy"] > 0
    assert upgrade(workspace).studies == {"toy": 0}
    assert upgrade(workspace).backup is None


@pytest.mark.slow
def test_a_large_study_is_copied_before_it_is_written(
    of_new_names: StudySpec, workspace: Workspace, go: Callable[..., Any], formula: Any
) -> None:
    go(of_new_names, formula, trials=2)
    study = open_study(None, workspace).study
    for number in range(40):  # more than SQLite keeps of a change in memory
        study.set_user_attr(f"note {number}", {"environments.logit_offset": "x" * 100_000})
    age(workspace)
    backup = upgrade(workspace).backup
    assert backup is not None
    assert Path(backup).stat().st_size > 3_000_000
    assert "x" * 100 in str(
        open_study(None, workspace).study.user_attrs["note 39"]["environments.logit_offset"]
    )


def test_a_second_backup_leaves_the_first(
    of_new_names: StudySpec, workspace: Workspace, go: Callable[..., Any], formula: Any
) -> None:
    go(of_new_names, formula, trials=2)
    age(workspace)
    first = upgrade(workspace).backup
    age(workspace)
    second = upgrade(workspace).backup
    assert first is not None
    assert second == f"{first}.2"


def test_another_database_stamps_no_workspace(workspace: Workspace, tmp_path: Path) -> None:
    connect(f"sqlite:///{tmp_path / 'elsewhere.db'}")
    upgrade(workspace, storage=f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert not workspace.stamp.exists()


def test_studies_of_others_are_left_alone(workspace: Workspace) -> None:
    workspace.create()
    other = optuna.create_study(storage=connect(workspace.storage_url), study_name="other")
    other.set_user_attr("environments.tilt", "personal")
    assert upgrade(workspace).studies == {}
    assert other.user_attrs == {"environments.tilt": "personal"}


def test_a_study_that_is_being_run_is_not_touched(
    of_new_names: StudySpec, workspace: Workspace, go: Callable[..., Any], formula: Any
) -> None:
    go(of_new_names, formula, trials=2)
    age(workspace)
    with study_lock(workspace.lock_path("toy"), "toy"), pytest.raises(StudyError, match="being run"):
        upgrade(workspace)
    assert not workspace.stamp.exists()


def test_an_empty_workspace_gets_the_stamp(workspace: Workspace) -> None:
    assert upgrade(workspace).studies == {}
    assert workspace.stamp.exists()
