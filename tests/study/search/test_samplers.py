from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest

from painvrl.core.rng import derive_seed
from painvrl.core.workspace import Workspace
from painvrl.engine.constraints import Constraint
from painvrl.engine.outcomes import Completed, Failed
from painvrl.run.presets import PRESETS, PresetName
from painvrl.study.file.space import Space
from painvrl.study.file.spec import StudySettings, StudySpec
from painvrl.study.front import status
from painvrl.study.search import asktell
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.auto import GP_SECONDS, GP_TRIALS, LAST_ASKS, model_for
from painvrl.study.search.history import FilteredHistorySampler, make_sampler
from painvrl.study.search.planned import Sobol, Untried
from painvrl.study.search.port import SAMPLERS, Choice
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TrialRecord, TrialState
from painvrl.study.store.storage import StoredStudy, open_study

COMPLETE = optuna.trial.TrialState.COMPLETE
Point = dict[str, Any]
GRID = {
    "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3},
    "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
}


def choose(stored: StoredStudy, given: StudySettings) -> Choice:
    return SAMPLERS.get(given.sampler).choice(stored, given)


def settings(**given: Any) -> StudySettings:
    return StudySettings(name="toy", **given)


def completed(point: Point) -> Completed:
    value = float(point.get("mask.sparsity", 0.4))
    return Completed(metrics={"iid/ndcg_at_20": 1 - value**2, "ood/ndcg_at_20": value})


def named(spec: StudySpec, name: str, **changed: Any) -> StudySpec:
    study = {key: value for key, value in changed.items() if key in StudySettings.model_fields}
    others = {key: value for key, value in changed.items() if key not in study}
    return spec.model_copy(update={"study": spec.study.model_copy(update={"name": name, **study}), **others})


def run(spec: StudySpec, workspace: Workspace, trials: int) -> list[Point]:
    """The points of a study's trials, presets left out."""
    adapter = AskTell(create_study(spec, workspace, data="d")[0], spec.study)
    points = []
    while len(points) < trials and (asked := adapter.ask()) is not None:
        adapter.tell(asked.number, completed(asked.point))
        if asked.preset is None:
            points.append(asked.point)
    return points


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tpe", optuna.samplers.TPESampler),
        ("gp", optuna.samplers.GPSampler),
        ("nsga2", optuna.samplers.NSGAIISampler),
        ("nsga3", optuna.samplers.NSGAIIISampler),
        ("random", optuna.samplers.RandomSampler),
        ("qmc", Sobol),
        ("grid", Untried),
    ],
)
def test_the_named_sampler_is_used(name: Any, kind: type, spec: StudySpec, workspace: Workspace) -> None:
    given = named(spec, "toy", space=Space.model_validate(GRID))
    sampler = make_sampler(name, settings(), 0, stored=create_study(given, workspace, data="d")[0])
    assert type(sampler.inner if isinstance(sampler, FilteredHistorySampler) else sampler) is kind


def test_a_seed_gives_its_points_and_another_gives_others(spec: StudySpec, workspace: Workspace) -> None:
    stored, _ = create_study(spec, workspace, data="d")

    def draw(seed: int, before: int) -> float:
        sampler = make_sampler("random", settings(seed=seed), before, stored=stored)
        return optuna.create_study(sampler=sampler).ask().suggest_float("x", 0, 1)

    assert draw(0, 3) == draw(0, 3)
    assert len({draw(0, 3), draw(0, 4), draw(1, 3)}) == 3


@pytest.mark.parametrize(
    "sampler", ["tpe", "nsga2", "nsga3", "random", "qmc", pytest.param("gp", marks=pytest.mark.slow)]
)
def test_trials_of_presets_leave_the_points_of_the_others_as_they_are(
    spec: StudySpec, workspace: Workspace, sampler: str
) -> None:
    bare = run(named(spec, "bare", sampler=sampler, presets=()), workspace, 7)
    full = run(named(spec, "full", sampler=sampler, presets=tuple(PRESETS)), workspace, 7)
    assert sum(record.preset is not None for record in open_study("full", workspace).trials()) == 4
    assert bare == full
    assert len({str(point) for point in bare}) == 7


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_sampler_learns_in_the_whole_space_in_spite_of_presets(
    spec: StudySpec, workspace: Workspace, sampler: str
) -> None:
    one = named(spec, "one", sampler=sampler, presets=tuple(PRESETS), objectives=("ood/ndcg_at_20",))
    run(one, workspace, 3)
    stored = open_study("one", workspace)
    study = stored.study
    trial = study.get_trials()[-1]

    def made() -> Any:  # each remembers what it has seen
        return make_sampler(sampler, one.study, 3, stored=stored)

    assert set(made().infer_relative_search_space(study, trial)) == set(spec.space.root)
    assert made().inner.infer_relative_search_space(study, trial) == {}, "what an empty trial would do"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "nsga3"])
def test_samplers_see_all_trials_under_the_constraints_of_now(
    spec: StudySpec, workspace: Workspace, sampler: Any
) -> None:
    def bounded(**bounds: float) -> StoredStudy:
        constraints = tuple(
            Constraint.model_validate({"metric": "ood/ndcg_at_20", side: bound})
            for side, bound in bounds.items()
        )
        given = named(spec, "toy", sampler=sampler, constraints=constraints, startup_trials=9)
        return create_study(given, workspace, data="d")[0]

    def reported(stored: StoredStudy, outcome: Any) -> None:
        adapter = AskTell(stored, spec.study)
        adapter.tell(adapter.ask().number, outcome)

    def seen(stored: StoredStudy) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        made = make_sampler(sampler, spec.study, 3, stored=stored)
        assert isinstance(made, FilteredHistorySampler)

        class Looks(optuna.samplers.RandomSampler):
            def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
                found.extend(each.constraints for each in study.get_trials(states=[COMPLETE]))

        made.inner = Looks()
        made.before_trial(stored.study, stored.study.trials[0])
        return found

    reported(bounded(min=0.3), completed({"mask.sparsity": 0.2}))
    reported(bounded(min=0.3), Failed(reason="diverged", message="no"))
    reported(bounded(), completed({"mask.sparsity": 0.5}))
    assert [list(one) for one in seen(bounded(max=0.4, min=0.4))] == [
        ["untrained", "ood/ndcg_at_20/max", "ood/ndcg_at_20/min"]
    ] * 3
    assert [one["untrained"] for one in seen(bounded())] == [-1.0, 1.0, -1.0]
    assert [list(one) for one in seen(bounded())] == [["untrained"]] * 3, "a bound that went is forgotten"
    assert [one["ood/ndcg_at_20/min"] for one in seen(bounded(min=0.4))] == pytest.approx([0.2, 0.0, -0.1])
    assert [one["ood/ndcg_at_20/max"] for one in seen(bounded(max=0.4))] == pytest.approx([-0.2, 0.0, 0.1])


def test_presets_under_way_are_not_counted_either(spec: StudySpec, workspace: Workspace) -> None:
    def points(name: str, presets: tuple[str, ...]) -> list[Point]:
        given = named(spec, name, sampler="random", presets=presets)
        adapter = AskTell(create_study(given, workspace, data="d")[0], given.study)
        asked: list[Any] = []
        while len([one for one in asked if one.preset is None]) < 3:
            asked.append(adapter.ask())
        return [one.point for one in asked if one.preset is None]

    assert points("bare", ()) == points("full", ("erm", "irm"))


def test_a_grid_ends_when_every_point_has_been_tried_once(spec: StudySpec, workspace: Workspace) -> None:
    given = named(spec, "grid", sampler="grid", space=Space.model_validate(GRID), trials=99)
    points = run(given, workspace, 99)
    assert points[0]["fusion.kind"] == "branch", "the base's; its sparsity 0.5 is no step, so the grid has it"
    assert len(points) == 8
    keys = {(round(point["mask.sparsity"], 6), point["fusion.kind"]) for point in points}
    assert len(keys) == 8


def test_the_bases_own_point_is_not_tried_again_by_the_grid(spec: StudySpec, workspace: Workspace) -> None:
    mask = spec.config.mask.model_copy(update={"sparsity": 0.3})
    config = spec.config.model_copy(update={"mask": mask})
    given = named(spec, "grid", sampler="grid", space=Space.model_validate(GRID), config=config)
    points = run(given, workspace, 99)
    assert points[0] == {"mask.sparsity": 0.3, "fusion.kind": "branch"}
    assert len({str(point) for point in points}) == len(points) == 8


@pytest.mark.parametrize("left", [0.0, 0.3, 0.6, 0.9])
def test_a_point_that_leaves_a_hyperparameter_out_gets_what_the_grid_has_left(
    spec: StudySpec, workspace: Workspace, left: float
) -> None:
    taken = [value for value in (0.0, 0.3, 0.6, 0.9) if value != left]
    points = tuple({"mask.sparsity": value, "fusion.kind": "invariant"} for value in taken)
    queued = (*points, {"fusion.kind": "invariant"})
    given = named(spec, "grid", sampler="grid", space=Space.model_validate(GRID), points=queued)
    last = run(given, workspace, 5)[-1]
    assert (round(last["mask.sparsity"], 6), last["fusion.kind"]) == (left, "invariant")


def test_an_interrupted_point_of_the_grid_is_tried_again_and_is_not_lost(
    spec: StudySpec, workspace: Workspace
) -> None:
    given = named(spec, "grid", sampler="grid", space=Space.model_validate(GRID))
    adapter = AskTell(create_study(given, workspace, data="d")[0], given.study)
    adapter.tell(adapter.ask().number, completed({}))
    lost = adapter.ask()
    adapter.interrupt(lost.number)
    adapter.reap()
    assert adapter.ask().point == lost.point


@pytest.mark.slow
def test_qmc_fills_every_half_of_every_hyperparameter_evenly(spec: StudySpec, workspace: Workspace) -> None:
    given = named(spec, "qmc", sampler="qmc", presets=())
    points = run(given, workspace, 33)[1:]  # without the base's
    low = sum(point["mask.sparsity"] < 0.45 for point in points)
    small = sum(point["mask.irm_weight"] < 10**0.5 for point in points)
    kinds = sum(point["fusion.kind"] == "branch" for point in points)
    assert all(14 <= count <= 18 for count in (low, small, kinds)), (low, small, kinds)
    assert {point["environments.count"] for point in points} == set(range(2, 9))


def test_a_repeat_takes_its_place_in_the_sequence(
    spec: StudySpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asktell, "MAX_REPEATS", 99)
    space = {"environments.count": {"type": "int", "low": 2, "high": 4}, "fusion.kind": GRID["fusion.kind"]}
    given = named(spec, "qmc", sampler="qmc", space=Space.model_validate(space), seed=3)
    stored, _ = create_study(given, workspace, data="d")
    adapter = AskTell(stored, given.study)
    while (asked := adapter.ask()) is not None:
        adapter.tell(asked.number, completed(asked.point))
    found = [record.point for record in stored.trials()]
    seed = derive_seed(3, "qmc") % 2**32
    sequence = [Sobol(given.space, given.config, seed=seed, place=place) for place in range(1, len(found))]
    trial = stored.study.trials[0]
    assert found[1:] == [one.sample_relative(stored.study, trial, {}) for one in sequence]
    assert len(found) > adapter.finished() == 6


def test_qmc_searches_a_conditional_hyperparameter_where_its_condition_holds(
    spec_tree: dict[str, Any], workspace: Workspace
) -> None:
    spec_tree["space"]["mask.irm_weight"]["when"] = {"fusion.kind": "branch"}
    given = named(StudySpec.model_validate(spec_tree), "qmc", sampler="qmc")
    points = run(given, workspace, 12)
    assert {("mask.irm_weight" in point, point["fusion.kind"]) for point in points} == {
        (True, "branch"),
        (False, "invariant"),
    }


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets every finished trial have taken so many seconds; presets take long, what fails takes none."""
    records = StoredStudy.trials

    def set_seconds(seconds: float) -> None:
        def of(record: TrialRecord) -> float:
            if record.preset is not None:
                return 1e6
            return 0.0 if record.state is TrialState.FAILED else seconds

        def trials(self: StoredStudy) -> tuple[TrialRecord, ...]:
            return tuple(replace(record, seconds=of(record)) for record in records(self))

        monkeypatch.setattr(StoredStudy, "trials", trials)

    return set_seconds


@pytest.mark.slow
def test_auto_is_random_for_the_start_up_and_then_decides_for_good(
    spec: StudySpec, workspace: Workspace, timed: Any
) -> None:
    given = named(spec, "auto", sampler="auto", presets=("erm",), startup_trials=3)
    stored, _ = create_study(given, workspace, data="d")
    timed(45.0)
    adapter = AskTell(stored, given.study)
    for finished in range(4):
        choice = choose(stored, given.study)
        assert (choice.sampler, "start-up" in choice.reason) == ("random", True), finished
        asked = adapter.ask()
        adapter.tell(asked.number, completed(asked.point))
    decided = choose(stored, given.study)
    assert decided.sampler == "gp"
    assert decided.reason.startswith("auto: 4 trials of 45.0 s (median)")
    timed(1.0)  # whatever happens later, and whoever looks
    again = open_study("auto", workspace)
    assert choose(again, given.study) == decided
    assert choose(again, given.study.model_copy(update={"trials": 900})) == decided
    assert choose(again, given.study.model_copy(update={"sampler": "qmc"})).sampler == "qmc"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training_seconds", "ask_seconds", "workers", "sampler", "then"),
    [
        (20.0, 9.0, 1, "tpe", "tpe"),
        (20.0, 11.0, 1, "tpe", "random"),  # more than half of what a training takes
        (20.0, 0.9, 16, "tpe", "random"),  # sixteen workers would queue for points
        (0.5, 9.0, 1, "tpe", "tpe"),  # too short to matter
        (45.0, 2.5, 1, "gp", "tpe"),  # more than 5% of the workers' time
    ],
)
def test_auto_takes_a_cheaper_sampler_once_asks_are_too_dear(
    spec: StudySpec,
    workspace: Workspace,
    timed: Any,
    training_seconds: float,
    ask_seconds: float,
    workers: int,
    sampler: str,
    then: str,
) -> None:
    given = named(spec, "auto", sampler="auto", startup_trials=2)
    stored, _ = create_study(given, workspace, data="d")
    timed(training_seconds)
    seconds = itertools.count(0.0, ask_seconds)
    adapter = AskTell(stored, given.study, clock=lambda: next(seconds))
    for _ in range(2):
        asked = adapter.ask()
        adapter.tell(asked.number, completed(asked.point))
    assert choose(stored, given.study).sampler == sampler
    for _ in range(workers - 1):
        adapter.ask()
    for _ in range(LAST_ASKS):
        asked = adapter.ask()
        adapter.tell(asked.number, completed(asked.point))
        adapter.tell(adapter.ask().number, Failed(reason="refused", message="no"))  # says nothing of time
    decided = choose(stored, given.study)
    assert decided.sampler == then
    if then != sampler:
        shown = f"asks of {sampler} took {ask_seconds:g} s, trainings {training_seconds:g} s on "
        assert shown in decided.reason
        timed(1000.0)  # for good
        assert choose(open_study("auto", workspace), given.study) == decided


def test_auto_waits_for_a_trial_that_completes(spec: StudySpec, workspace: Workspace) -> None:
    given = named(spec, "auto", sampler="auto")
    stored, _ = create_study(given, workspace, data="d")
    adapter = AskTell(stored, given.study)
    for _ in range(3):
        adapter.tell(adapter.ask().number, Failed(reason="diverged", message="no"))
    assert choose(stored, given.study).sampler == "random"
    asked = adapter.ask()
    adapter.tell(asked.number, completed(asked.point))
    assert choose(stored, given.study).sampler == "tpe"


def test_auto_takes_the_grid_at_once_if_the_budget_is_enough_for_all_of_it(
    spec: StudySpec, workspace: Workspace
) -> None:
    presets: tuple[PresetName, ...]
    for presets, budget, sampler in (
        ((), 8, "grid"),
        ((), 7, "random"),
        (("erm", "ultragcn"), 10, "grid"),
        (("erm", "ultragcn"), 9, "random"),
    ):
        name = f"auto-{len(presets)}-{budget}"
        given = named(spec, name, sampler="auto", space=Space.model_validate(GRID), trials=budget)
        stored, _ = create_study(given.model_copy(update={"presets": presets}), workspace, data="d")
        assert choose(stored, given.study).sampler == sampler


@pytest.mark.parametrize(
    ("budget", "seconds", "sampler"),
    [
        (GP_TRIALS, GP_SECONDS, "gp"),
        (GP_TRIALS + 1, GP_SECONDS, "tpe"),
        (GP_TRIALS, GP_SECONDS - 0.1, "tpe"),
    ],
)
def test_a_gaussian_process_is_for_few_and_long_trials(
    spec: StudySpec, budget: int, seconds: float, sampler: str
) -> None:
    assert model_for(spec.space, spec.config, budget, seconds).sampler == sampler


def test_a_gaussian_process_is_not_for_conditions(spec_tree: dict[str, Any]) -> None:
    spec_tree["space"]["mask.irm_weight"]["when"] = {"fusion.kind": "branch"}
    spec = StudySpec.model_validate(spec_tree)
    choice = model_for(spec.space, spec.config, 10, 1000.0)
    assert choice.sampler == "tpe"
    assert "space.mask.irm_weight" in choice.reason


def test_the_status_says_which_sampler_it_is_and_why(spec: StudySpec, workspace: Workspace) -> None:
    given = named(spec, "auto", sampler="auto", startup_trials=2)
    run(given, workspace, 3)
    now = status(open_study("auto", workspace))
    assert now.sampler == "tpe"
    assert str(now.sampler_reason).startswith("auto: ")
