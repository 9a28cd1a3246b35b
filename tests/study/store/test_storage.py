from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import optuna
import pytest

from painvrl.core.errors import ConfigError, StudyError
from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.store.creation import create_study
from painvrl.study.store.database import connect, readable_errors
from painvrl.study.store.lock import lock_path
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import list_studies, open_study

Tree = dict[str, Any]


def changed(tree: Tree, path: str, value: object) -> StudySpec:
    tree = copy.deepcopy(tree)
    *above, last = path.split("/")
    branch = tree
    for key in above:
        branch = branch[key]
    branch[last] = value
    return StudySpec.model_validate(tree)


def test_a_study_is_there_again_as_it_was_made(spec: StudySpec, workspace: Workspace) -> None:
    made, existed = create_study(spec, workspace, data="d")
    assert not existed
    found = open_study("toy", workspace)
    assert found.identity == made.identity
    assert (found.name, found.objectives) == ("toy", spec.objectives)
    assert (found.config, found.space) == (spec.config, spec.space)
    assert create_study(spec, workspace, data="d")[1]


def test_a_study_keeps_the_memory_limit_of_its_file(spec_tree: Tree, workspace: Workspace) -> None:
    for limit in (3.0, 4.0):  # a later one takes its place: it decides no value
        create_study(changed(spec_tree, "config/data/memory_limit", limit), workspace, data="d")
        assert open_study("toy", workspace).config.data.memory_limit == limit


def test_a_study_is_found_by_its_file_its_name_or_as_the_only_one(
    spec: StudySpec, spec_tree: Tree, workspace: Workspace
) -> None:
    create_study(spec, workspace, data="d")
    assert {open_study(which, workspace).name for which in (spec, "toy", None)} == {"toy"}
    other = changed(spec_tree, "study/name", "other")
    create_study(other, workspace, data="d")
    assert set(list_studies(workspace)) == {"toy", "other"}
    assert open_study(other, workspace).name == "other"
    with pytest.raises(StudyError, match="several studies are here; name one of"):
        open_study(None, workspace)
    with pytest.raises(StudyError, match=r"no such study; there are .*toy.*\(found 'tyo'\)"):
        open_study("tyo", workspace)


def test_looking_for_a_study_makes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "nowhere")
    assert list_studies(workspace) == ()
    with pytest.raises(StudyError, match="holds no study yet"):
        open_study(None, workspace)
    assert not workspace.root.exists()


@pytest.mark.parametrize("of", ["a file", "an option"])
def test_a_storage_with_a_slip_of_the_pen_is_named_and_not_made(
    spec_tree: Tree, workspace: Workspace, tmp_path: Path, of: str
) -> None:
    url = f"sqlite:///{tmp_path}/typo/none.db"
    asked = changed(spec_tree, "study/storage", url) if of == "a file" else "toy"
    with pytest.raises(StudyError, match=f"{url}: is no file; `painvrl study run SPEC.yaml` makes one"):
        open_study(asked, workspace, storage=None if of == "a file" else url)
    assert not (tmp_path / "typo").exists()


def test_what_a_storage_elsewhere_lacks_is_not_blamed_on_the_workspace(
    spec_tree: Tree, workspace: Workspace, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/else.db"
    connect(url)
    with pytest.raises(StudyError, match=f"{url}: holds no study yet"):
        open_study(None, workspace, storage=url)
    spec_tree["study"]["storage"] = url
    for name in ("one", "two"):
        create_study(changed(spec_tree, "study/name", name), workspace, data="d")
    with pytest.raises(StudyError, match=f"{url}: several studies are here"):
        open_study(None, workspace, storage=url)
    with pytest.raises(StudyError, match=f"{url}: no such study"):
        open_study("toy", workspace, storage=url)


def test_the_storage_can_lie_elsewhere(spec_tree: Tree, workspace: Workspace, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/else/where.db"
    spec = changed(spec_tree, "study/storage", url)
    create_study(spec, workspace, data="d")
    assert list_studies(workspace) == ()
    assert list_studies(workspace, storage=url) == ("toy",)
    assert open_study(spec, workspace).name == open_study("toy", workspace, storage=url).name == "toy"


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("no url", ConfigError, "storage: is not a database URL"),
        (
            "oracle+cx_oracle://user:geheim@host/db",
            StudyError,
            "storage: the package cx-Oracle is not installed; pip install 'cx-Oracle'",
        ),
        ("sqlite:////proc", StudyError, "the studies' database refuses"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_said_in_one_line(
    workspace: Workspace, url: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        list_studies(workspace, storage=url)
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("version\nmismatch"), OSError("no route")])
def test_a_password_is_never_shown(error: Exception) -> None:
    with pytest.raises(StudyError) as caught, readable_errors("postgresql://user:geheim@host/db"):
        raise error
    assert str(caught.value).startswith("postgresql://user:***@host/db: the studies' database refuses: ")
    assert "\n" not in str(caught.value)


def test_workspaces_that_share_a_storage_share_its_locks(spec_tree: Tree, tmp_path: Path) -> None:
    one, two = Workspace(tmp_path / "one"), Workspace(tmp_path / "two")
    own = StudySpec.model_validate(spec_tree)
    shared = changed(spec_tree, "study/storage", f"sqlite:///{tmp_path}/shared/optuna.db")
    server = changed(spec_tree, "study/storage", "postgresql://host/db")
    assert lock_path(own, one) != lock_path(own, two)
    assert lock_path(shared, one) == lock_path(shared, two)
    assert lock_path(shared, one).parent.parent == tmp_path / "shared"
    assert lock_path(server, one) == one.lock_path("toy")


def test_a_file_that_is_no_database_is_said_in_one_line(workspace: Workspace) -> None:
    workspace.optuna_db.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(StudyError, match="the studies' database refuses: file is not a database"):
        list_studies(workspace)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "objectives",
            ["iid/ndcg_at_20"],
            "- objectives: ['iid/ndcg_at_20', 'ood/ndcg_at_20']\n+ objectives: ['iid/n",
        ),
        (
            "objectives",
            ["ood/ndcg_at_20", "iid/ndcg_at_20"],
            "+ objectives: ['ood/ndcg_at_20', 'iid/ndcg_at_20']",
        ),
        (
            "space/mask.sparsity/high",
            0.8,
            "- space.mask.sparsity.high: 0.9\n+ space.mask.sparsity.high: 0.8\n",
        ),
        ("config/rounds", 2, "- config.rounds: 1\n+ config.rounds: 2\n"),
        ("config/seed", 1, "- config.seed: 0\n+ config.seed: 1\n"),
        ("config/mask/steps", 6, "- config.mask.steps: 60\n+ config.mask.steps: 6\n"),
    ],
)
def test_a_study_does_not_go_on_with_other_settings(
    spec: StudySpec, spec_tree: Tree, workspace: Workspace, path: str, value: object, words: str
) -> None:
    create_study(spec, workspace, data="d")
    with pytest.raises(StudyError) as caught:
        create_study(changed(spec_tree, path, value), workspace, data="d")
    assert words in str(caught.value)
    assert "choose a new name" in str(caught.value)
    assert open_study("toy", workspace).identity.objectives == spec.objectives


def test_a_study_does_not_go_on_without_a_hyperparameter(
    spec: StudySpec, spec_tree: Tree, workspace: Workspace
) -> None:
    create_study(spec, workspace, data="d")
    less = copy.deepcopy(spec_tree)
    del less["space"]["fusion.kind"]
    with pytest.raises(StudyError, match=r"\n- space\.fusion\.kind\.type: 'categorical'\n(?!\+)"):
        create_study(StudySpec.model_validate(less), workspace, data="d")


def test_a_study_does_not_go_on_with_other_data(spec: StudySpec, workspace: Workspace) -> None:
    create_study(spec, workspace, data="d")
    with pytest.raises(
        StudyError, match=r"- the data \(content or split\): 'd'\n\+ the data \(content or split\): 'e'"
    ):
        create_study(spec, workspace, data="e")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("study/trials", 99),
        ("study/sampler", "random"),
        ("study/seed", 7),
        ("config/mask/sparsity", 0.1),  # a hyperparameter's own value: only the first trial looks at it
    ],
)
def test_a_study_goes_on_with_what_does_not_change_its_trials(
    spec: StudySpec, spec_tree: Tree, workspace: Workspace, path: str, value: object
) -> None:
    create_study(spec, workspace, data="d")
    assert create_study(changed(spec_tree, path, value), workspace, data="d")[1]


def test_the_base_configurations_own_point_is_queued_once(spec: StudySpec, workspace: Workspace) -> None:
    for _ in range(3):
        stored, _ = create_study(spec, workspace, data="d")
    (waiting,) = stored.trials()
    assert waiting.state is TrialState.WAITING
    assert waiting.point == spec.space.point_of(spec.config)
    assert set(waiting.point) == set(spec.space.root)


@pytest.mark.parametrize("directions", [["minimize"], ["maximize"], ["minimize", "maximize"]])
def test_an_empty_study_of_somebody_else_is_left_alone(
    spec: StudySpec, workspace: Workspace, directions: list[str]
) -> None:
    optuna.create_study(storage=workspace.storage_url, study_name="toy", directions=directions)
    with pytest.raises(StudyError, match="toy: was not made by painvrl; choose a new name"):
        create_study(spec, workspace, data="d")
    foreign = optuna.load_study(study_name="toy", storage=workspace.storage_url)
    assert (foreign.user_attrs, foreign.trials, foreign.metric_names) == ({}, [], None)


def test_a_study_whose_maker_died_half_way_is_made(spec: StudySpec, workspace: Workspace) -> None:
    optuna.create_study(storage=workspace.storage_url, study_name="toy", directions=["maximize"] * 2)
    assert create_study(spec, workspace, data="d")[0].objectives == spec.objectives


def test_a_study_of_somebody_else_is_left_alone(spec: StudySpec, workspace: Workspace) -> None:
    foreign = optuna.create_study(
        storage=workspace.storage_url, study_name="toy", directions=["maximize"] * 2
    )
    foreign.add_trial(optuna.trial.create_trial(values=[0.0, 0.0]))
    for attempt in (
        lambda: create_study(spec, workspace, data="d"),
        lambda: open_study("toy", workspace),
    ):
        with pytest.raises(StudyError, match="was not made by painvrl"):
            attempt()


def test_a_study_of_another_version_says_so(spec: StudySpec, workspace: Workspace) -> None:
    stored, _ = create_study(spec, workspace, data="d")
    identity = stored.identity.model_dump(mode="json")
    stored.study.set_user_attr("painvrl:identity", {**identity, "novelty": 1})
    with pytest.raises(StudyError, match="was made by a version of painvrl"):
        open_study("toy", workspace)


def test_a_record_keeps_everything_but_the_curves_to_the_last_bit(
    spec: StudySpec, workspace: Workspace
) -> None:
    stored, _ = create_study(spec, workspace, data="d")
    adapter = AskTell(stored, spec.study)
    asked = adapter.ask()
    adapter.attach_run(asked.number, "r1")
    metrics = {"iid/ndcg_at_20": 0.1 + 0.2, "ood/ndcg_at_20": 1 / 3, "ood/recall_at_20": 5e-324}
    done = Completed(
        metrics=metrics, rounds=({"mask/density": 0.7},), seconds={"mask": 2.5}, epochs={"pretrain": 40}
    )
    adapter.tell(asked.number, done)
    record = open_study("toy", workspace).trials()[asked.number]
    assert record.state is TrialState.COMPLETE
    assert record.outcome == done
    assert record.values == (metrics["iid/ndcg_at_20"], metrics["ood/ndcg_at_20"])
    assert (record.metrics, record.run_id) == (metrics, "r1")
    assert record.point == asked.point
    assert record.seconds is not None
    assert (record.reason, record.message) == (None, None)


def test_a_failed_record_says_why(spec: StudySpec, workspace: Workspace) -> None:
    stored, _ = create_study(spec, workspace, data="d")
    adapter = AskTell(stored, spec.study)
    adapter.tell(adapter.ask().number, Failed(reason="diverged", message="the loss is nan", log="Traceback"))
    (record,) = open_study("toy", workspace).trials()
    assert (record.state, record.values) == (TrialState.FAILED, None)
    assert (record.reason, record.message) == ("diverged", "the loss is nan")
    assert record.metrics == {}


def test_the_configuration_of_a_record_is_the_one_that_was_trained(
    spec: StudySpec, workspace: Workspace
) -> None:
    stored, _ = create_study(spec, workspace, data="d")
    adapter = AskTell(stored, spec.study)
    for _ in range(3):
        asked = adapter.ask()
        adapter.tell(asked.number, Completed(metrics={"iid/ndcg_at_20": 0.1, "ood/ndcg_at_20": 0.1}))
    last = open_study("toy", workspace)
    config = last.config_of(last.trials()[2])
    assert spec.space.point_of(config) == asked.point
