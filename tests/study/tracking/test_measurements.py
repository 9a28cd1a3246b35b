from __future__ import annotations

from painvrl.engine.outcomes import Completed, CurvePoint
from painvrl.study.tracking.measurements import Measurement, of_outcome, of_split


def test_an_outcome_is_measured_once_by_round_and_by_epoch() -> None:
    outcome = Completed(
        metrics={"iid/ndcg_at_20": 0.5},
        rounds=({"mask/density": 0.6}, {"mask/density": 0.4}),
        curves=(
            CurvePoint(
                curve="pretrain", step=10, values={"loss": 2.0, "iid/ndcg_at_20": 0.1, "ood/ndcg_at_5": 9.0}
            ),
        ),
        seconds={"mask": 1.5, "pretrain": 2.5},
        epochs={"pretrain": 40},
        peak_memory_mib=512.5,
    )
    assert [(each.name, each.value, each.step) for each in of_outcome(outcome, {"iid/ndcg_at_20"})] == [
        ("iid/ndcg_at_20", 0.5, 0),
        ("seconds/mask", 1.5, 0),
        ("seconds/pretrain", 2.5, 0),
        ("seconds/total", 4.0, 0),
        ("epochs/pretrain", 40.0, 0),
        ("peak_memory_mib", 512.5, 0),
        ("mask/density", 0.6, 1),
        ("mask/density", 0.4, 2),
        ("training/pretrain/loss", 2.0, 10),
        ("training/pretrain/iid/ndcg_at_20", 0.1, 10),
    ]


def test_a_peak_that_nobody_measured_is_not_logged() -> None:
    names = [each.name for each in of_outcome(Completed(metrics={"iid/ndcg_at_20": 0.5}), ())]
    assert "peak_memory_mib" not in names


def test_a_statistics_is_measured_by_the_path_of_its_numbers() -> None:
    statistics = {
        "protocol": "planted",
        "users": 60,
        "dropped": False,
        "parts": [{"name": "train", "users": 60}, {"name": "iid_valid", "users": 5}],
        "shares": [0.1, 0.2],
    }
    assert list(of_split(statistics)) == [
        Measurement(name="split/users", value=60.0),
        Measurement(name="split/parts/train/users", value=60.0),
        Measurement(name="split/parts/iid_valid/users", value=5.0),
    ]
