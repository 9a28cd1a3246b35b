from __future__ import annotations

from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import apply
from painvrl.run.presets import PRESETS
from painvrl.study.file.queued import config_of_preset, queue_of
from painvrl.study.file.space import Space
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.source import job_of
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import open_study

NAMES: Any = tuple(PRESETS)
DONE = Completed(metrics={"iid/ndcg_at_20": 0.2, "ood/ndcg_at_20": 0.1})
SPARSITY = {"type": "float", "low": 0.0, "high": 0.9}


def queue(config: TrainConfig, space: dict[str, Any], points: Any = ()) -> list[tuple[str, object]]:
    queued = queue_of(config, Space.model_validate(space), NAMES, points)
    return [(one.origin, one.preset or dict(one.point)) for one in queued]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_that_the_base_is_already_is_not_queued_beside_it(
    tiny_config: TrainConfig, name: Any
) -> None:
    base = apply(tiny_config, PRESETS[name])
    others = [("preset", other) for other in NAMES if other != name]
    own = ("base", {"mask.sparsity": base.mask.sparsity})
    assert queue(base, {"mask.sparsity": SPARSITY}) == [*others, own]


def test_a_base_whose_own_point_is_not_all_of_it_stands_in_for_no_preset(tiny_config: TrainConfig) -> None:
    space = {"mask.sparsity": {**SPARSITY, "low": 0.6}, "rounds": {"type": "int", "low": 1, "high": 3}}
    assert [what for _, what in queue(tiny_config, space)] == [*NAMES, {"rounds": tiny_config.rounds}]


def test_the_order_is_presets_the_base_and_the_points_in_the_order_of_the_file(
    tiny_config: TrainConfig,
) -> None:
    own = {"mask.sparsity": tiny_config.mask.sparsity}
    points = [{"mask.sparsity": 0.9}, own, {"mask.sparsity": 0.1}]
    found = queue(tiny_config, {"mask.sparsity": SPARSITY}, points)
    assert [origin for origin, _ in found] == ["preset"] * 4 + ["base", "point", "point"]
    assert [what for _, what in found][4:] == [own, points[0], points[2]]


def test_a_preset_is_trained_with_the_fixed_hyperparameters_and_over_them_its_own(
    tiny_config: TrainConfig,
) -> None:
    space = Space.model_validate(
        {
            "mask.sparsity": {"type": "fixed", "value": 0.25},
            "mask.balancer": {"type": "fixed", "value": "mgda"},
            "rounds": {"type": "int", "low": 1, "high": 3},
        }
    )
    made = config_of_preset(tiny_config, space, "irm")
    assert (made.mask.sparsity, made.mask.balancer, made.rounds) == (0.25, "fixed", tiny_config.rounds)
    assert made == apply(tiny_config, {**PRESETS["irm"], "mask.sparsity": 0.25})


@pytest.fixture
def given(spec_tree: dict[str, Any]) -> StudySpec:
    spec_tree["presets"] = ["erm", "irm"]
    spec_tree["points"] = [{"mask.sparsity": 0.75}, {"environments.count": 3, "fusion.kind": "invariant"}]
    return StudySpec.model_validate(spec_tree)


def changed(spec: StudySpec, **update: Any) -> StudySpec:
    return spec.model_copy(update=update)


def waiting(workspace: Workspace) -> list[object]:
    records = open_study("toy", workspace).trials()
    return [record.preset or dict(record.point) for record in records if record.state is TrialState.WAITING]


def test_a_study_trains_its_queue_before_it_asks_its_sampler(given: StudySpec, workspace: Workspace) -> None:
    stored, _ = create_study(given, workspace, data="d")
    adapter = AskTell(stored, given.study)
    asked = [adapter.ask() for _ in range(6)]
    assert [one.preset for one in asked] == ["erm", "irm", None, None, None, None]
    assert asked[2].point == given.space.point_of(given.config)
    assert asked[3].point["mask.sparsity"] == 0.75
    assert (asked[4].point["environments.count"], asked[4].point["fusion.kind"]) == (3, "invariant")
    assert all(set(one.point) == set(given.space.root) for one in asked[2:]), (
        "left-out hyperparameters are sampled"
    )


def test_a_presets_trial_has_no_parameters_counts_and_knows_its_configuration(
    given: StudySpec, workspace: Workspace
) -> None:
    stored, _ = create_study(given, workspace, data="d")
    adapter = AskTell(stored, given.study)
    for _ in range(3):
        adapter.tell(adapter.ask().number, DONE)
    assert adapter.finished() == 3
    first, second, base = open_study("toy", workspace).trials()[:3]
    assert [record.preset for record in (first, second, base)] == ["erm", "irm", None]
    assert (first.state, first.point, first.values) == (TrialState.COMPLETE, {}, (0.2, 0.1))
    frozen = stored.study.get_trials()[0]
    assert (frozen.state.name, frozen.params, frozen.user_attrs["preset"]) == ("COMPLETE", {}, "erm")
    assert stored.config_of(second) == apply(given.config, PRESETS["irm"])
    assert stored.config_of(base) == given.config
    job = job_of(stored, 1, second.point, second.preset)
    assert isinstance(job, Job)
    assert (job.config, job.preset, job.point) == (stored.config_of(second), "irm", {})


@pytest.mark.slow
def test_an_interrupted_preset_comes_back_as_one_however_often(
    given: StudySpec, workspace: Workspace
) -> None:
    adapter = AskTell(create_study(given, workspace, data="d")[0], given.study)
    adapter.interrupt(adapter.ask().number)
    adapter = AskTell(open_study("toy", workspace), given.study)
    assert adapter.reap() == ()
    assert waiting(workspace)[-1] == "erm"
    for _ in range(4):
        adapter.tell(adapter.ask().number, DONE)
    for death in range(5):
        lost = adapter.ask()
        assert (lost.preset, lost.point) == ("erm", {}), death
        adapter = AskTell(open_study("toy", workspace), given.study)
        adapter.reap()
    last = open_study("toy", workspace).trials()[-1]
    assert (last.state, last.preset) == (TrialState.WAITING, "erm"), "the study's own death blames no trial"


def test_an_interrupted_preset_is_not_lost_when_the_file_leaves_it_out_meanwhile(
    given: StudySpec, workspace: Workspace
) -> None:
    adapter = AskTell(create_study(given, workspace, data="d")[0], given.study)
    adapter.interrupt(adapter.ask().number)
    adapter.reap()
    bare = changed(given, presets=())
    create_study(bare, workspace, data="d")
    assert [one for one in waiting(workspace) if isinstance(one, str)] == ["erm"], "it has begun; irm has not"
    create_study(given, workspace, data="d")
    assert [one for one in waiting(workspace) if isinstance(one, str)] == ["erm", "irm"]


def test_a_resumed_study_queues_what_is_new_and_nothing_twice(given: StudySpec, workspace: Workspace) -> None:
    adapter = AskTell(create_study(given, workspace, data="d")[0], given.study)
    for _ in range(4):
        adapter.tell(adapter.ask().number, DONE)
    create_study(given, workspace, data="d")
    assert waiting(workspace) == [given.points[1]]
    more = ({"mask.sparsity": 0.125}, *given.points)
    create_study(changed(given, presets=("painvrl", "erm", "ultragcn"), points=more), workspace, data="d")
    # The base is painvrl.
    assert waiting(workspace) == [given.points[1], "ultragcn", {"mask.sparsity": 0.125}]


def test_what_the_file_names_no_more_is_dropped_if_nobody_has_begun_it(
    given: StudySpec, workspace: Workspace
) -> None:
    adapter = AskTell(create_study(given, workspace, data="d")[0], given.study)
    adapter.tell(adapter.ask().number, DONE)
    none = changed(given, presets=(), points=())
    stored, _ = create_study(none, workspace, data="d")
    assert waiting(workspace) == [given.space.point_of(given.config)]
    AskTell(stored, none.study).reap()
    assert len(waiting(workspace)) == 1, "no one tries again what was dropped"
    assert stored.trials()[0].preset == "erm"
    create_study(given, workspace, data="d")
    assert waiting(workspace)[1:] == ["irm", *given.points]


def test_without_presets_the_first_trial_is_the_base(spec: StudySpec, workspace: Workspace) -> None:
    assert spec.presets == ()
    adapter = AskTell(create_study(spec, workspace, data="d")[0], spec.study)
    assert adapter.ask().point == spec.space.point_of(spec.config)


def test_five_presets_are_the_default(spec_tree: dict[str, Any]) -> None:
    del spec_tree["presets"]
    assert StudySpec.model_validate(spec_tree).presets == ("ultragcn", "erm", "irm", "invrl", "painvrl")
