"""A run that is killed at any point and continues is the run that was never killed."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from painvrl.core.errors import PlaceError, StudyError
from painvrl.core.observer import GOES_ON
from painvrl.model.fit import Best, FitState
from painvrl.run import state as module
from painvrl.run.config import TrainConfig
from painvrl.run.final import refit
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared
from painvrl.run.pretrained import PretrainedStore
from painvrl.run.state import MIN_SECONDS, MOST_SHARE, RunState, StateFile, run_key, run_state

DAY = 24 * 3600.0
Make = Callable[[], Mapping[str, Any]]


class Killed(BaseException):
    """What a killed process would not live to see."""


@contextmanager
def dies(error: type[BaseException] = Killed) -> Iterator[None]:
    """The process ends in the block."""
    with pytest.raises(error):
        yield


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every offer is taken."""
    monkeypatch.setattr(module, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "MOST_SHARE", math.inf)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass when reported."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


opened = partial(run_state, device="cpu")


def leave(folder: Path, key: str, value: object = 0) -> None:
    """Save and be killed."""
    with dies(), opened(folder, key) as state:
        state.save("x", value)
        raise Killed


def found(folder: Path, key: str) -> Any:
    """What is there; it stays."""
    value = None
    with dies(), opened(folder, key) as state:
        value = state.load("x")
        raise Killed
    return value


def states(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.pt"))


@pytest.mark.usefixtures("always")
def test_the_last_state_is_the_one_that_is_found(tmp_path: Path) -> None:
    with dies(), opened(tmp_path, "a") as state:
        state.save("x", 1)
        state.save("x", 2)
        raise Killed
    assert found(tmp_path, "a") == 2
    assert found(tmp_path, "b") is None


class Counting:
    """Makes states, notes when, and may take its time."""

    def __init__(self, clock: list[float], seconds: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds
        self.made: list[float] = []

    def __call__(self) -> FitState:
        self.made.append(self.clock[0])
        self.clock[0] += self.seconds
        return fit_state(1)


def fit_state(epoch: int) -> FitState:
    return FitState(epoch=epoch, best=Best(), model={}, optimizers=[], generator=torch.zeros(1))


def test_a_short_run_writes_nothing_and_makes_no_state(tmp_path: Path, clock: list[float]) -> None:
    make = Counting(clock)
    with opened(tmp_path / "runs", "a") as state:
        for _ in range(100):
            clock[0] += MIN_SECONDS / 101
            state.save_training("fit", make)
    assert make.made == []
    assert not (tmp_path / "runs").exists()


def test_nothing_is_written_sooner_than_the_seconds_after_the_last_time(
    tmp_path: Path, clock: list[float]
) -> None:
    make = Counting(clock)
    with opened(tmp_path, "a") as state:
        for now in (15.0, 29.9, 30.0, 32.0, 59.9, 60.5, 90.4, 91.0):
            clock[0] = now
            state.save_training("fit", make)
    assert make.made == [30.0, 60.5, 91.0]


def test_what_takes_long_to_write_is_written_less_often(tmp_path: Path, clock: list[float]) -> None:
    slow = Counting(clock, seconds=2.0)
    with opened(tmp_path, "a") as state:
        while clock[0] < 2000:
            clock[0] += 1.0
            state.save_training("fit", slow)
    assert len(slow.made) == 10
    assert 2.0 * len(slow.made) <= MOST_SHARE * 2000
    assert min(later - before for before, later in pairwise(slow.made)) >= 2.0 / MOST_SHARE


@pytest.mark.usefixtures("always")
def test_what_ends_leaves_nothing_and_what_is_killed_or_interrupted_leaves_its_state(tmp_path: Path) -> None:
    with opened(tmp_path, "a") as state:
        state.save("x", 1)
    assert list(tmp_path.iterdir()) == []
    with dies(ValueError), opened(tmp_path, "a") as state:
        state.save("x", 1)
        raise ValueError("pruned")
    assert list(tmp_path.iterdir()) == []
    for error in (Killed, SystemExit, KeyboardInterrupt):
        with dies(error), opened(tmp_path, "a") as state:
            state.save("x", 1)
            raise error
        assert states(tmp_path) == ["a"]


@pytest.mark.usefixtures("always")
def test_errors_that_are_not_final_leave_the_state(tmp_path: Path) -> None:
    with dies(OSError), opened(tmp_path, "a", final=ValueError) as state:
        state.save("x", 1)
        raise OSError("full")
    assert states(tmp_path) == ["a"]
    with dies(ValueError), opened(tmp_path, "a", final=ValueError):
        raise ValueError("no")
    assert states(tmp_path) == []


@pytest.mark.parametrize(
    "error", [PlaceError("full"), StudyError("locked"), OSError(errno.ENOSPC, "no space left")]
)
@pytest.mark.usefixtures("always")
def test_a_disk_or_a_database_that_refuses_leaves_the_state(tmp_path: Path, error: Exception) -> None:
    with dies(type(error)), opened(tmp_path, "a") as state:
        state.save("x", 1)
        raise error
    assert found(tmp_path, "a") == 1


@pytest.mark.usefixtures("always")
def test_an_interrupt_says_whether_there_is_anything_to_go_on_with(tmp_path: Path) -> None:
    def interrupt(act: Callable[[RunState], object]) -> None:
        with opened(tmp_path, "a") as state:
            act(state)
            raise KeyboardInterrupt

    def interrupted(act: Callable[[RunState], object]) -> str:
        with pytest.raises(KeyboardInterrupt) as caught:
            interrupt(act)
        return str(caught.value)

    assert interrupted(lambda state: None) == ""
    assert (
        interrupted(lambda state: state.save("x", 1)) == "the same command continues where it was kept last"
    )
    assert interrupted(lambda state: None) == "the same command continues where it was kept last"


@pytest.mark.usefixtures("always")
def test_equal_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    leave(tmp_path, "a", 1)
    with opened(tmp_path, "a") as first:
        assert first.load("x") == 1
        with opened(tmp_path, "a") as second:
            assert second.load("x") is None
            second.save("x", 7)
        assert states(tmp_path) == ["a"], "the second one deletes nothing of the first"
        first.save("x", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("always")
def test_of_equal_runs_the_first_that_saves_has_the_key_to_its_end(tmp_path: Path) -> None:
    with dies(), opened(tmp_path, "a") as late:
        with dies(), opened(tmp_path, "a") as early:
            early.save("x", "early")
            late.save("x", "late")
            raise Killed
        late.save("x", "late")  # the lock is free, and the state another's
        raise Killed
    assert found(tmp_path, "a") == "early"


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("damage", ["torn", "other key", "a list"])
def test_a_file_that_is_not_this_runs_whole_state_is_ignored_and_replaced(
    tmp_path: Path, damage: str
) -> None:
    leave(tmp_path, "a", torch.ones(100))
    path = tmp_path / "a.pt"
    if damage == "other key":
        leave(tmp_path, "b", 9)
        (tmp_path / "b.pt").replace(path)
    elif damage == "a list":
        torch.save([1], path)
    else:
        path.write_bytes(path.read_bytes()[:-200])
    with dies(KeyboardInterrupt), opened(tmp_path, "a") as state:
        assert state.load("x") is None
        state.save("x", 2)
        raise KeyboardInterrupt
    assert found(tmp_path, "a") == 2


@pytest.mark.usefixtures("always")
def test_what_was_left_a_week_ago_goes_and_so_does_its_lock(tmp_path: Path) -> None:
    for key in ("old", "new"):
        leave(tmp_path, key)
    (tmp_path / "version.npz").write_bytes(b"of an older version")
    for pattern, days in (("*old*", 7.1), ("*npz", 7.1), ("*new*", 6.9)):
        for path in tmp_path.glob(pattern):
            os.utime(path, (time.time() - days * DAY,) * 2)
    assert (tmp_path / ".old.lock").exists()
    with opened(tmp_path, "c"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.lock", "new.pt"]


@pytest.mark.usefixtures("always")
def test_the_folder_holds_the_youngest_within_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, key in enumerate("abc"):
        leave(tmp_path, key, torch.zeros(1000))
        os.utime(tmp_path / f"{key}.pt", (time.time() - 100 + place,) * 2)
    size = (tmp_path / "a.pt").stat().st_size
    monkeypatch.setattr(module, "DISK_BYTES", 2 * size + size // 2)
    with opened(tmp_path, "d"):
        pass
    assert states(tmp_path) == ["b", "c"]


@pytest.mark.usefixtures("always")
def test_a_state_that_is_larger_than_all_the_room_is_not_written_nor_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISK_BYTES", 999)
    make = Counting([0.0])
    with opened(tmp_path, "a") as state:
        state.save_training("fit", make)
        state.save_training("fit", make)
        assert states(tmp_path) == []
    assert len(make.made) == 1


@pytest.mark.usefixtures("always")
def test_a_folder_that_cannot_be_written_costs_the_keeping_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with opened(tmp_path / "file", "a") as state:
        state.save("x", 1)
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.usefixtures("always")
def test_without_a_folder_no_state_is_made() -> None:
    make = Counting([0.0])
    with opened(None, "a") as state:
        state.save_training("fit", make)
        assert state.load_training("fit") is None
    assert make.made == []


def test_the_key_holds_every_setting_the_data_the_epochs_and_the_code(
    tiny_config: TrainConfig, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = run_key(tiny_config, tiny_prepared)
    assert run_key(tiny_config.model_copy(), tiny_prepared) == key
    tree = tiny_config.model_dump()
    updates: list[dict[str, Any]] = [
        {"mask": {**tree["mask"], "sparsity": 0.4}},
        {"fusion": {**tree["fusion"], "variant_weight": 0.9}},
        {"environments": {**tree["environments"], "steps": 6}},
        {"rounds": 2},
        {"seed": 1},
    ]
    keys = [run_key(TrainConfig.model_validate(tree | update), tiny_prepared) for update in updates]
    keys += [
        run_key(tiny_config, replace(tiny_prepared, train=tiny_prepared.split.ood_valid.interactions)),
        run_key(tiny_config, replace(tiny_prepared, dataset=replace(tiny_prepared.dataset, fingerprint="x"))),
        run_key(tiny_config, replace(tiny_prepared, split=replace(tiny_prepared.split, fingerprint="x"))),
        run_key(tiny_config, tiny_prepared, {"pretrain": 3}),
        run_key(tiny_config, tiny_prepared, {"pretrain": 4}),
    ]
    monkeypatch.setattr(module, "code_digest", lambda: "another version")
    keys.append(run_key(tiny_config, tiny_prepared))
    assert len({*keys, key}) == len(keys) + 1


def test_the_key_holds_no_processor_and_no_number_of_threads(
    tiny_config: TrainConfig, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = run_key(tiny_config, tiny_prepared)
    monkeypatch.setattr("painvrl.core.device._processor", lambda: "another")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert run_key(tiny_config, tiny_prepared) == key


@pytest.mark.usefixtures("always")
def test_a_run_that_goes_on_with_another_processor_says_so_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_on(processor: str) -> tuple[RunState, str]:
        heard = Heard()
        monkeypatch.setattr("painvrl.core.device._processor", lambda: processor)
        with dies(), opened(tmp_path, "a") as state:
            state.resume(heard)
            with state.stage("pretrain"):
                pass
            state.save("x", 1)
            raise Killed
        return state, heard.stages[0]

    assert go_on("one")[0].mixed == ()
    state, first = go_on("one")
    assert (state.mixed, first) == ((), f"{GOES_ON}the end of pretrain")
    for processor in ("another", "another"):
        state, first = go_on(processor)
        assert state.mixed == ("processor",)
        doubt = " (kept with another processor: the last digits may differ)"
        assert first == f"{GOES_ON}the end of pretrain{doubt}"


@pytest.mark.usefixtures("always")
def test_whoever_asks_hears_of_every_state_that_is_kept(tmp_path: Path) -> None:
    kept: list[int] = []
    with opened(tmp_path, "a", kept=lambda: kept.append(len(states(tmp_path)))) as state:
        state.save("x", 1)
        state.save("x", 2)
    assert kept == [1, 1]


def test_an_interrupt_that_was_lost_ends_the_run_at_its_next_stage_or_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = RunState()
    monkeypatch.setattr("painvrl.core.interrupts._asked", True)
    with pytest.raises(KeyboardInterrupt), state.stage("pretrain"):
        pass
    with pytest.raises(KeyboardInterrupt):
        state.curve("pretrain", 1, {})


@dataclass
class Heard:
    """An observer that writes everything down."""

    stages: list[str] = field(default_factory=list)
    points: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.points.append((name, step, dict(values)))


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
        """What came of it; ``None`` if it was killed right after its ``last`` save."""
        self.heard, self.saves, save = Heard(), 0, StateFile.save

        def save_and_die(file: StateFile, make: Make) -> None:
            save(file, make)
            self.saves += 1
            if self.saves == last:
                raise Killed

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(StateFile, "save", save_and_die)
                with opened(self.folder, run_key(self.config, self.prepared)) as state:
                    return run(self.config, self.prepared, observer=self.heard, store=self.store, state=state)
        except Killed:
            return None

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


def assert_reported_again(heard: Heard, undisturbed: Heard) -> None:
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
    "per-user logit offsets": {
        "environments": {"logit_offset": "both"},
        "mask": {"penalty": "coefficient_variance"},
    },
    "fixed mask": {"mask": {"source": "half"}},
    "an environment left out": {
        "environments": {"assignment": "column", "column": {"column": "popularity", "bins": 3}},
        "evaluation": {"loeo": True},
    },
}


def config_of(settings: dict[str, Any], kind: str) -> TrainConfig:
    merged = {**settings, "rounds": 2, "training": SHORT}
    for key, value in KINDS[kind].items():
        merged[key] = {**merged.get(key, {}), **value}
    return TrainConfig.model_validate(merged)


@pytest.mark.usefixtures("always")
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
    assert_reported_again(process.heard, calm)
    assert process.files() == []


@pytest.mark.slow
@pytest.mark.usefixtures("always")
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
        assert process.files() == [".lock", ".pt"]
        result = process.run()
        assert result is not None
        assert process.saves == saves - last, "what was done is not done again"
        assert_same_result(result, undisturbed)
        assert_reported_again(process.heard, calm)
        places.append(process.heard.stages[0].removeprefix(GOES_ON))
    assert len(set(places)) == saves
    assert {
        "epoch 2 of pretrain",
        "the end of pretrain",
        "the end of round 1: environments",
        "step 1 of round 1: mask",
        "the end of round 1: mask",
        "step 3 of round 2: mask",
        "the end of round 2: mask",
        "epoch 4 of invariant",
        "the end of invariant",
        "epoch 6 of variant",
        "the end of variant",
    } <= set(places)


@pytest.mark.usefixtures("always")
def test_an_environment_that_was_left_out_before_a_kill_is_not_left_out_again(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path
) -> None:
    process = Process(config_of(tiny_settings, "an environment left out"), tiny_prepared, tmp_path)
    undisturbed = process.run()
    assert undisturbed is not None
    saves = process.saves
    for left in (3, 2, 1):
        assert process.run(last=saves + 1 - left) is None
        result = process.run()
        assert result is not None
        assert process.heard.stages[0].startswith(f"{GOES_ON}the end of leave out ")
        assert process.saves == left - 1
        assert_same_result(result, undisturbed)


@pytest.mark.usefixtures("always")
def test_a_refit_that_is_killed_comes_to_the_same(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult, tmp_path: Path
) -> None:
    undisturbed = refit(tiny_config, tiny_prepared, steps_of=tiny_result)

    class Dies(Heard):
        def stage(self, name: str) -> None:
            super().stage(name)
            if name == "variant":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="continues"):
        refit(tiny_config, tiny_prepared, steps_of=tiny_result, observer=Dies(), resume_dir=tmp_path)
    heard = Heard()
    result = refit(tiny_config, tiny_prepared, steps_of=tiny_result, observer=heard, resume_dir=tmp_path)
    assert heard.stages[0] == GOES_ON + "the end of invariant"
    assert_same_result(result, undisturbed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("always")
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


@pytest.mark.usefixtures("always")
def test_a_backbone_that_was_shared_meanwhile_is_not_reported_twice(
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
    assert_reported_again(half.heard, alone.heard)


def test_seconds_that_were_spent_before_count(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_SECONDS", 0.0)
    with dies(), opened(tmp_path, "a") as first:
        with first.stage("pretrain"):
            clock[0] += 5
        with first.stage("mask", "round 1: mask"):
            clock[0] += 2
            first.save_training("mask", lambda: fit_state(3))
            clock[0] += 40  # is lost
            raise Killed
    heard = Heard()
    with opened(tmp_path, "a") as second:
        assert second.seconds == {"pretrain": 5, "mask": 2}
        second.resume(heard)
        assert second.is_training("mask")
        assert second.load_training("mask") is not None
        assert not second.is_training("mask")
        with second.stage("mask", "round 1: mask"):
            clock[0] += 1
        with second.stage("mask", "round 2: mask"):
            clock[0] += 10
    assert second.seconds == {"pretrain": 5, "mask": 13}
    assert heard.stages == [f"{GOES_ON}epoch 3 of mask", "pretrain", "round 1: mask", "round 2: mask"]


@pytest.mark.usefixtures("always")
def test_an_observer_may_stop_the_run_while_it_is_reported_again(
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
    with pytest.raises(Enough), opened(tmp_path, key) as state:
        run(config, tiny_prepared, observer=judge, state=state)
    assert [step for _, step, _ in judge.points] == [2, 4]
    assert process.files() == [], "a run that was stopped is not gone on with"


def test_no_more_is_saved_than_the_rest_of_the_run_needs(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[frozenset[str], str | None]] = []

    def note(file: StateFile, make: Make) -> None:
        state = make()
        held.append((frozenset(state["results"]), next(iter(state["training"]), None)))

    monkeypatch.setattr(StateFile, "save", note)
    with opened(tmp_path, "a") as state:
        run(config_of(tiny_settings, "lazy, branch"), tiny_prepared, state=state)
    assert list(dict.fromkeys(held)) == [
        (frozenset(), "pretrain"),
        (frozenset({"pretrain"}), None),
        (frozenset({"pretrain", "environments"}), None),
        (frozenset({"pretrain", "environments"}), "round 1: mask"),
        (frozenset({"pretrain", "rounds"}), None),
        (frozenset({"pretrain", "rounds", "environments"}), None),
        (frozenset({"pretrain", "rounds", "environments"}), "round 2: mask"),
        (frozenset({"invariance"}), None),
        (frozenset({"invariance"}), "invariant"),
        (frozenset({"invariance", "invariant"}), None),
        (frozenset({"invariance", "invariant"}), "variant"),
        (frozenset({"invariance", "converted"}), None),
    ]


def test_a_run_that_is_saved_nowhere_holds_nothing() -> None:
    state = RunState()
    state.save("pretrain", torch.ones(2))
    assert state.load("pretrain") is None
