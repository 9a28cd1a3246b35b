"""A study under faults at fixed moments comes to what a calm one comes to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.faults import FAULTS, Fault, compare, schedule


def test_a_schedule_has_all_kinds_in_an_order_that_hangs_on_its_seed() -> None:
    many = schedule(2 * len(FAULTS), 0)
    assert Counter(fault.kind for fault in many) == dict.fromkeys(FAULTS, 2)
    assert many == schedule(2 * len(FAULTS), 0) != schedule(2 * len(FAULTS), 1)
    assert [fault.after for fault in many] == sorted({fault.after for fault in many})
    assert {fault.kept for fault in many} == {True, False}


@pytest.mark.slow
def test_each_trial_is_finished_once_with_the_values_of_a_calm_study(tmp_path: Path) -> None:
    faults = (
        Fault(kind="worker killed", after=1, stage="round 1: mask"),
        Fault(kind="terminated while a worker is stopped", after=1, stage="round 1: mask", kept=False),
        Fault(kind="worker killed", after=1, stage="leave out"),
        Fault(kind="connection lost", after=1, stage="invariant"),
        Fault(kind="study killed", after=1, stage="leave out", kept=False),
    )
    calm, disturbed, codes = compare(tmp_path, 3, 2, faults)
    assert codes == [130, 130, -9, 0]
    assert disturbed.values == calm.values
    assert len(disturbed.values) == len({point for point, _ in disturbed.values}) == 3
    assert disturbed.agree
    assert disturbed.runs == {"FINISHED": 3}
    assert set(disturbed.states) == {"complete", "interrupted"}
    assert disturbed.left == 0
