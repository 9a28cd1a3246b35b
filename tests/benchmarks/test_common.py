from __future__ import annotations

import pytest


def test_paired_interval_is_students_for_five_seeds() -> None:
    from benchmarks.common import paired_interval

    # Gaps 1, 2, 3, 4, 5: mean 3, deviation sqrt(2.5), error sqrt(0.5), t(4) = 2.776.
    mean, low, high = paired_interval([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == pytest.approx(3.0)
    assert low == pytest.approx(3.0 - 2.776 * 0.5**0.5)
    assert high == pytest.approx(3.0 + 2.776 * 0.5**0.5)
