"""Which version of a study a file continues with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.creation import create_study
from painvrl.study.store.lock import study_lock
from painvrl.study.store.storage import list_studies, open_study

Make = Callable[..., StudySpec]


@pytest.fixture
def make(spec_tree: dict[str, Any]) -> Make:
    def maker(rounds: int, name: str = "toy") -> StudySpec:
        tree = copy.deepcopy(spec_tree)
        tree["study"]["name"] = name
        tree["config"]["rounds"] = rounds
        return StudySpec.model_validate(tree)

    return maker


def run(spec: StudySpec, workspace: Workspace, *, new_version: bool = False, data: str = "d") -> str:
    return create_study(spec, workspace, data=data, new_version=new_version)[0].name


def test_a_changed_file_is_refused_with_every_difference_unless_a_new_version_is_asked_for(
    make: Make, workspace: Workspace
) -> None:
    assert run(make(1), workspace) == "toy"
    with pytest.raises(StudyError) as caught:
        run(make(2), workspace, data="e")
    assert str(caught.value).splitlines() == [
        "study.name: the study 'toy' exists and was run otherwise; its trials would not compare:",
        "- config.rounds: 1",
        "+ config.rounds: 2",
        "- the data (content or split): 'd'",
        "+ the data (content or split): 'e'",
        "take the change back, choose a new name, or make a new version of the study with --new-version",
    ]
    assert list_studies(workspace) == ("toy",)
    assert run(make(2), workspace, new_version=True) == "toy-v2"


@pytest.mark.slow
def test_a_file_goes_on_with_the_version_that_it_was_in_whatever_the_order(
    make: Make, workspace: Workspace
) -> None:
    assert run(make(1), workspace, new_version=True) == "toy", "nothing to refuse: no new version"
    assert run(make(2), workspace, new_version=True) == "toy-v2"
    assert run(make(1), workspace) == "toy", "back to what the file was"
    assert run(make(2), workspace) == "toy-v2"
    assert run(make(2), workspace, new_version=True) == "toy-v2", "the same command is the same study"
    with pytest.raises(StudyError, match=r"the study 'toy-v2' exists.*\n- config\.rounds: 2\n\+ config\.rou"):
        run(make(3), workspace)
    assert run(make(3), workspace, new_version=True) == "toy-v3"
    for rounds, name in ((2, "toy-v2"), (1, "toy"), (3, "toy-v3"), (1, "toy")):
        assert run(make(rounds), workspace) == name
        assert open_study(name, workspace).config.rounds == rounds
    assert set(list_studies(workspace)) == {"toy", "toy-v2", "toy-v3"}


def test_a_file_opens_the_latest_version_and_a_name_its_own(make: Make, workspace: Workspace) -> None:
    for rounds in (1, 2, 3):
        run(make(rounds), workspace, new_version=True)
    assert open_study(make(1), workspace).name == "toy-v3"
    assert [open_study(name, workspace).config.rounds for name in ("toy", "toy-v2")] == [1, 2]


@pytest.mark.slow
def test_numbers_are_compared_as_numbers(make: Make, workspace: Workspace) -> None:
    for rounds in range(1, 12):
        run(make(rounds), workspace, new_version=True)
    assert open_study(make(1), workspace).name == "toy-v11"
    assert run(make(12), workspace, new_version=True) == "toy-v12"


def test_a_study_that_only_looks_like_a_version_is_none(make: Make, workspace: Workspace) -> None:
    assert run(make(5, name="toy-v2"), workspace) == "toy-v2"
    assert run(make(1), workspace) == "toy"
    assert open_study(make(1), workspace).name == "toy"
    assert run(make(2), workspace, new_version=True) == "toy-v3", "toy-v2 is taken"
    assert run(make(5), workspace, new_version=True) == "toy-v4", "and is no one's version"
    assert open_study("toy-v2", workspace).config.rounds == 5


def test_a_version_is_run_by_one_process_at_a_time(
    make: Make, workspace: Workspace, go: Any, formula: Any
) -> None:
    for rounds in (1, 2):
        run(make(rounds), workspace, new_version=True, data=formula.data.fingerprint)
    with (
        study_lock(workspace.lock_path("toy-v2"), "toy-v2"),
        pytest.raises(StudyError, match="toy-v2: is being run by another process"),
    ):
        go(make(2), formula)
    assert formula.jobs == []
    assert go(make(2), formula, trials=1).study == "toy-v2"


def test_a_base_value_of_what_is_searched_stays_and_that_is_said(
    spec_tree: dict[str, Any], workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    run(StudySpec.model_validate(spec_tree), workspace)
    assert not caplog.records
    tree = copy.deepcopy(spec_tree)
    path = "mask.sparsity"
    assert path in tree["space"]
    tree["config"].setdefault("mask", {})["sparsity"] = 0.123
    run(StudySpec.model_validate(tree), workspace)
    (note,) = [record.getMessage() for record in caplog.records]
    assert note.startswith(f"note: config.{path} stays ")
    assert note.endswith("with which the study was made; the file has 0.123 now")
