from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned, SweptPoint
from painvrl.engine.user_value_store import UserStore
from painvrl.evaluation.user_values import UserValues
from painvrl.run.presets import PRESETS
from painvrl.study.file.spec import StudySpec
from painvrl.study.front import front_table, status
from painvrl.study.search.asktell import Asked, AskTell
from painvrl.study.search.port import SAMPLERS
from painvrl.study.search.pruner import Pruner
from painvrl.study.search.pruning import PruningConfig
from painvrl.study.search.source import job_of
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TakenFrom, TrialState, front_of
from painvrl.study.store.storage import Attr, StoredStudy, open_study
from painvrl.study.store.warm_start import warm_start_of

Tree = dict[str, Any]


@pytest.fixture
def tree(spec_tree: Tree) -> Tree:
    """The toy study under the name ``old``."""
    return changed(spec_tree, {"study/name": "old"})


def changed(tree: Tree, changes: Tree) -> Tree:
    """The tree with other values at paths; ``None`` removes a key."""
    tree = copy.deepcopy(tree)
    for path, value in changes.items():
        *above, last = path.split("/")
        branch = tree
        for key in above:
            branch = branch[key]
        if value is None:
            del branch[last]
        else:
            branch[last] = value
    return tree


def outcome_of(stored: StoredStudy, asked: Asked) -> Outcome:
    """What a trial's configuration comes to: nothing else decides it."""
    job = job_of(stored, asked.number, asked.point, asked.preset)
    assert isinstance(job, Job)
    sparsity, weight = job.config.mask.sparsity, job.config.mask.irm_weight

    def metrics(cold: float) -> dict[str, float]:
        return {
            "iid/ndcg_at_20": 1 - sparsity**2 - cold / 9,
            "ood/ndcg_at_20": sparsity + weight / 999 + cold,
        }

    if job.sweep is None:
        return Completed(metrics=metrics(0.0), seconds={"pretrain": 1.0})
    own = job.config.fusion.cold_weight
    points = [SweptPoint(values={"fusion.cold_weight": at}, metrics=metrics(at)) for at in (own, 0.5, 0.75)]
    return Completed(metrics=points[-1].metrics, points=tuple(points))


def train(
    tree: Tree,
    workspace: Workspace,
    trials: int,
    *,
    warm_start: str | None = None,
    instead: Callable[[int], Outcome | None] = lambda _: None,
) -> tuple[StoredStudy, list[Asked]]:
    """Go on with a study by ``trials`` trials; and what these were."""
    spec = StudySpec.model_validate(tree)
    stored, _ = create_study(spec, workspace, data="d", warm_start=warm_start)
    adapter = AskTell(stored, spec.study)
    found = []
    for _ in range(trials):
        asked = adapter.ask()
        assert asked is not None
        adapter.tell(asked.number, instead(asked.number) or outcome_of(stored, asked))
        found.append(asked)
    return stored, found


def taken(stored: StoredStudy) -> list[int]:
    """Numbers that the trials taken over had in the study that trained them."""
    return [record.taken_from.trial for record in stored.trials() if record.taken_from is not None]


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize(
    "sampler", ["tpe", "random", "qmc", "nsga2", "auto", pytest.param("gp", marks=pytest.mark.slow)]
)
def test_a_study_asks_as_if_it_had_trained_what_it_took_over(
    tree: Tree, workspace: Workspace, sampler: str, swept: bool
) -> None:
    more = {"type": "float", "low": 0.0, "high": 1.0}
    tree = changed(tree, {"study/sampler": sampler, "presets": ["erm"]})
    tree = changed(tree, {"space/fusion.cold_weight": more}) if swept else tree
    straight = train(changed(tree, {"study/name": "straight"}), workspace, 5)[1]
    train(tree, workspace, 3)
    stored, asked = train(changed(tree, {"study/name": "new"}), workspace, 2, warm_start="old")
    assert taken(stored) == [0, 1, 2]
    assert [one.point for one in asked] == [one.point for one in straight[3:]]
    assert len({str(one.point) for one in straight}) == 5


@pytest.mark.slow
def test_a_hyperparameter_that_is_new_has_the_value_that_trials_had_of_it(
    tree: Tree, workspace: Workspace
) -> None:
    old, _ = train(changed(tree, {"space/mask.irm_weight": None}), workspace, 4)
    stored, _ = train(changed(tree, {"study/name": "new"}), workspace, 0, warm_start="old")
    before, now = old.trials(), stored.trials()[:4]
    assert [one.point["mask.irm_weight"] for one in now] == [1.0] * 4
    assert [stored.config_of(one) for one in now] == [old.config_of(one) for one in before]
    assert [(one.values, one.outcome, one.seconds) for one in now] == [
        (one.values, one.outcome, one.seconds) for one in before
    ]
    assert [one.taken_from for one in now] == [TakenFrom(study="old", trial=number) for number in range(4)]
    assert all(set(one.params) == set(stored.space.root) for one in stored.study.get_trials()[:4])
    assert [record.name for record in front_of(now)] == [record.name for record in front_of(before)]


def test_what_is_outside_the_space_or_another_training_is_left_out_and_counted(
    tree: Tree, workspace: Workspace
) -> None:
    old, asked = train(tree, workspace, 7)
    low = {"type": "float", "low": 0.0, "high": 0.5}
    new = changed(tree, {"study/name": "new", "space/mask.sparsity": low})
    stored, _ = train(new, workspace, 0, warm_start="old")
    inside = [one.number for one in asked if one.point["mask.sparsity"] <= 0.5]
    assert taken(stored) == inside
    assert 0 < len(inside) < 7
    began = warm_start_of(stored.study)
    assert began is not None
    assert began.left_out == {"outside space.mask.sparsity": 7 - len(inside)}
    assert f"{len(inside)} trials of old; left out: {7 - len(inside)} (outside space" in str(began)
    assert status(stored).warm_start == began

    fixed = {"type": "fixed", "value": asked[0].point["environments.count"]}
    stored, _ = train(
        changed(tree, {"study/name": "fixed", "space/environments.count": fixed}),
        workspace,
        0,
        warm_start="old",
    )
    same = [one.number for one in asked if one.point["environments.count"] == fixed["value"]]
    assert taken(stored) == same
    assert len(same) < 7
    assert [stored.config_of(record) for record in stored.trials()[: len(same)]] == [
        old.config_of(old.trials()[number]) for number in same
    ]


def test_a_trial_whose_value_is_not_in_the_new_range_is_no_point_though_the_base_has_it(
    tree: Tree, workspace: Workspace
) -> None:
    """The base's own sparsity lies outside the new range: its trial is not a point of the new space."""
    train(tree, workspace, 1)  # the configuration's own
    high = {"type": "float", "low": 0.6, "high": 0.9}
    with pytest.raises(
        StudyError, match=r"nothing to take over: 0 trials of old; left out: 1 \(outside space"
    ):
        train(
            changed(tree, {"study/name": "new", "space/mask.sparsity": high}), workspace, 0, warm_start="old"
        )
    assert "new" not in optuna.get_all_study_names(open_study("old", workspace).storage)


def test_another_configuration_is_named_by_its_key(tree: Tree, workspace: Workspace) -> None:
    train(tree, workspace, 2)
    epochs = {**tree["config"]["training"], "max_epochs": 17}
    with pytest.raises(StudyError, match=r"left out: 2 \(another config\.training\.max_epochs\)"):
        train(changed(tree, {"study/name": "new", "config/training": epochs}), workspace, 0, warm_start="old")


def test_failed_trials_are_left_out_and_pruned_ones_are_taken_by_a_study_that_prunes(
    tree: Tree, workspace: Workspace
) -> None:
    ends: dict[int, Outcome] = {
        1: Failed(reason="diverged", message="no"),
        2: Pruned(rung="pretrain/20", message="behind", metrics={}),
    }
    train(tree, workspace, 4, instead=ends.get)
    prunes = changed(tree, {"study/name": "prunes", "pruning": {"eta": 3}})
    stored, _ = train(prunes, workspace, 0, warm_start="old")
    assert taken(stored) == [0, 2, 3]
    assert stored.trials()[1].state is TrialState.PRUNED
    assert stored.study.get_trials()[1].state is optuna.trial.TrialState.PRUNED
    stored, _ = train(changed(tree, {"study/name": "whole"}), workspace, 0, warm_start="old")
    assert taken(stored) == [0, 3]
    began = warm_start_of(stored.study)
    assert began is not None
    assert began.left_out == {"failed": 1, "pruned, which this study does with none": 1}


def test_what_trials_had_at_a_rung_judges_those_of_the_new_study(tree: Tree, workspace: Workspace) -> None:
    spec = StudySpec.model_validate(changed(tree, {"pruning": {"eta": 3}}))
    stored, _ = create_study(spec, workspace, data="d")
    adapter, metrics = AskTell(stored, spec.study), ("iid/ndcg_at_20", "ood/ndcg_at_20")
    for value in (0.9, 0.8):
        asked = adapter.ask()
        assert asked is not None
        Pruner(stored, PruningConfig()).judge(asked.number, "pretrain/20", dict.fromkeys(metrics, value))
        adapter.tell(asked.number, outcome_of(stored, asked))
    new, _ = create_study(
        StudySpec.model_validate(changed(tree, {"study/name": "new", "pruning": {"eta": 3}})),
        workspace,
        data="d",
        warm_start="old",
    )
    asked = AskTell(new, spec.study).ask()
    assert asked is not None
    said = Pruner(new, PruningConfig()).judge(asked.number, "pretrain/20", dict.fromkeys(metrics, 0.1))
    assert said is not None
    assert said.startswith("2 of 2 rivals were ahead")


def test_presets_and_the_own_point_that_were_taken_over_are_not_trained_again(
    tree: Tree, workspace: Workspace
) -> None:
    tree = changed(tree, {"presets": list(PRESETS)})
    old, asked = train(tree, workspace, 6)
    assert {one.preset for one in asked} >= {"erm", "irm", "invrl"}
    stored, now = train(changed(tree, {"study/name": "new"}), workspace, 3, warm_start="old")
    assert [one.preset for one in stored.trials()[:6]] == [one.preset for one in old.trials()]
    assert {one.preset for one in now} == {None}
    assert not any(one.state is TrialState.REPEATED for one in stored.trials())
    configs = [stored.config_of(one) for one in stored.trials()]
    assert len({config.model_dump_json() for config in configs}) == 9


def test_a_preset_that_the_file_does_not_name_is_taken_over_only_as_a_point(
    tree: Tree, workspace: Workspace
) -> None:
    _, asked = train(changed(tree, {"presets": ["erm"]}), workspace, 3)
    stored, _ = train(changed(tree, {"study/name": "new"}), workspace, 0, warm_start="old")
    assert taken(stored) == [one.number for one in asked if one.preset is None]
    assert len(taken(stored)) == 2


def test_a_preset_over_another_base_configuration_is_trained_anew(tree: Tree, workspace: Workspace) -> None:
    tree = changed(tree, {"presets": ["invrl"]})
    old, _ = train(tree, workspace, 3)
    base = {**tree["config"]["mask"], "irm_weight": 7.0}
    new = changed(tree, {"study/name": "new", "config/mask": base})
    stored, asked = train(new, workspace, 1, warm_start="old")
    assert taken(stored) == [1, 2]
    for record in stored.trials()[:2]:
        assert record.taken_from is not None
        assert stored.config_of(record) == old.config_of(old.trials()[record.taken_from.trial])
    assert asked[0].preset == "invrl"


SWEPT = {"space/fusion.cold_weight": {"type": "float", "low": 0.0, "high": 1.0}}


def test_the_points_of_a_swept_trial_are_taken_over_with_their_configurations(
    tree: Tree, workspace: Workspace
) -> None:
    tree = changed(tree, SWEPT)
    old, _ = train(tree, workspace, 3)
    elsewhere = {**tree["config"].get("fusion", {}), "cold_weight": 0.25}
    for name, config in (("same", tree["config"].get("fusion", {})), ("elsewhere", elsewhere)):
        new = changed(tree, {"study/name": name, "config/fusion": config})
        stored, _ = train(new, workspace, 0, warm_start="old")
        for before, now in zip(old.trials(), stored.trials()[:3], strict=True):
            assert stored.config_of(now) == old.config_of(before)
            assert [stored.config_of(one) for one in now.points] == [
                old.config_of(one) for one in before.points
            ]
            assert [one.values for one in now.points] == [one.values for one in before.points]
        rows = front_table(stored).rows
        assert {row.name for row in rows} == {point.name for point in front_of(old.trials())}
        assert {row.taken_from and row.taken_from.study for row in rows} == {"old"}


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({}, {"space/fusion.popularity_weight": {"type": "float", "low": 0.0, "high": 0.1}}, "swept over"),
        ({}, {"sweep": False}, "swept over fusion.cold_weight, not over nothing"),
        ({"sweep": False}, {"sweep": "auto"}, "swept over nothing, not over fusion.cold_weight"),
        (
            {},
            {"space/fusion.cold_weight": {"type": "float", "low": 0.0, "high": 0.6}},
            "a point outside space.fusion.cold_weight",
        ),
    ],
)
def test_a_training_that_was_swept_otherwise_is_left_out(
    tree: Tree, workspace: Workspace, before: Tree, after: Tree, why: str
) -> None:
    tree = changed(tree, SWEPT)
    train(changed(tree, before), workspace, 2)
    with pytest.raises(StudyError, match=rf"left out: 2 \({why}"):
        train(changed(tree, {"study/name": "new", **after}), workspace, 0, warm_start="old")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        (
            {"objectives": ["iid/ndcg_at_20", "ood/recall_at_20"]},
            r"do not compare[^$]*- objectives: [^$]*\+ obj",
        ),
        ({"config/seed": 5}, r"do not compare.*\n- config\.seed: 0\n\+ config\.seed: 5"),
    ],
)
def test_a_study_of_other_objectives_or_another_seed_is_refused_with_the_difference(
    tree: Tree, workspace: Workspace, changes: Tree, rule: str
) -> None:
    train(tree, workspace, 1)
    with pytest.raises(StudyError, match=rule) as caught:
        train(changed(tree, {"study/name": "new", **changes}), workspace, 0, warm_start="old")
    assert caught.value.key == "--warm-start"


def test_a_study_of_other_data_is_refused(tree: Tree, workspace: Workspace) -> None:
    train(tree, workspace, 1)
    spec = StudySpec.model_validate(changed(tree, {"study/name": "new"}))
    with pytest.raises(StudyError, match=r"- the data \(content or split\): 'd'"):
        create_study(spec, workspace, data="others", warm_start="old")
    assert "new" not in optuna.get_all_study_names(open_study("old", workspace).storage)


def test_a_name_that_is_wrong_is_refused(tree: Tree, workspace: Workspace) -> None:
    train(tree, workspace, 1)
    new = changed(tree, {"study/name": "new"})
    with pytest.raises(StudyError, match=r"--warm-start: no such study; did you mean old\? \(found 'olt'\)"):
        train(new, workspace, 0, warm_start="olt")
    with pytest.raises(StudyError, match=r"--warm-start: the study 'old' has trials already"):
        train(tree, workspace, 0, warm_start="old")
    train(changed(tree, {"study/name": "third"}), workspace, 1)
    train(new, workspace, 0, warm_start="old")
    with pytest.raises(StudyError, match=r"the study 'new' began with trials of 'old'"):
        train(new, workspace, 0, warm_start="third")
    with pytest.raises(StudyError, match=r"the study itself"):
        train(changed(tree, {"study/name": "own"}), workspace, 0, warm_start="own")


def test_the_next_version_may_begin_with_the_one_before(tree: Tree, workspace: Workspace) -> None:
    train(changed(tree, {"space/mask.irm_weight": None}), workspace, 2)
    spec = StudySpec.model_validate(tree)
    stored, _ = create_study(spec, workspace, data="d", new_version=True, warm_start="old")
    assert (stored.name, taken(stored)) == ("old-v2", [0, 1])


@pytest.mark.slow
def test_the_same_command_takes_nothing_over_again(tree: Tree, workspace: Workspace) -> None:
    train(tree, workspace, 3)
    new = changed(tree, {"study/name": "new"})
    train(new, workspace, 2, warm_start="old")
    train(tree, workspace, 2)  # what it trains later is not taken over
    for again in ("old", None):
        stored, _ = train(new, workspace, 0, warm_start=again)
        assert taken(stored) == [0, 1, 2]
    optuna.delete_study(study_name="old", storage=stored.storage)
    for again in ("old", None):  # nothing of it is needed any more
        assert taken(train(new, workspace, 0, warm_start=again)[0]) == [0, 1, 2]


def values_of(number: int) -> UserValues:
    """What two users got of an objective; no two trials have the same."""
    return UserValues(
        users={"iid": np.array([3, 7])},
        values={"iid/ndcg_at_20": np.array([0.25 * number, 0.5], dtype=np.float32)},
        means={},
    )


@pytest.mark.slow
@pytest.mark.parametrize("option", ["old", None])
def test_a_process_that_dies_half_way_leaves_nothing_half_done(
    tree: Tree, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, option: str | None
) -> None:
    train(tree, workspace, 4)
    for number in (0, 1, 3):  # of trial 2 nothing was kept
        UserStore(workspace.users / "old").store(number, values_of(number))
    new = changed(tree, {"study/name": "new"})
    add = optuna.Study.add_trial

    def dies(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.user_attrs[Attr.TAKEN_FROM]["trial"] == 2:
            raise KeyboardInterrupt
        add(study, trial)

    monkeypatch.setattr(optuna.Study, "add_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        train(new, workspace, 0, warm_start="old")
    monkeypatch.setattr(optuna.Study, "add_trial", add)
    train(tree, workspace, 1)
    stored, asked = train(new, workspace, 1, warm_start=option)
    assert taken(stored) == [0, 1, 2, 3]
    assert asked[0].number >= 4
    users = UserStore(workspace.users / "new")
    for number in (0, 1, 3):
        mean = float(values_of(number).values["iid/ndcg_at_20"].mean())
        found = users.load(str(number), {"iid/ndcg_at_20": mean})
        assert found is not None
        assert np.array_equal(found.values["iid/ndcg_at_20"], values_of(number).values["iid/ndcg_at_20"])
    assert not (workspace.users / "new" / "2.npz").exists()


def test_a_point_of_the_file_is_asked_for_unless_the_very_point_was_taken_over(
    tree: Tree, workspace: Workspace
) -> None:
    sweep = {"type": "float", "low": 0.0, "high": 1.0}
    whole = {"mask.sparsity": 0.2, "mask.irm_weight": 2.0, "environments.count": 3, "fusion.kind": "branch"}
    begun = {**whole, "fusion.cold_weight": 0.25}
    tree = changed(tree, {"space/fusion.cold_weight": sweep, "points": [begun]})
    train(tree, workspace, 2)  # the default configuration, and that one
    part = {"fusion.cold_weight": 0.25}
    new = changed(tree, {"study/name": "new", "points": [begun, part]})
    stored, asked = train(new, workspace, 1, warm_start="old")
    assert taken(stored) == [0, 1]
    assert asked[0].point["fusion.cold_weight"] == 0.25, "the part of a point is asked for"
    assert asked[0].point["mask.sparsity"] != 0.2
    waiting = [record for record in stored.trials() if record.state is TrialState.WAITING]
    assert waiting == [], "the whole one is there"


def test_a_file_that_changed_half_way_is_refused_until_all_is_taken_over(
    tree: Tree, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = changed(tree, {"space/fusion.cold_weight": {"type": "float", "low": 0.0, "high": 1.0}})
    stored, _ = train(tree, workspace, 2)
    new = changed(tree, {"study/name": "new"})
    add = optuna.Study.add_trial

    def dies(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "add_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        train(new, workspace, 0, warm_start="old")
    monkeypatch.setattr(optuna.Study, "add_trial", add)
    with pytest.raises(StudyError, match="2 of the trials of 'old'"):
        train(changed(new, {"sweep": False}), workspace, 0)
    optuna.delete_study(study_name="old", storage=stored.storage)
    with pytest.raises(StudyError, match="'old', which is gone") as refused:
        train(new, workspace, 0)
    assert refused.value.key == "study.name"


@pytest.mark.slow
def test_what_was_taken_over_counts_for_the_choice_of_a_sampler_and_not_for_the_budget(
    tree: Tree, workspace: Workspace
) -> None:
    grid = {"fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]}}
    grid["environments.count"] = {"type": "int", "low": 2, "high": 4}
    tree = changed(tree, {"space": grid, "study/sampler": "auto", "study/trials": 6})
    train(tree, workspace, 4)
    new = changed(tree, {"study/name": "new", "study/trials": 2})
    stored, _ = train(new, workspace, 0, warm_start="old")
    spec = StudySpec.model_validate(new)
    assert SAMPLERS.get(spec.study.sampler).choice(stored, spec.study).sampler == "grid"
    adapter = AskTell(stored, spec.study)
    assert adapter.finished() == 0
    train(new, workspace, 2)
    assert (adapter.finished(), adapter.ask()) == (2, None)
    assert len({str(record.point) for record in stored.trials() if record.values is not None}) == 6
