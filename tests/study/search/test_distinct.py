"""No configuration is trained twice, whoever asks for it."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import optuna
import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned
from painvrl.study.file.spec import StudySpec
from painvrl.study.front import status
from painvrl.study.search import asktell, planned
from painvrl.study.search.asktell import MAX_DEATHS, MAX_REPEATS, AskTell
from painvrl.study.search.source import SPACE_TRIED
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import FINISHED, TrialState
from painvrl.study.store.storage import Attr, StoredStudy, open_study

GP = pytest.param("gp", marks=pytest.mark.slow)
SAMPLERS = ["auto", "tpe", GP, "nsga2", "nsga3", "random", "qmc", "grid"]
KIND = {"type": "categorical", "choices": ["branch", "invariant"]}
COUNT = {"type": "int", "low": 2, "high": 4}
WEIGHT = {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3}
SPACES: dict[str, tuple[int, dict[str, Any]]] = {
    "four": (4, {"mask.sparsity": WEIGHT}),
    "six": (6, {"environments.count": COUNT, "fusion.kind": KIND}),
    "conditional": (
        4,
        {"fusion.kind": KIND, "environments.count": {**COUNT, "when": {"fusion.kind": "branch"}}},
    ),
}


def spec_of(tree: dict[str, Any], space: dict[str, Any], sampler: str, **changed: Any) -> StudySpec:
    return StudySpec.model_validate(
        {**tree, "study": {**tree["study"], "sampler": sampler}, "space": space, **changed}
    )


def outcome_of(point: dict[str, Any]) -> Completed:
    value = float(point.get("mask.sparsity", 0.4)) + point.get("environments.count", 0) / 10
    return Completed(metrics={"iid/ndcg_at_20": 2 - value, "ood/ndcg_at_20": value})


def trained_configs(stored: StoredStudy) -> list[str]:
    """Of every finished trial what it trained."""
    return [
        stored.config_of(record).model_dump_json() for record in stored.trials() if record.state in FINISHED
    ]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", SPACES)
def test_every_point_of_a_small_space_is_trained_once(
    spec_tree: dict[str, Any], workspace: Workspace, name: str, sampler: str
) -> None:
    size, space = SPACES[name]
    if name == "conditional" and sampler in {"gp", "grid"}:
        return  # refused
    spec = spec_of(spec_tree, space, sampler)
    assert (spec.space.point_of(spec.config) == {}) is (name == "four")  # whose base lies outside
    for wanted in (size - 1, 99):  # and continues
        stored = create_study(spec, workspace, data="d")[0]
        adapter = AskTell(stored, spec.study)
        while adapter.finished() < wanted and (asked := adapter.ask()) is not None:
            adapter.tell(asked.number, outcome_of(asked.point))
        assert len(trained_configs(stored)) == len(set(trained_configs(stored))) == min(wanted, size)
    trials = len(stored.study.trials)
    assert AskTell(create_study(spec, workspace, data="d")[0], spec.study).ask() is None
    assert len(stored.study.trials) == trials, "it ends at once"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "auto"])
def test_a_study_whose_space_is_used_up_says_so_as_often_as_it_is_called(
    go: Any, formula: Any, diary: Any, spec_tree: dict[str, Any], sampler: str
) -> None:
    spec = spec_of(spec_tree, SPACES["six"][1], sampler)
    for _ in range(2):
        summary = go(spec, formula, trials=99, diary=diary)
        assert (summary.ended_by, summary.status.finished, len(formula.jobs)) == (SPACE_TRIED, 6, 6)
    assert (
        len([event for event in diary.events if event[0] == "start"]) == 6
    )  # the tracker is called on no repeat
    assert go(spec, formula, trials=6).ended_by is None
    numbers = [row.trial for row in (*summary.front.rows, *summary.front.dominated)]
    assert len(numbers) == len({str(point) for point in formula.points()}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_several_workers_train_no_point_twice_either(
    spec_tree: dict[str, Any], workspace: Workspace, sampler: str
) -> None:
    spec = spec_of(spec_tree, SPACES["six"][1], sampler)
    stored = create_study(spec, workspace, data="d")[0]
    adapter, under_way = AskTell(stored, spec.study), list[asktell.Asked]()
    for _ in range(9):
        while len(under_way) < 2 and (asked := adapter.ask()) is not None:
            under_way.append(asked)
        if not under_way:
            break
        ended = under_way.pop()
        adapter.tell(ended.number, outcome_of(ended.point))
    assert len(trained_configs(stored)) == len(set(trained_configs(stored))) == 6


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "qmc", "grid"])
def test_a_study_that_repeats_points_and_stops_anywhere_tries_those_of_one_that_does_not_stop(
    spec_tree: dict[str, Any], workspace: Workspace, sampler: str
) -> None:
    def points(name: str, stops: set[int]) -> list[dict[str, Any]]:
        tree = {**spec_tree, "study": {**spec_tree["study"], "name": name}}
        spec = spec_of(tree, SPACES["six"][1], sampler)
        adapter = AskTell(create_study(spec, workspace, data="d")[0], spec.study)
        tried = []
        while (asked := adapter.ask()) is not None:
            if (finished := adapter.finished()) in stops:
                stops.remove(finished)
                if finished % 2:
                    adapter.interrupt(asked.number)
                adapter = AskTell(open_study(name, workspace), spec.study)
                adapter.reap()
                continue
            tried.append(asked.point)
            adapter.tell(asked.number, outcome_of(asked.point))
        return tried

    straight = points("straight", set())
    assert points("stopped", {0, 1, 3, 4, 5}) == straight
    assert len(straight) == 6


class Stubborn(optuna.samplers.RandomSampler):
    """Wants one point."""

    asked = 0

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        return {"fusion.kind": optuna.distributions.CategoricalDistribution(tuple(KIND["choices"]))}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        Stubborn.asked += 1
        return {"fusion.kind": "branch"}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return distribution.low


@pytest.mark.slow
@pytest.mark.parametrize("listed", [True, False])
def test_a_sampler_that_asks_for_one_point_is_asked_so_often_and_then_one_of_the_others_is_drawn(
    spec_tree: dict[str, Any], workspace: Workspace, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    spec = spec_of(spec_tree, SPACES["six"][1], "random")
    monkeypatch.setattr(asktell, "make_sampler", lambda *_, **__: Stubborn())
    monkeypatch.setattr(Stubborn, "asked", 0)
    if not listed:
        monkeypatch.setattr(planned, "MAX_GRID", 5)
    stored = create_study(spec, workspace, data="d")[0]
    adapter = AskTell(stored, spec.study)
    while (asked := adapter.ask()) is not None:
        adapter.tell(asked.number, outcome_of(asked.point))
    records = stored.trials()
    assert len(set(trained_configs(stored))) == 6
    repeated = [record for record in records if record.state is TrialState.REPEATED]
    # The default configuration, which is queued, is the one that the sampler wants; the other five are drawn.
    assert len(repeated) == 5 * MAX_REPEATS
    assert {record.repeats for record in repeated} == {0}
    assert status(stored).counts["repeated"] == len(repeated)
    assert Stubborn.asked == 5 * MAX_REPEATS
    assert [trial.state.name for trial in stored.study.trials].count("FAIL") == len(repeated)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, 3, 5, 8])
def test_a_process_that_dies_in_the_middle_of_an_ask_changes_no_point(
    spec_tree: dict[str, Any], workspace: Workspace, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    spec = spec_of(spec_tree, SPACES["six"][1], "random")
    monkeypatch.setattr(asktell, "make_sampler", lambda *_, **__: Stubborn())
    note, repeats = StoredStudy.note, itertools.count(1)

    def noted(stored: StoredStudy, number: int, name: str, value: object) -> None:
        if name == Attr.REPEATS and stored.name == "killed" and next(repeats) == killed:
            raise SystemExit
        note(stored, number, name, value)

    monkeypatch.setattr(StoredStudy, "note", noted)

    def points(name: str) -> list[dict[str, Any]]:
        named = spec.model_copy(update={"study": spec.study.model_copy(update={"name": name})})
        tried: list[dict[str, Any]] = []
        while len(tried) < 6:
            adapter = AskTell(create_study(named, workspace, data="d")[0], named.study)
            adapter.reap()
            with contextlib.suppress(SystemExit):
                while (asked := adapter.ask()) is not None:
                    tried.append(asked.point)
                    adapter.tell(asked.number, outcome_of(asked.point))
        return tried

    assert points("killed") == points("straight")
    assert next(repeats) > killed


@pytest.mark.slow
def test_a_space_that_is_continuous_in_part_is_never_used_up(
    spec_tree: dict[str, Any], workspace: Workspace
) -> None:
    space = {
        "fusion.kind": KIND,
        "mask.irm_weight": {"type": "float", "low": 1.0, "high": 9.0, "when": {"fusion.kind": "invariant"}},
    }
    spec = spec_of(spec_tree, space, "random")
    stored = create_study(spec, workspace, data="d")[0]
    adapter = AskTell(stored, spec.study)
    for _ in range(12):
        asked = adapter.ask()
        assert asked is not None
        adapter.tell(asked.number, outcome_of(asked.point))
    assert len(set(trained_configs(stored))) == 12


@pytest.mark.slow
def test_a_preset_and_a_point_that_train_the_same_are_trained_once(
    go: Any, formula: Any, spec_tree: dict[str, Any], workspace: Workspace
) -> None:
    space = {
        "mask.source": {"type": "categorical", "choices": ["ones", "learned"]},
        "fusion.kind": KIND,
    }
    for sampler in ("tpe", "grid"):
        tree = {**spec_tree, "study": {**spec_tree["study"], "name": sampler}}
        same = {"mask.source": "ones", "fusion.kind": "invariant"}
        spec = spec_of(tree, space, sampler, presets=["ultragcn"], points=[same])
        jobs = len(formula.jobs)
        summary = go(spec, formula, trials=99)
        assert summary.ended_by == SPACE_TRIED
        assert len(formula.jobs) - jobs == summary.status.finished == 4
        assert [row.preset for row in (*summary.front.rows, *summary.front.dominated)].count("ultragcn") == 1
        stored = open_study(sampler, workspace)
        assert len(set(trained_configs(stored))) == 4
        queued = next(record for record in stored.trials() if record.state is TrialState.REPEATED)
        assert (queued.point, queued.repeats) == (same, 0)


@pytest.mark.slow
def test_a_preset_that_a_resumed_study_adds_is_reported_by_the_trial_that_it_repeats(
    go: Any, formula: Any, spec_tree: dict[str, Any]
) -> None:
    space = {
        "mask.source": {"type": "categorical", "choices": ["ones", "learned"]},
        "fusion.kind": KIND,
    }
    spec = spec_of(spec_tree, space, "grid")
    go(spec, formula, trials=99)
    same = next(
        job
        for job in formula.jobs
        if (job.config.mask.source, job.config.fusion.kind) == ("ones", "invariant")
    )
    summary = go(spec.model_copy(update={"presets": ("ultragcn",)}), formula, trials=99)
    assert len(formula.jobs) == 4
    assert summary.status.trained_as == {"ultragcn": same.number}
    assert go(spec.model_copy(update={"presets": ("ultragcn",)}), formula).status.counts["repeated"] == 1


@pytest.mark.slow
def test_one_step_in_two_spellings_is_one_point(go: Any, formula: Any, spec_tree: dict[str, Any]) -> None:
    assert 3 * 0.3 != 0.9
    assert 0.1 + 2 * 0.1 != 0.3
    space = {"mask.sparsity": {"type": "float", "low": 0.1, "high": 0.9, "step": 0.1}}
    points = [{"mask.sparsity": value / 10} for value in range(1, 10)]
    go(spec_of(spec_tree, space, "random", points=points), formula, trials=99)
    assert len(formula.jobs) == 9


FAILED = Failed(reason="diverged", message="no")
PRUNED = Pruned(rung="pretrain/2", message="others were ahead", metrics={})
OUT_OF_MEMORY = Failed(reason="out_of_memory", message="no")
BUG = Failed(reason="unexpected", message="a bug")


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
@pytest.mark.parametrize("outcome", [FAILED, PRUNED, OUT_OF_MEMORY, BUG])
def test_what_failed_or_was_pruned_is_not_trained_again(
    spec_tree: dict[str, Any], workspace: Workspace, sampler: str, outcome: Outcome
) -> None:
    spec = spec_of(spec_tree, SPACES["four"][1], sampler)
    stored = create_study(spec, workspace, data="d")[0]
    adapter = AskTell(stored, spec.study)
    for place in itertools.count():
        if (asked := adapter.ask()) is None:
            break
        adapter.tell(asked.number, outcome if place % 2 else outcome_of(asked.point))
    assert len(trained_configs(stored)) == len(set(trained_configs(stored))) == 4


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_point_that_was_stopped_before_its_end_is_trained_again(
    spec_tree: dict[str, Any], workspace: Workspace, how: str
) -> None:
    spec = spec_of(spec_tree, SPACES["four"][1], "tpe")
    stored = create_study(spec, workspace, data="d")[0]
    adapter = AskTell(stored, spec.study)
    first = adapter.ask()
    assert first is not None
    for _ in range(MAX_DEATHS - 1):
        lost = adapter.ask()
        assert lost is not None
        if how == "interrupted":
            adapter.interrupt(lost.number)
        adapter.tell(first.number, outcome_of(first.point)) if adapter.finished() == 0 else None
        adapter = AskTell(open_study("toy", workspace), spec.study)
        adapter.reap()
    again = adapter.ask()
    assert again is not None
    assert again.point == lost.point


def test_a_process_that_dies_before_it_ends_a_repeat_leaves_one(
    spec_tree: dict[str, Any], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(spec_tree, SPACES["four"][1], "random")
    stored = create_study(spec, workspace, data="d")[0]
    adapter = AskTell(stored, spec.study)
    done = adapter.ask()
    assert done is not None
    adapter.tell(done.number, outcome_of(done.point))
    stored.study.enqueue_trial(done.point)

    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(AskTell, "_fail", dies)
        with pytest.raises(SystemExit):
            adapter.ask()
    adapter = AskTell(open_study("toy", workspace), spec.study)
    adapter.reap()
    last = open_study("toy", workspace).trials()[-1]
    assert (last.state, last.repeats, last.point) == (TrialState.REPEATED, done.number, done.point)
