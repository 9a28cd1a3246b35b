from __future__ import annotations

import math

import pytest

from painvrl.engine.mask_trace import MAX_POINTS, thinned
from painvrl.engine.outcomes import Completed
from painvrl.invariance.mask import MEASURED
from painvrl.study.store.storage import OUTCOME
from painvrl.study.tracking.measurements import of_outcome


def trace(*epsilon: float) -> dict[str, tuple[float, ...]]:
    steps = tuple(float(step) for step in range(len(epsilon)))
    columns = (steps, tuple(-step for step in steps), epsilon, epsilon)
    return dict(zip(MEASURED, columns, strict=True))


def test_few_steps_are_kept_as_they_are() -> None:
    assert list(thinned([trace(0.25, 0.5), trace(1.0)])) == [
        {"round": 1.0, "step": 0.0, "epsilon": 0.25, "cosine": 0.25, "risk": 0.0, "penalty": 0.0},
        {"round": 1.0, "step": 1.0, "epsilon": 0.5, "cosine": 0.5, "risk": 1.0, "penalty": -1.0},
        {"round": 2.0, "step": 0.0, "epsilon": 1.0, "cosine": 1.0, "risk": 0.0, "penalty": 0.0},
    ]


def test_many_steps_become_means_of_stretches_that_cover_every_step_once() -> None:
    points = list(thinned([trace(*[0.5] * 50)]))
    assert len(points) == MAX_POINTS
    ends = [int(point["step"]) for point in points]
    assert ends[-1] == 49
    starts = [0, *(end + 1 for end in ends[:-1])]
    for start, end, point in zip(starts, ends, points, strict=True):
        assert 2 <= end - start + 1 <= 3
        assert point["risk"] == pytest.approx((start + end) / 2)
        assert point["penalty"] == pytest.approx(-(start + end) / 2)
        assert point["epsilon"] == 0.5


def test_a_stretch_that_is_not_finite_is_left_out() -> None:
    assert [point["step"] for point in thinned([trace(0.1, math.nan, 0.3, math.inf)])] == [0.0, 2.0]


def test_the_trace_survives_the_storage_and_an_old_outcome_reads_without_one() -> None:
    outcome = Completed(metrics={"iid/ndcg_at_20": 0.5}, mask_trace=tuple(thinned([trace(0.25, 0.5)])))
    stored = OUTCOME.dump_python(outcome, mode="json")
    assert OUTCOME.validate_python(stored) == outcome
    del stored["mask_trace"]
    assert OUTCOME.validate_python(stored) == Completed(metrics={"iid/ndcg_at_20": 0.5})


def test_a_tracker_sees_the_trace_by_round_and_step() -> None:
    outcome = Completed(metrics={}, mask_trace=tuple(thinned([trace(0.25, 0.5), trace(1.0)])))
    seen = {(one.name, one.step): one.value for one in of_outcome(outcome, ())}
    assert seen["training/mask_1/epsilon", 1] == 0.5
    assert seen["training/mask_1/penalty", 1] == -1.0
    assert seen["training/mask_2/cosine", 0] == 1.0
    assert len([name for name, _ in seen if name.startswith("training/")]) == 12
