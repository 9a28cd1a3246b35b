from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from painvrl.data.digest import digest_of
from painvrl.engine.job import DataSummary
from painvrl.engine.outcomes import Completed, CurvePoint, SweptPoint
from painvrl.engine.saved import RunStore, SavedRun, run_key
from painvrl.run.config import TrainConfig

RUN = SavedRun(
    outcome=Completed(
        metrics={"iid/ndcg_at_20": 0.1 + 0.2, "ood/ndcg_at_20": 1 / 3},
        rounds=({"mask/risk": 0.5},),
        curves=(CurvePoint(curve="pretrain", step=3, values={"loss": 1.0}),),
        seconds={"pretrain": 1.5},
        epochs={"pretrain": 6},
    ),
    users={"iid": np.array([0, 5, 70_000]), "ood": np.array([5])},
    means={"ood": ("ood_a", "ood_b")},
    values={
        "iid/ndcg_at_20": np.array([0.1, 0.5, 1 / 3], dtype=np.float32),
        "ood/ndcg_at_20": np.array([1.0], dtype=np.float32),
    },
)


def test_a_run_comes_back_as_it_was_without_its_curves(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    store.store("key", RUN)
    found = store.load("key")
    assert found is not None
    assert found.outcome.metrics == RUN.outcome.metrics  # to the last digit
    assert (found.outcome.rounds, found.outcome.seconds) == (RUN.outcome.rounds, RUN.outcome.seconds)
    assert found.outcome.epochs == {"pretrain": 6}
    assert found.outcome.curves == ()
    assert found.means == {"ood": ("ood_a", "ood_b")}
    for kept, stored in ((RUN.users, found.users), (RUN.values, found.values)):
        assert kept.keys() == stored.keys()
        for name, array in kept.items():
            np.testing.assert_array_equal(stored[name], array)
            assert stored[name].dtype == array.dtype


def test_what_is_not_there_or_damaged_is_nothing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.load("key") is None
    store.store("key", RUN)
    content = (tmp_path / "key.npz").read_bytes()
    (tmp_path / "key.npz").write_bytes(content[:-200])
    assert store.load("key") is None
    np.savez(tmp_path / "other.npz", outcome=np.frombuffer(b"{}", dtype=np.uint8))
    np.savez(tmp_path / "another.npz", values=np.zeros(3))
    assert store.load("other") is None
    assert store.load("another") is None
    store.store("key", RUN)
    with np.load(tmp_path / "key.npz") as arrays:
        np.savez(tmp_path / "older.npz", **{name: arrays[name] for name in arrays if name != "means"})
    assert store.load("older") is None


def test_a_key_holds_all_that_decides_a_run(tiny_config: TrainConfig) -> None:
    other = tiny_config.model_copy(update={"seed": 1})
    data = DataSummary(fingerprint="seed 0", all_seeds="data", numbers="code and device")
    keys = [
        run_key(tiny_config, data, ("ndcg",), 20),
        run_key(other, data, ("ndcg",), 20),
        run_key(tiny_config, replace(data, all_seeds="more"), ("ndcg",), 20),
        run_key(tiny_config, replace(data, numbers="other code"), ("ndcg",), 20),
        run_key(tiny_config, data, ("ndcg", "recall"), 20),
        run_key(tiny_config, data, ("ndcg",), 10),
    ]
    assert len(set(keys)) == 6
    assert run_key(tiny_config.model_copy(), data, ("ndcg",), 20) == keys[0]
    assert run_key(tiny_config, replace(data, fingerprint="seed 1"), ("ndcg",), 20) == keys[0]


def test_a_run_of_some_points_never_passes_for_one_of_others(tiny_config: TrainConfig) -> None:
    data = DataSummary(fingerprint="seed 0", all_seeds="data", numbers="code and device")
    one, two = {"fusion.cold_weight": 0.0}, {"fusion.cold_weight": 0.5}
    points = ((), ({},), (one,), (two,), (one, two), (two, one))
    keys = [run_key(tiny_config, data, (), 0, each) for each in points]
    assert len(set(keys)) == len(points)
    assert run_key(tiny_config, data, (), 0, [dict(one), dict(two)]) == keys[4]


def test_without_points_a_key_is_what_it_was_before_there_were_any(tiny_config: TrainConfig) -> None:
    data = DataSummary(fingerprint="seed 0", all_seeds="data", numbers="code and device")
    before = digest_of(tiny_config.model_dump(mode="json"), "data", "code and device", ["ndcg"], 20)
    assert run_key(tiny_config, data, ("ndcg",), 20) == before


def test_the_points_of_a_run_come_back_in_their_order(tmp_path: Path) -> None:
    points = tuple(
        SweptPoint(values={"fusion.cold_weight": weight}, metrics={"iid/ndcg_at_20": weight / 3})
        for weight in (0.5, -0.25, 0.1)
    )
    store = RunStore(tmp_path)
    store.store("key", replace(RUN, outcome=replace(RUN.outcome, points=points)))
    found = store.load("key")
    assert found is not None
    assert found.outcome.points == points
