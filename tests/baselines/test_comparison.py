from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from painvrl.baselines import comparison
from painvrl.baselines.comparison import choose, compare
from painvrl.baselines.offsets import GRID, measured_under_offsets
from painvrl.baselines.popularity import POPULARITY
from painvrl.baselines.port import Baseline, Inputs
from painvrl.baselines.registry import BASELINES
from painvrl.baselines.results import IID, OOD, BaselineReport, ComparisonReport, PairedComparison
from painvrl.baselines.ridge import RIDGE, RidgeConfig, ridge
from painvrl.core.errors import ConfigError, Diverged
from painvrl.core.workspace import Workspace
from painvrl.data.guard import GuardedParts
from painvrl.engine.events import Progress, TrialStarted
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed, Outcome
from painvrl.evaluation.ranking import evaluate_scorer
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared, prepare
from painvrl.study.file.space import Space
from painvrl.study.tracking.port import FinishedTrial, NullTracker, Opened, Status, StudyHeader

CPU = torch.device("cpu")


def compared(
    config: TrainConfig, *baselines: Baseline[Any], seeds: int = 1, trials: int = 2, cache: Path
) -> ComparisonReport:
    return compare(config, baselines, Workspace(cache), CPU, seeds=seeds, trials=trials)


def only(report: ComparisonReport) -> BaselineReport:
    (one,) = report.baselines
    return one


def test_every_seed_is_its_own_split_scored_by_the_one_ranking(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    found = only(compared(tiny_config, RIDGE, seeds=2, trials=3, cache=tmp_path))
    assert found.trials == 3
    plain = [point for point in found.points if point.place == 0]
    assert [point.name for point in plain] == ["0.0", "1.0", "2.0"]
    for point in plain:
        assert [run.seed for run in point.runs] == [0, 1]
        for run in point.runs:
            seeded = tiny_config.model_copy(update={"seed": run.seed})
            prepared = prepare(seeded, cache_dir=Workspace(tmp_path).cache, device=CPU)
            scorer = ridge(Inputs(seeded, prepared))(RidgeConfig.model_validate(point.settings))
            assert run.metrics == evaluate_scorer(prepared.valid_plan, scorer)
    assert plain[0].runs[0].metrics != plain[0].runs[1].metrics


def test_every_method_has_the_same_offsets_under_every_seed(tiny_config: TrainConfig, tmp_path: Path) -> None:
    report = compare(tiny_config, [RIDGE, POPULARITY], Workspace(tmp_path), CPU, seeds=2, trials=2, own=True)
    assert [one.trials for one in report.baselines] == [1, 2, 1]
    for one in report.baselines:
        offsets = [point.offset for point in one.points]
        assert offsets == list(GRID) * one.trials
        assert [point.place for point in one.points] == list(range(len(GRID))) * one.trials
    for point in report.baselines[1].points:
        for run in point.runs:
            seeded = tiny_config.model_copy(update={"seed": run.seed})
            prepared = prepare(seeded, cache_dir=Workspace(tmp_path).cache, device=CPU)
            scorer = ridge(Inputs(seeded, prepared))(RidgeConfig.model_validate(point.settings))
            degree = Inputs(seeded, prepared).item_degree
            ((metrics, _),) = measured_under_offsets(prepared.valid_plan, scorer, degree, (), [point.offset])
            assert run.metrics == metrics


def test_seeds_count_from_the_configurations(tiny_config: TrainConfig, tmp_path: Path) -> None:
    config = tiny_config.model_copy(update={"seed": 5})
    report = compared(config, POPULARITY, seeds=2, cache=tmp_path)
    assert report.seeds == (5, 6)
    assert [run.seed for run in only(report).points[0].runs] == [5, 6]


def test_what_all_settings_share_is_done_once_a_split(tiny_config: TrainConfig, tmp_path: Path) -> None:
    started = []

    def counted(inputs: Inputs) -> Any:
        started.append(inputs.config.seed)
        return ridge(inputs)

    compared(tiny_config, replace(RIDGE, start=counted), seeds=2, trials=5, cache=tmp_path)
    assert started == [0, 1]


def test_the_cut_off_of_the_table_is_measured_whatever_the_file_says(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    evaluation = tiny_config.evaluation.model_copy(update={"ks": (5, 50)})
    config = tiny_config.model_copy(update={"evaluation": evaluation})
    metrics = only(compared(config, POPULARITY, cache=tmp_path)).points[0].runs[0].metrics
    assert {name.rpartition("_")[2] for name in metrics} == {"5", "20", "50"}


def test_the_test_parts_stay_sealed(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedParts, "open", lambda *_, **__: pytest.fail("the seal is broken"))
    report = compared(tiny_config, *BASELINES.entries().values(), trials=1, cache=tmp_path)
    assert all(point.complete for one in report.baselines for point in one.points)
    names = {name for one in report.baselines for point in one.points for name in point.runs[0].metrics}
    assert {name.partition("/")[0] for name in names} == {"iid", "ood"}


@pytest.mark.parametrize(
    "baseline",
    [one for one in BASELINES.entries().values() if one.name != "ultragcn-offset"],
    ids=lambda one: one.name,
)
def test_a_baseline_learns_from_the_training_part_and_the_features_alone(
    baseline: Baseline[Any], tiny_config: TrainConfig, tiny_prepared: Prepared, table: Any
) -> None:
    # Our backbone stops early by the valid parts, as our own runs do.
    if baseline.missing():
        pytest.skip("needs the extra")
    blind = replace(tiny_prepared, split=None, dataset=None, valid_plan=None)  # type: ignore[arg-type]
    inputs = Inputs(tiny_config, blind)
    scores = table(baseline.start(inputs)(baseline.settings()), inputs)
    assert scores.shape == (60, 80)
    assert bool(torch.isfinite(scores).all())
    seen = table(baseline.start(Inputs(tiny_config, tiny_prepared))(baseline.settings()), inputs)
    assert torch.equal(scores, seen)


def test_a_setting_that_fails_is_reported_and_the_others_go_on(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    def brittle(inputs: Inputs) -> Any:
        def fit(config: RidgeConfig) -> Any:
            if config == RidgeConfig():
                raise Diverged("too much")
            return ridge(inputs)(config)

        return fit

    found = only(compared(tiny_config, replace(RIDGE, start=brittle), trials=3, cache=tmp_path))
    assert [point.runs[0].failure for point in found.points] == [
        failure for failure in ("too much", None, None) for _ in GRID
    ]
    best = found.best(IID)
    assert best is not None
    assert best.trial in {1, 2}


def test_what_cannot_start_fails_with_every_setting(tiny_config: TrainConfig, tmp_path: Path) -> None:
    def never(inputs: Inputs) -> Any:
        raise Diverged("no start")

    found = compared(tiny_config, replace(RIDGE, start=never), POPULARITY, trials=2, cache=tmp_path)
    assert {point.runs[0].failure for point in found.baselines[0].points} == {"no start"}
    assert found.baselines[1].points[0].complete


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), None])
@pytest.mark.parametrize("when", ["starting", "fitting", "ranking"])
def test_a_setting_that_is_too_large_for_the_memory_is_a_failed_trial(
    when: str, error: Exception | None, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    def fill() -> None:
        if error is not None:
            raise error
        torch.empty(2**50)  # what torch says where it is the machine's memory

    class Large:
        def among(self, candidates: Any) -> Any:
            fill()

    def large(inputs: Inputs) -> Any:
        def fit(config: RidgeConfig) -> Any:
            if config != RidgeConfig():
                return ridge(inputs)(config)
            if when == "fitting":
                fill()
            return Large()

        if when == "starting":
            fill()
        return fit

    found = only(compared(tiny_config, replace(RIDGE, start=large), cache=tmp_path))
    first, second = (point for point in found.points if point.place == 0)
    said = "DefaultCPUAllocator" if error is None else str(error)
    assert first.runs[0].failure is not None
    assert first.runs[0].failure.startswith("out of memory")
    assert said in first.runs[0].failure
    assert second.complete == (when != "starting")


def test_an_error_that_is_no_failed_trial_is_not_hidden(tiny_config: TrainConfig, tmp_path: Path) -> None:
    def broken(inputs: Inputs) -> Any:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        compared(tiny_config, replace(RIDGE, start=broken), cache=tmp_path)


def test_a_baseline_without_its_packages_is_skipped_with_the_extras_name(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    absent = replace(RIDGE, modules=("no_such_package", "torch"))
    assert absent.missing() == ("no_such_package",)
    skipped, ran = compared(tiny_config, absent, POPULARITY, cache=tmp_path).baselines
    assert skipped.skipped == "needs no_such_package: install the extra `baselines`"
    assert skipped.points == ()
    assert ran.skipped is None
    assert ran.points[0].complete


def test_names_choose_in_their_order_and_no_name_chooses_all() -> None:
    assert choose(["ridge", "popularity", "ridge"]) == (RIDGE, POPULARITY)
    assert choose([]) == tuple(BASELINES.entries().values())


def test_a_name_that_cannot_run_is_a_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--baseline: is not a baseline; did you mean ridge\? .*'rigde'"):
        choose(["rigde"])
    monkeypatch.setitem(BASELINES._entries, "ridge", replace(RIDGE, modules=("no_such_package",)))
    with pytest.raises(ConfigError, match="needs no_such_package: install the extra `baselines`"):
        choose(["ridge"])


@dataclass
class Diary(NullTracker, Progress):  # type: ignore[misc]
    """Writes down what a listener and a tracker are called with."""

    headers: list[StudyHeader] = field(default_factory=list)
    titles: list[str | None] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    runs: list[tuple[Mapping[str, Any], type[Outcome]]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def open(
        self, header: StudyHeader, finished: Sequence[FinishedTrial], under_way: Collection[str] = ()
    ) -> Opened:
        self.headers.append(header)
        return Opened(parent_run="parent")

    def start(self, job: Job) -> str | None:
        return f"run-{job.number}"

    def finish(self, run_id: str | None, job: Job, outcome: Outcome) -> None:
        self.runs.append((job.point, type(outcome)))

    def close(self, status: Status, *, pages: Mapping[str, str] | None = None) -> None:
        self.closed.append(status)

    def trial_started(self, event: TrialStarted) -> None:
        self.titles.append(event.title)

    def trial_stage(self, number: int, stage: str) -> None:
        self.stages.append(stage)


def with_diary(config: TrainConfig, folder: Path, seeds: int, **more: Any) -> tuple[ComparisonReport, Diary]:
    diary = Diary()
    options = {"seeds": seeds, "trials": 2, "progress": diary, "tracker": diary, **more}
    return compare(config, [RIDGE, POPULARITY], Workspace(folder), CPU, **options), diary


def test_every_trial_is_announced_and_a_run_of_the_tracker(tiny_config: TrainConfig, tmp_path: Path) -> None:
    _, diary = with_diary(tiny_config, tmp_path, 2)
    assert diary.titles == [
        f"{row:<18} seed {seed}"
        for seed in (0, 1)
        for row in ("ridge trial 0", "ridge trial 1", "popularity trial 0")
    ]
    of_a_split = ["start", "fit", "fit", "start", "fit"]
    assert diary.stages == [*of_a_split, "data", *of_a_split]
    (header,) = diary.headers
    assert (header.kind, header.name, header.objectives) == (
        "baselines",
        "baselines-planted-planted",
        (IID, OOD),
    )
    assert [(point["baseline"], kind) for point, kind in diary.runs] == [
        (name, Completed) for _ in range(2) for name in ("ridge", "ridge", "popularity")
    ]
    assert diary.closed == ["FINISHED"]


def test_what_was_fitted_is_never_fitted_again_and_more_seeds_go_on(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    first, _ = with_diary(tiny_config, tmp_path, 1)
    again, diary = with_diary(tiny_config, tmp_path, 1)
    assert (again, diary.titles) == (first, [])
    more, diary = with_diary(tiny_config, tmp_path, 2)
    assert {title and title[-6:] for title in diary.titles} == {"seed 1"}
    for before, after in zip(first.baselines, more.baselines, strict=True):
        assert [point.runs[0] for point in after.points] == [point.runs[0] for point in before.points]


def test_an_interrupt_keeps_what_is_complete(tiny_config: TrainConfig, tmp_path: Path) -> None:
    class Stops(Diary):
        def trial_started(self, event: TrialStarted) -> None:
            super().trial_started(event)
            if len(self.titles) == 3:
                raise KeyboardInterrupt

    stops = Stops()
    with pytest.raises(KeyboardInterrupt):
        with_diary(tiny_config, tmp_path, 2, progress=stops, tracker=stops)
    assert stops.closed == ["KILLED"]
    _, diary = with_diary(tiny_config, tmp_path, 2)
    assert diary.titles == [*stops.titles[2:], *diary.titles[1:]]
    assert len(diary.titles) == 4


@pytest.mark.slow
def test_several_workers_come_to_the_same(tiny_config: TrainConfig, tmp_path: Path) -> None:
    def numbers(report: ComparisonReport) -> list[Any]:
        return [
            (point.name, [run.metrics for run in point.runs])
            for one in report.baselines
            for point in one.points
        ]

    alone, _ = with_diary(tiny_config, tmp_path / "one", 2, own=True)
    both, _ = with_diary(tiny_config, tmp_path / "two", 2, own=True, workers=2)
    assert numbers(alone) == numbers(both)
    assert alone.comparisons == tuple(
        replace(mine, rival=theirs.rival, own=theirs.own, beats=theirs.beats)
        for mine, theirs in zip(both.comparisons, alone.comparisons, strict=True)
    )


def test_the_files_own_model_comes_first_and_meets_every_point_of_the_fronts(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    space = Space.model_validate({"backbone.l2": {"type": "float", "low": 0.1, "high": 0.6}})
    report = compare(
        tiny_config,
        [RIDGE, POPULARITY],
        Workspace(tmp_path),
        CPU,
        seeds=2,
        trials=3,
        own=True,
        space=space,
    )
    own, *others = report.baselines
    assert (own.name, own.trials) == ("own", 3)
    assert [(one.baseline, one.rival) for one in report.comparisons] == [
        (one.name, point) for one in others for point in one.front()
    ]
    assert len({one.rival.place for one in report.comparisons}) > 1
    for pair in report.comparisons:
        assert pair.own in own.front()
        for metric, found in ((IID, pair.iid), (OOD, pair.ood)):
            assert found.mean == pytest.approx(pair.own.mean(metric) - pair.rival.mean(metric), abs=1e-6)
            assert found.low <= found.mean <= found.high


def test_the_own_model_is_left_out_unless_it_is_asked_for(tiny_config: TrainConfig, tmp_path: Path) -> None:
    report = compared(tiny_config, POPULARITY, cache=tmp_path)
    assert [one.name for one in report.baselines] == ["popularity"]
    assert report.comparisons == ()


def test_a_failed_trial_of_the_own_model_is_in_no_comparison(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(inputs: Inputs) -> Any:
        raise Diverged("no start")

    monkeypatch.setattr(comparison, "OWN", replace(comparison.OWN, start=never))
    report = compare(tiny_config, [POPULARITY], Workspace(tmp_path), CPU, seeds=2, trials=1, own=True)
    assert report.baselines[0].points[0].runs[0].failure == "no start"
    assert report.comparisons == ()


def test_a_trial_that_fails_under_one_of_the_seeds_shifts_nobodys_users(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    def brittle(inputs: Inputs) -> Any:
        def fit(config: RidgeConfig) -> Any:
            if inputs.config.seed == 1 and config == RidgeConfig():
                raise Diverged("too much")
            return ridge(inputs)(config)

        return fit

    def comparisons(*baselines: Baseline[Any]) -> dict[str, PairedComparison]:
        # Code of tests is not told apart by the key: the same module has both.
        folder = tmp_path / str(baselines[0] is RIDGE)
        report = compare(tiny_config, baselines, Workspace(folder), CPU, seeds=3, trials=4, own=True)
        return {comparison.rival.name: comparison for comparison in report.comparisons}

    whole, broken = comparisons(RIDGE), comparisons(replace(RIDGE, start=brittle))
    assert broken
    assert not {name for name in broken if name.startswith("0.")}
    common = broken.keys() & whole.keys()
    assert common
    for trial in common:
        assert broken[trial].iid.mean == pytest.approx(whole[trial].iid.mean)
        assert broken[trial].iid.low <= broken[trial].iid.mean <= broken[trial].iid.high


def test_one_seed_is_not_enough_for_the_own_model(tiny_config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--seeds: must be at least 2 with --own.*found 1"):
        compare(tiny_config, [POPULARITY], Workspace(tmp_path), CPU, seeds=1, trials=1, own=True)
