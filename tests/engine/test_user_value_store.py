from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from painvrl.engine import user_value_store as module
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Completed
from painvrl.engine.training import TrainedJob, UnderSeed
from painvrl.engine.user_value_store import (
    SaveUserValues,
    UserStore,
    from_arrays,
    to_arrays,
    user_values,
)
from painvrl.evaluation.user_values import UserValues
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared

OBJECTIVES = ("iid/ndcg_at_20", "ood/recall_at_10")
KEPT = UserValues(
    users={"iid": np.array([0, 5, 70_000]), "ood_a": np.array([5]), "ood_b": np.array([0, 5])},
    values={
        "iid/ndcg_at_20": np.array([0.1, 0.5, 1 / 3], dtype=np.float32),
        "ood_a/ndcg_at_20": np.array([1.0], dtype=np.float32),
        "ood_b/ndcg_at_20": np.array([0.5, 0.0], dtype=np.float32),
    },
    means={"ood": ("ood_a", "ood_b")},
)
REACHED = {"iid/ndcg_at_20": (0.1 + 0.5 + 1 / 3) / 3, "ood/ndcg_at_20": (1.0 + 0.25) / 2}


@pytest.fixture(scope="module")
def trained(tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult) -> TrainedJob:
    return TrainedJob(
        job=Job(number=7, point={}, config=tiny_config, key="toy"),
        under=(UnderSeed(prepared=tiny_prepared, result=tiny_result),),
        outcome=Completed(metrics=tiny_result.metrics),
    )


def test_the_means_over_users_are_the_metrics_of_the_trial(trained: TrainedJob) -> None:
    kept = user_values(trained.under[0], OBJECTIVES)
    assert set(kept.values) == set(OBJECTIVES)
    assert set(kept.users) == {"iid", "ood"}
    for metric, values in kept.values.items():
        assert values.dtype == np.float32
        assert values.mean(dtype=float) == pytest.approx(trained.outcome.metrics[metric], rel=1e-6)
    for part in trained.under[0].prepared.valid_plan.parts:
        np.testing.assert_array_equal(kept.users[part.name], part.users.numpy())


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    store = UserStore(tmp_path / "users" / "toy")
    store.store(3, KEPT)
    found = store.load("3", REACHED)
    assert found is not None
    assert found.means == KEPT.means
    for kept, stored in ((KEPT.users, found.users), (KEPT.values, found.values)):
        assert kept.keys() == stored.keys()
        for name, array in kept.items():
            np.testing.assert_array_equal(stored[name], array)
            assert stored[name].dtype == array.dtype


def test_the_points_of_a_swept_trial_come_back_each_by_its_name(tmp_path: Path) -> None:
    other = replace(KEPT, values={name: array[::-1] for name, array in KEPT.values.items()})
    store = UserStore(tmp_path)
    store.store(3, [KEPT, other])
    assert len(list(tmp_path.iterdir())) == 1
    for name, kept in (("3.0", KEPT), ("3.1", other)):
        found = store.load(name, REACHED)
        assert found is not None
        for metric, array in kept.values.items():
            np.testing.assert_array_equal(found.values[metric], array)
    assert store.load("3", REACHED) is None, "a swept trial has no values of its own"
    assert store.load("3.2", REACHED) is None
    store.store(4, KEPT)
    assert store.load("4.0", REACHED) is None


def test_many_points_are_loaded_as_one_by_one_and_each_file_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(KEPT, values={name: array[::-1] for name, array in KEPT.values.items()})
    store = UserStore(tmp_path)
    store.store(3, [KEPT, other])
    store.store(4, KEPT)
    asked = [(name, REACHED) for name in ("3.0", "3.1", "3.2", "4", "5")]
    alone = [store.load(*one) for one in asked]
    read: list[str] = []
    load = module.ArrayCache.load
    monkeypatch.setattr(module.ArrayCache, "load", lambda self, key: (read.append(key), load(self, key))[1])
    together = list(store.load_each(asked))
    assert read == ["3", "4", "5"]
    assert (
        [one is None for one in together]
        == [one is None for one in alone]
        == [False, False, True, False, True]
    )
    for one, same in zip(together, alone, strict=True):
        if one is not None and same is not None:
            for metric, array in same.values.items():
                np.testing.assert_array_equal(one.values[metric], array)


@pytest.mark.parametrize("wrong", ["iid/ndcg_at_20", "ood/ndcg_at_20", "ood/recall_at_20"])
def test_a_file_whose_means_are_not_those_of_the_trial_is_not_its_own(tmp_path: Path, wrong: str) -> None:
    store = UserStore(tmp_path)
    store.store(3, KEPT)
    assert store.load("3", {**REACHED, wrong: 0.25}) is None


def test_what_is_not_there_or_damaged_is_nothing(tmp_path: Path) -> None:
    store = UserStore(tmp_path)
    assert store.load("0", REACHED) is None
    store.store(0, KEPT)
    path = tmp_path / "0.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert store.load("0", REACHED) is None
    arrays = to_arrays(KEPT)
    assert from_arrays({name: array for name, array in arrays.items() if name != "means"}) is None
    assert from_arrays({**arrays, "means": np.frombuffer(b"[1]", dtype=np.uint8)}) is None


def test_a_trial_keeps_its_users_under_its_number(trained: TrainedJob, tmp_path: Path) -> None:
    keep = SaveUserValues(folder=tmp_path, objectives=OBJECTIVES)
    keep(trained)
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["7.npz"]
    reached = {name: trained.outcome.metrics[name] for name in OBJECTIVES}
    assert UserStore(tmp_path / "toy").load("7", reached) is not None


def test_a_part_too_large_is_not_kept(trained: TrainedJob, tmp_path: Path) -> None:
    users = sum(len(part.users) for part in trained.under[0].prepared.valid_plan.parts)
    keep = SaveUserValues(folder=tmp_path, objectives=OBJECTIVES, max_users=users)
    replace(keep, max_users=users - 1)(trained)
    assert not (tmp_path / "toy").exists()
    keep(trained)
    assert (tmp_path / "toy" / "7.npz").exists()


def test_a_folder_that_cannot_be_written_costs_no_trial(trained: TrainedJob, tmp_path: Path) -> None:
    (tmp_path / "toy").write_text("a file where the folder should be")
    SaveUserValues(folder=tmp_path, objectives=OBJECTIVES)(trained)
    assert (tmp_path / "toy").read_text() == "a file where the folder should be"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), OSError(28)])
def test_users_that_cannot_be_scored_again_cost_no_trial(
    trained: TrainedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "judged_users", full)
    SaveUserValues(folder=tmp_path, objectives=OBJECTIVES)(trained)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_users_are_scored_stays_one(
    trained: TrainedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "judged_users", interrupt)
    with pytest.raises(KeyboardInterrupt):
        SaveUserValues(folder=tmp_path, objectives=OBJECTIVES)(trained)


def test_a_user_costs_four_bytes_and_four_more_for_each_objective(tmp_path: Path) -> None:
    users, part = 50_000, "iid"
    names = [f"{part}/{metric}_at_20" for metric in ("recall", "ndcg")]
    values = {name: np.zeros(users, dtype=np.float32) for name in names}
    UserStore(tmp_path).store(0, UserValues(users={part: np.arange(users)}, values=values))
    expected = users * 4 * (1 + len(names))
    assert expected <= (tmp_path / "0.npz").stat().st_size <= expected + 2_000


def test_values_of_an_earlier_version_are_found_by_the_names_of_today() -> None:
    arrays = to_arrays(replace(KEPT, values={"iid/ndcg_invrl_at_20": KEPT.values["iid/ndcg_at_20"]}))
    before = {key.replace("ndcg_invrl", "ndcg_legacy"): array for key, array in arrays.items()}
    assert before.keys() != arrays.keys()
    found = from_arrays(before)
    assert found is not None
    assert set(found.values) == {"iid/ndcg_invrl_at_20"}
