from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.data.cache import ArrayCache
from painvrl.run import unfinished as module
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared
from painvrl.run.unfinished import MIN_SECONDS, MOST_SHARE, NullSavepoint, State, UnfinishedRuns, run_key

DAY = 24 * 3600.0


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Killed(BaseException):
    pass


@contextmanager
def dies(error: type[BaseException] = Killed) -> Iterator[None]:
    """The process ends in the block."""
    with pytest.raises(error):
        yield


def always(folder: Path, **named: Any) -> UnfinishedRuns:
    """Every offer is taken."""
    return UnfinishedRuns(folder, min_seconds=0, clock=lambda: 0.0, **named)


def leave(runs: UnfinishedRuns, key: str, state: State) -> None:
    """Save and be killed."""
    with dies(), runs.savepoint(key) as point:
        point.save(lambda: state)
        raise Killed


def found(runs: UnfinishedRuns, key: str) -> State | None:
    """What is there; it stays."""
    state = None
    with dies(), runs.savepoint(key) as point:
        state = point.load()
        raise Killed
    return state


def states(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.npz"))


@dataclass
class Pair:
    one: torch.Tensor
    other: tuple[int, ...]


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    state = {
        "float": torch.randn(3, 4, generator=draw),
        "views": torch.randn(6, generator=draw)[1:4],
        "turned": torch.randn(3, 4, generator=draw).T,
        "long": torch.tensor([1, -(2**40)]),
        "bytes": draw.get_state(),
        "none": torch.empty(3, 0),
        "scalar": torch.tensor(7.0),
        "flags": torch.tensor([True, False]),
        "learned": torch.nn.Parameter(torch.randn(2, generator=draw)),
        "nested": {"list": [torch.ones(1), {"x": 0.1}], "pair": Pair(one=torch.ones(2), other=(1, 2))},
        "numbers": [1, 0.1, 1e-300, -float("inf"), True, None, "text"],
    }
    leave(always(tmp_path), "a", state)
    back: Any = found(always(tmp_path), "a")
    assert list(back) == list(state)
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            assert back[name].dtype == value.dtype, name
            assert back[name].shape == value.shape, name
            assert torch.equal(back[name], value), name
            assert back[name].data_ptr() % 64 == 0, "where torch puts its own tensors"
    assert back["numbers"] == state["numbers"]
    assert back["nested"]["list"][1] == {"x": 0.1}
    assert torch.equal(back["nested"]["list"][0], torch.ones(1))
    assert back["nested"]["pair"]["other"] == [1, 2]
    assert torch.equal(back["nested"]["pair"]["one"], torch.ones(2))


def test_the_last_state_is_the_one_that_is_found(tmp_path: Path) -> None:
    with dies(), always(tmp_path).savepoint("a") as point:
        point.save(lambda: {"epoch": 1})
        point.save(lambda: {"epoch": 2})
        raise Killed
    assert found(always(tmp_path), "a") == {"epoch": 2}
    assert found(always(tmp_path), "b") is None


def test_a_short_run_writes_nothing_and_makes_no_state(tmp_path: Path) -> None:
    clock, made = Clock(), []

    def make() -> State:
        made.append(clock.now)
        return {}

    with UnfinishedRuns(tmp_path / "runs", clock=clock).savepoint("a") as point:
        for _ in range(100):
            clock.now += MIN_SECONDS / 101
            point.save(make)
    assert made == []
    assert not (tmp_path / "runs").exists()


def test_nothing_is_written_sooner_than_the_seconds_after_the_last_time(tmp_path: Path) -> None:
    clock, made = Clock(), []

    def make() -> State:
        made.append(clock.now)
        return {}

    with UnfinishedRuns(tmp_path, min_seconds=10, clock=clock).savepoint("a") as point:
        for now in (5.0, 9.9, 10.0, 12.0, 19.9, 20.5, 30.4, 31.0):
            clock.now = now
            point.save(make)
    assert made == [10.0, 20.5, 31.0]


def test_what_takes_long_to_write_is_written_less_often(tmp_path: Path) -> None:
    clock, made = Clock(), []

    def slow() -> State:
        made.append(clock.now)
        clock.now += 2.0
        return {}

    with UnfinishedRuns(tmp_path, min_seconds=10, clock=clock).savepoint("a") as point:
        while clock.now < 2000:
            clock.now += 1.0
            point.save(slow)
    assert len(made) == 10
    assert 2.0 * len(made) <= MOST_SHARE * 2000
    assert min(later - before for before, later in pairwise(made)) >= 2.0 / MOST_SHARE


def test_what_ends_leaves_nothing_and_what_is_killed_or_interrupted_leaves_its_state(tmp_path: Path) -> None:
    runs = always(tmp_path)
    with runs.savepoint("a") as point:
        point.save(dict)
    assert list(tmp_path.iterdir()) == []
    with dies(ValueError), runs.savepoint("a") as point:
        point.save(dict)
        raise ValueError("pruned")
    assert list(tmp_path.iterdir()) == []
    for error in (Killed, SystemExit, KeyboardInterrupt):
        with dies(error), runs.savepoint("a") as point:
            point.save(dict)
            raise error
        assert states(tmp_path) == ["a"]


def test_errors_that_are_not_final_leave_the_state(tmp_path: Path) -> None:
    runs = always(tmp_path)
    with dies(OSError), runs.savepoint("a", final=ValueError) as point:
        point.save(dict)
        raise OSError("full")
    assert states(tmp_path) == ["a"]
    with dies(ValueError), runs.savepoint("a", final=ValueError) as point:
        point.load()
        raise ValueError("no")
    assert states(tmp_path) == []


def test_an_interrupt_says_whether_there_is_anything_to_go_on_with(tmp_path: Path) -> None:
    said: list[str] = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt as error:
            said.append(str(error))

    def interrupted(act: Callable[[Any], object]) -> str:
        with noting(), always(tmp_path).savepoint("a") as point:
            act(point)
            raise KeyboardInterrupt
        return said[-1]

    assert interrupted(lambda point: point.load()) == ""
    assert interrupted(lambda point: point.save(dict)) == "the same command goes on where it was kept last"
    assert interrupted(lambda point: point.load()) == "the same command goes on where it was kept last"


def test_equal_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    leave(always(tmp_path), "a", {"epoch": 1})
    with always(tmp_path).savepoint("a") as first:
        assert first.load() == {"epoch": 1}
        with always(tmp_path).savepoint("a") as second:
            assert second.load() is None
            second.save(lambda: {"epoch": 7})
        assert states(tmp_path) == ["a"], "the second one deletes nothing of the first"
        assert ArrayCache(tmp_path).load("a") is not None
        first.save(lambda: {"epoch": 2})
    assert list(tmp_path.iterdir()) == []


def test_of_equal_runs_the_first_that_saves_has_the_key_to_its_end(tmp_path: Path) -> None:
    runs = always(tmp_path)
    with dies(), runs.savepoint("a") as late:
        with dies(), runs.savepoint("a") as early:
            early.save(lambda: {"who": "early"})
            late.save(lambda: {"who": "late"})
            raise Killed
        late.save(lambda: {"who": "late"})  # the lock is free, and the state another's
        raise Killed
    assert found(runs, "a") == {"who": "early"}


@pytest.mark.parametrize("damage", ["torn", "empty", "foreign", "other key", "other archive"])
def test_a_file_that_is_not_this_runs_whole_state_is_ignored_and_replaced(
    tmp_path: Path, damage: str
) -> None:
    runs = always(tmp_path)
    leave(runs, "a", {"epoch": 1, "x": torch.ones(100)})
    path = tmp_path / "a.npz"
    content = path.read_bytes()
    if damage == "other key":
        leave(runs, "b", {"epoch": 9})
        (tmp_path / "b.npz").replace(path)
    elif damage == "other archive":
        np.savez(path, weights=np.ones(3))
    else:
        path.write_bytes({"torn": content[:-200], "empty": b"", "foreign": b"a text"}[damage])
    with runs.savepoint("a") as point:
        assert point.load() is None
        point.save(lambda: {"epoch": 2})
        assert found_in(path)
    assert not path.exists()


def found_in(path: Path) -> bool:
    return "tree" in (ArrayCache(path.parent).load(path.stem) or {})


def test_what_was_left_a_week_ago_goes_and_so_does_its_lock(tmp_path: Path) -> None:
    runs = always(tmp_path)
    for key in ("old", "new"):
        leave(runs, key, {})
    for key, days in (("old", 7.1), ("new", 6.9)):
        os.utime(tmp_path / f"{key}.npz", (time.time() - days * DAY,) * 2)
    assert (tmp_path / ".old.lock").exists()
    with runs.savepoint("c"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.lock", "new.npz"]


def test_the_lock_of_a_run_that_is_about_to_write_stays(tmp_path: Path) -> None:
    runs = always(tmp_path)
    with runs.savepoint("a") as point:

        def make() -> State:
            with runs.savepoint("b"):  # sweeps
                assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]
            return {"epoch": 1}

        point.save(make)
        assert states(tmp_path) == ["a"]


def test_the_folder_holds_the_youngest_within_its_bytes(tmp_path: Path) -> None:
    state = {"x": torch.zeros(1000)}
    for place, key in enumerate("abc"):
        leave(always(tmp_path), key, state)
        os.utime(tmp_path / f"{key}.npz", (time.time() - 100 + place,) * 2)
    size = (tmp_path / "a.npz").stat().st_size
    with always(tmp_path, disk_bytes=2 * size + size // 2).savepoint("d"):
        pass
    assert states(tmp_path) == ["b", "c"]


def test_a_state_that_is_larger_than_all_the_room_is_not_written_nor_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> State:
        made.append(1)
        return {"x": torch.zeros(1000)}

    with always(tmp_path, disk_bytes=3999).savepoint("a") as point:
        point.save(make)
        point.save(make)
        assert states(tmp_path) == []
    assert made == [1]


def test_a_folder_that_cannot_be_written_costs_the_keeping_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with always(tmp_path / "file").savepoint("a") as point:
        point.save(dict)
        assert point.load() is None
    assert (tmp_path / "file").read_text() == "not a folder"


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    with UnfinishedRuns(None, min_seconds=0).savepoint("a") as point:
        assert isinstance(point, NullSavepoint)
        point.save(lambda: pytest.fail("nobody asked for it"))
        assert point.load() is None


def test_the_key_holds_every_setting_the_data_the_epochs_and_what_decides_the_numbers(
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
    monkeypatch.setattr(module, "numbers_of", lambda device: "another version")
    keys.append(run_key(tiny_config, tiny_prepared))
    assert len({*keys, key}) == len(keys) + 1
