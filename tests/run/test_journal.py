"""A run that is killed at any point and goes on is the run that was never killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from painvrl.core.progress import GOES_ON
from painvrl.model.fit import Best, FitState
from painvrl.run import journal as module
from painvrl.run.config import TrainConfig
from painvrl.run.final import refit
from painvrl.run.journal import Journal
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared
from painvrl.run.pretrained import PretrainedStore
from painvrl.run.unfinished import Savepoint, State, UnfinishedRuns, run_key


class Killed(BaseException):
    """What a killed process would not live to see."""


@dataclass
class Heard:
    """An observer that writes everything down."""

    stages: list[str] = field(default_factory=list)
    points: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.points.append((name, step, dict(values)))


class Mortal:
    """A savepoint whose process is killed right after its ``last`` save."""

    def __init__(self, inner: Savepoint, last: int | None) -> None:
        self.inner = inner
        self.left = last
        self.saves = 0

    def load(self) -> State | None:
        return self.inner.load()

    def save(self, make: Callable[[], State]) -> None:
        self.inner.save(make)
        self.saves += 1
        if self.saves == self.left:
            raise Killed


@dataclass
class Process:
    """Runs a configuration in a folder as a process of its own would."""

    config: TrainConfig
    prepared: Prepared
    folder: Path
    store: PretrainedStore | None = None
    heard: Heard = field(default_factory=Heard)
    saves: int = 0

    def run(self, *, last: int | None = None) -> RunResult | None:
        """What came of it; ``None`` if it was killed after its ``last`` save."""
        self.heard = Heard()
        runs = UnfinishedRuns(self.folder, min_seconds=0, clock=lambda: 0.0)
        try:
            with runs.savepoint(run_key(self.config, self.prepared)) as point:
                mortal = Mortal(point, last)
                result = run(
                    self.config, self.prepared, observer=self.heard, store=self.store, savepoint=mortal
                )
        except Killed:
            return None
        self.saves = mortal.saves
        return result

    def files(self) -> list[str]:
        return sorted(path.suffix for path in self.folder.iterdir()) if self.folder.exists() else []


def assert_same_result(one: RunResult, other: RunResult) -> None:
    for name in ("user_vectors", "item_vectors", "mask"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert dict(one.metrics) == dict(other.metrics)
    assert dict(one.epochs) == dict(other.epochs)
    assert set(one.seconds) == set(other.seconds)
    assert one.parts.base_width == other.parts.base_width
    assert repr(one.rounds) == repr(other.rounds)  # NaN equals itself here
    assert (one.environments is None) == (other.environments is None)
    if one.environments is not None and other.environments is not None:
        assert torch.equal(one.environments.label, other.environments.label)
        assert one.environments.sizes == other.environments.sizes
        assert one.environments.moves == other.environments.moves


def assert_told_again(heard: Heard, undisturbed: Heard) -> None:
    assert heard.stages[0].startswith(GOES_ON)
    assert heard.stages[1:] == undisturbed.stages
    assert heard.points == undisturbed.points


SHORT = {"max_epochs": 7, "evaluate_every": 2, "patience": 2}
SAMPLED = {"loss": {"kind": "sampled", "negatives": 5, "batch_size": 128}, "id_dropout": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "gramian, branch": {"backbone": {"id_dropout": 0.3}, "training": {"learning_rate": 0.3}},
    "lazy, branch": {"backbone": SAMPLED},
    "dense, invariant": {
        "backbone": {**SAMPLED, "item_item_weight": 0.5},
        "training": {"updates": "dense", "weight_decay": 0.01},
        "fusion": {"kind": "invariant"},
    },
    "gramian, sum": {"fusion": {"kind": "sum"}},
    "lazy, item": {"backbone": SAMPLED, "fusion": {"kind": "item"}},
    "hard EM": {"environments": {"assignment": "hard_em", "hard_em": {"max_rounds": 2, "steps": 3}}},
    "personal tilts": {"environments": {"tilt": "both"}, "mask": {"penalty": "coefficient_variance"}},
    "fixed mask": {"mask": {"source": "half"}},
}


def config_of(settings: dict[str, Any], kind: str) -> TrainConfig:
    merged = {**settings, "rounds": 2, "training": SHORT}
    for key, value in KINDS[kind].items():
        merged[key] = {**merged.get(key, {}), **value}
    return TrainConfig.model_validate(merged)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_at_every_save_point_comes_to_the_same(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path, kind: str
) -> None:
    config = config_of(tiny_settings, kind)
    process = Process(config, tiny_prepared, tmp_path / "runs")
    undisturbed = process.run()
    assert undisturbed is not None
    calm, saves = process.heard, process.saves
    results = [process.run(last=1) for _ in range(saves + 1)]  # every process dies after its first save
    assert [result is None for result in results] == [True] * saves + [False]
    result = results[-1]
    assert result is not None
    assert_same_result(result, undisturbed)
    assert_told_again(process.heard, calm)
    assert process.files() == []


def test_a_run_that_is_killed_once_at_any_save_point_comes_to_the_same(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path
) -> None:
    process = Process(config_of(tiny_settings, "lazy, branch"), tiny_prepared, tmp_path / "runs")
    undisturbed = process.run()
    assert undisturbed is not None
    calm, saves = process.heard, process.saves
    places = []
    for last in range(1, saves + 1):
        assert process.run(last=last) is None
        assert process.files() == [".lock", ".npz"]
        result = process.run()
        assert result is not None
        assert process.saves == saves - last, "what was done is not done again"
        assert_same_result(result, undisturbed)
        assert_told_again(process.heard, calm)
        places.append(process.heard.stages[0].removeprefix(GOES_ON))
    assert len(set(places)) == saves
    assert {
        "epoch 2 of pretrain",
        "the end of pretrain",
        "the end of round 1: mask",
        "the end of round 2: mask",
        "epoch 4 of invariant",
        "the end of invariant",
        "epoch 6 of variant",
        "the end of variant",
    } <= set(places)


def test_a_refit_that_is_killed_comes_to_the_same(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult, tmp_path: Path
) -> None:
    undisturbed = refit(tiny_config, tiny_prepared, steps_of=tiny_result)
    runs = UnfinishedRuns(tmp_path, min_seconds=0, clock=lambda: 0.0)

    class Dies(Heard):
        def stage(self, name: str) -> None:
            super().stage(name)
            if name == "variant":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="goes on"):
        refit(tiny_config, tiny_prepared, steps_of=tiny_result, observer=Dies(), unfinished=runs)
    heard = Heard()
    result = refit(tiny_config, tiny_prepared, steps_of=tiny_result, observer=heard, unfinished=runs)
    assert heard.stages[0] == GOES_ON + "the end of invariant"
    assert_same_result(result, undisturbed)
    assert list(tmp_path.iterdir()) == []


def test_a_shared_backbone_that_is_killed_half_way_is_shared_with_all_its_curve(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path
) -> None:
    config = config_of(tiny_settings, "gramian, branch")
    process = Process(config, tiny_prepared, tmp_path / "runs", PretrainedStore())
    undisturbed = process.run()
    calm = process.heard
    process.store = PretrainedStore(tmp_path / "shared")
    assert process.run(last=2) is None
    assert process.run() is not None
    other = Process(config, tiny_prepared, tmp_path / "runs", PretrainedStore(tmp_path / "shared"))
    taken = other.run()
    assert undisturbed is not None
    assert taken is not None
    assert_same_result(taken, undisturbed)
    assert other.heard == calm


def test_a_backbone_that_was_shared_meanwhile_is_not_told_twice(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path
) -> None:
    config = config_of(tiny_settings, "gramian, branch")
    store = PretrainedStore()
    alone = Process(config, tiny_prepared, tmp_path / "alone", store)
    half = Process(config, tiny_prepared, tmp_path / "half", PretrainedStore())
    assert half.run(last=2) is None
    undisturbed = alone.run()
    half.store = store
    result = half.run()
    assert undisturbed is not None
    assert result is not None
    assert_same_result(result, undisturbed)
    assert_told_again(half.heard, alone.heard)


class Memory:
    """A savepoint in memory."""

    def __init__(self) -> None:
        self.state: State | None = None

    def load(self) -> State | None:
        return self.state

    def save(self, make: Callable[[], State]) -> None:
        self.state = make()


def test_seconds_that_were_spent_before_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    point = Memory()
    first = Journal(Heard(), point)
    with first.stage("pretrain"):
        now[0] += 5
    state = FitState(epoch=3, best=Best(), model={}, optimizers=[], generator=torch.zeros(1))
    with suppress(Killed), first.stage("mask", "round 1: mask"):
        now[0] += 2
        first.save_training("mask", lambda: state)
        now[0] += 40  # is lost
        raise Killed
    assert point.state is not None
    point.state = {**point.state, "training": {"name": "mask", "state": {"epoch": 3}}}
    heard = Heard()
    second = Journal(heard, point)
    second.resume()
    with second.stage("mask", "round 1: mask"):
        now[0] += 1
    with second.stage("mask", "round 2: mask"):
        now[0] += 10
    assert second.seconds == {"pretrain": 5, "mask": 13}
    assert heard.stages == [f"{GOES_ON}epoch 3 of mask", "pretrain", "round 1: mask", "round 2: mask"]


def test_an_observer_may_stop_the_run_while_it_is_told_again(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    class Judge(Heard):
        def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
            super().curve(name, step, values)
            if (name, step) == ("pretrain", 4):
                raise Enough

    config = config_of(tiny_settings, "gramian, branch")
    process = Process(config, tiny_prepared, tmp_path)
    assert process.run(last=4) is None
    judge = Judge()
    key = run_key(config, tiny_prepared)
    with (
        pytest.raises(Enough),
        UnfinishedRuns(tmp_path, min_seconds=0).savepoint(key) as point,
    ):
        run(config, tiny_prepared, observer=judge, savepoint=point)
    assert [step for _, step, _ in judge.points] == [2, 4]
    assert process.files() == [], "a run that was stopped is not gone on with"


def test_no_more_is_saved_than_the_rest_of_the_run_needs(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    held: list[tuple[set[str], str | None]] = []

    class Noting(Memory):
        def save(self, make: Callable[[], State]) -> None:
            state = make()
            training = state["training"]
            held.append((set(state["kept"]), None if training is None else training["name"]))

    run(config_of(tiny_settings, "lazy, branch"), tiny_prepared, savepoint=Noting())
    assert list(dict.fromkeys((frozenset(kept), training) for kept, training in held)) == [
        (frozenset(), "pretrain"),
        (frozenset({"pretrain"}), None),
        (frozenset({"pretrain", "rounds"}), None),
        (frozenset({"invariance"}), None),
        (frozenset({"invariance"}), "invariant"),
        (frozenset({"invariance", "invariant"}), None),
        (frozenset({"invariance", "invariant"}), "variant"),
        (frozenset({"invariance", "converted"}), None),
    ]
