"""Trainings that are repeated under several seeds come to the mean."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from painvrl.core.observer import GOES_ON
from painvrl.engine import training as module
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned
from painvrl.engine.seeds import users_of_all
from painvrl.engine.sweep import Sweep, SweepConfig
from painvrl.engine.training import TrainingObjective
from painvrl.engine.user_value_store import SaveUserValues, UserStore
from painvrl.evaluation.user_values import UserValues
from painvrl.run.distributions import FloatRange

if TYPE_CHECKING:
    from painvrl.run.config import TrainConfig

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"
SEEDS = 3
PLAN = Sweep(
    hyperparameters={"fusion.cold_weight": FloatRange(type="float", low=-2.0, high=2.0)},
    objectives=(IID, OOD),
    axes=(IID, OOD),
    config=SweepConfig(points=6, keep=4),
)


def objective_at(config: TrainConfig, folder: Path, **more: object) -> TrainingObjective:
    return TrainingObjective(config, cache_dir=folder, device=torch.device("cpu"), **more)  # type: ignore[arg-type]


def under(config: TrainConfig, seed: int) -> TrainConfig:
    return config.model_copy(update={"seed": config.seed + seed})


def outcome_of(objective: TrainingObjective, job: Job) -> Outcome:
    return objective(job, lambda _: None, lambda *_: None)


@pytest.mark.parametrize("plan", [None, PLAN])
def test_a_trial_under_several_seeds_comes_to_the_mean_of_trials_under_each(
    tiny_config: TrainConfig, tmp_path: Path, plan: Sweep | None
) -> None:
    objective = objective_at(tiny_config, tmp_path, seeds=SEEDS)
    job = Job(number=4, point={}, config=tiny_config, sweep=plan)
    together = outcome_of(objective, replace(job, seeds=SEEDS))
    first = outcome_of(objective, job)
    assert isinstance(first, Completed)
    at = tuple(point.values for point in first.points)
    each = [
        outcome_of(objective, replace(job, config=under(tiny_config, seed), at=at)) for seed in range(SEEDS)
    ]
    alone = [one for one in each if isinstance(one, Completed)]
    assert isinstance(together, Completed)
    assert len(alone) == SEEDS
    assert len({one.metrics[IID] for one in alone}) == SEEDS
    assert [point.values for point in together.points] == list(at)
    for place, point in enumerate(together.points):
        assert point.first == first.points[place].metrics
        for name, value in point.metrics.items():
            assert value == fmean(one.points[place].metrics[name] for one in alone)
    if plan is None:
        assert together.first == first.metrics
        assert together.metrics == {name: fmean(one.metrics[name] for one in alone) for name in first.metrics}
    else:
        assert together.metrics in [point.metrics for point in together.points]
    assert together.epochs == first.epochs
    assert together.rounds == first.rounds
    assert [(one.curve, one.step) for one in together.curves] == [
        (one.curve, one.step) for one in first.curves
    ]
    assert together.seconds.keys() == first.seconds.keys()


def test_one_seed_tells_no_other_values(tiny_config: TrainConfig, tmp_path: Path) -> None:
    found = outcome_of(
        objective_at(tiny_config, tmp_path), Job(number=0, point={}, config=tiny_config, sweep=PLAN)
    )
    assert isinstance(found, Completed)
    assert found.first == {}
    assert all(point.first == {} for point in found.points)


def test_the_users_of_all_seeds_mean_what_the_trial_has_come_to(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    keep = SaveUserValues(folder=tmp_path / "users", objectives=(IID, OOD))
    objective = objective_at(tiny_config, tmp_path, seeds=2, keep=keep)
    store = UserStore(tmp_path / "users" / "toy")
    for number, plan in enumerate((None, PLAN)):
        job = Job(number=number, point={}, config=tiny_config, key="toy", seeds=2, sweep=plan)
        found = outcome_of(objective, job)
        assert isinstance(found, Completed)
        names = [f"{number}.{place}" for place in range(len(found.points))] or [str(number)]
        for name, metrics in zip(
            names, [one.metrics for one in found.points] or [found.metrics], strict=True
        ):
            kept = store.load(name, {objective: metrics[objective] for objective in (IID, OOD)})
            assert kept is not None
            assert set(kept.users) == {"iid@0", "iid@1", "ood@0", "ood@1"}


def test_a_mean_over_parts_is_one_over_the_parts_of_all_seeds() -> None:
    rng = np.random.default_rng(0)
    each = [
        UserValues(
            users={"ood_a": np.arange(4), "ood_b": np.arange(6)},
            values={
                f"ood_{part}/x": rng.random(size).astype(np.float32) for part, size in (("a", 4), ("b", 6))
            },
            means={"ood": ("ood_a", "ood_b")},
        )
        for _ in range(2)
    ]
    found = users_of_all(each)
    assert found.parts_of("ood/x") == ("ood_a@0/x", "ood_b@0/x", "ood_a@1/x", "ood_b@1/x")
    assert found.parts_of("ood_b/x") == ("ood_b@0/x", "ood_b@1/x")
    whole = fmean(float(found.values[full].mean()) for full in found.parts_of("ood/x"))
    alone = fmean(float(one.values[full].mean()) for one in each for full in ("ood_a/x", "ood_b/x"))
    assert whole == pytest.approx(alone)
    assert users_of_all(each[:1]) is each[0]


def test_a_trial_is_judged_under_its_first_seed_alone(tiny_config: TrainConfig, tmp_path: Path) -> None:
    reported: list[str] = []

    def judge(rung: str, values: object) -> str | None:
        reported.append(rung)
        return "hopeless" if len(reported) == 2 else None

    rungs = frozenset({"pretrain/3"})
    job = Job(number=0, point={}, config=tiny_config, seeds=SEEDS, rungs=rungs)
    objective = objective_at(tiny_config, tmp_path, seeds=SEEDS)
    assert isinstance(objective(job, lambda _: None, judge), Completed)
    assert reported == ["pretrain/3"]
    assert isinstance(objective(job, lambda _: None, judge), Pruned)


def test_a_failure_says_under_which_seed(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = module.run

    def fails(config: TrainConfig, *arguments: object, **named: object) -> object:
        if config.seed == tiny_config.seed + 1:
            raise module.OutOfTime("too slow")
        return run(config, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", fails)
    objective = objective_at(tiny_config, tmp_path, seeds=2)
    found = outcome_of(objective, Job(number=0, point={}, config=tiny_config, seeds=2))
    assert isinstance(found, Failed)
    assert (found.reason, found.message) == ("out_of_time", f"under seed {tiny_config.seed + 1}: too slow")


def test_time_is_counted_over_all_seeds(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    stages: list[str] = []

    def stage(name: str) -> None:
        stages.append(name)
        if name.endswith("pretrain"):
            now[0] += 10

    objective = objective_at(tiny_config, tmp_path, seeds=SEEDS)
    job = Job(number=0, point={}, config=tiny_config, seeds=SEEDS, timeout=25.0)
    found = objective(job, stage, lambda *_: None)
    assert isinstance(found, Failed)
    assert found.reason == "out_of_time"
    assert found.message.startswith(f"under seed {tiny_config.seed + 2}: ")
    assert stages[-1] == f"seed {tiny_config.seed + 2}: pretrain"


def test_a_trial_that_was_killed_under_its_second_seed_does_not_train_the_first_again(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(number=0, point={}, config=tiny_config, seeds=2)
    straight = outcome_of(objective_at(tiny_config, tmp_path / "straight"), job)

    def dies(name: str) -> None:
        if name == f"seed {tiny_config.seed + 1}: evaluate":
            raise KeyboardInterrupt

    monkeypatch.setattr("painvrl.run.state.MIN_SECONDS", 0.0)
    monkeypatch.setattr("painvrl.run.state.MOST_SHARE", math.inf)
    resumed = objective_at(tiny_config, tmp_path, resume_dir=tmp_path / "run_states")
    with pytest.raises(KeyboardInterrupt):
        resumed(job, dies, lambda *_: None)
    stages: list[str] = []
    found = resumed(job, stages.append, lambda *_: None)
    assert isinstance(found, Completed)
    assert isinstance(straight, Completed)
    assert found.metrics == straight.metrics
    assert {"continues from the end of variant", "continues from the end of variant, seed 1"} <= set(stages)
    assert not any((tmp_path / "run_states").iterdir())


def test_the_job_of_each_seed_is_kept_apart_from_the_study(tiny_config: TrainConfig) -> None:
    job = Job(number=0, point={}, config=tiny_config, seeds=SEEDS, rungs=frozenset({"pretrain/3"}))
    again = list(job.repeated(()))
    assert [one.seed for one in again] == [tiny_config.seed + 1, tiny_config.seed + 2]
    assert all(one.rungs == frozenset() for one in again)


def test_the_seconds_before_a_kill_count_under_the_seeds_that_follow(tiny_config: TrainConfig) -> None:
    job = Job(number=0, point={}, config=tiny_config, seeds=SEEDS, timeout=1000.0)
    recorder = module._Recorder(job, lambda _: None, lambda *_: None)
    second, third = job.repeated(())
    recorder.began_before({"pretrain": 400.0})
    recorder.under(second).began_before({"pretrain": 500.0})
    last = recorder.under(third)
    last.stage("pretrain")  # 900 of 1000 seconds are spent
    last.began_before({"pretrain": 101.0})
    with pytest.raises(module.OutOfTime, match="after 1001 s"):
        last.stage("mask")


def test_where_a_further_seed_goes_on_is_said_as_it_is_of_the_first(tiny_config: TrainConfig) -> None:
    reported: list[str] = []
    recorder = module._Recorder(Job(number=0, point={}, config=tiny_config), reported.append, lambda *_: None)
    later = recorder.under(Job(number=0, point={}, config=under(tiny_config, 1)))
    later.stage(f"{GOES_ON}the end of mask")
    later.stage("variant")
    assert reported == ["continues from the end of mask, seed 1", "seed 1: variant"]


def test_an_error_that_nobody_foresaw_says_under_which_seed(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = module.run

    def fails(config: TrainConfig, *arguments: object, **named: object) -> object:
        if config.seed == tiny_config.seed + 1:
            raise RuntimeError("broken")
        return run(config, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", fails)
    found = outcome_of(
        objective_at(tiny_config, tmp_path, seeds=2),
        Job(number=0, point={}, config=tiny_config, seeds=2),
    )
    assert isinstance(found, Failed)
    assert found.message == f"under seed {tiny_config.seed + 1}: RuntimeError: broken"
    assert found.log is not None
