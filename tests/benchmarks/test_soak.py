"""A long study, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import Look, growth, soak


@pytest.mark.slow
def test_a_study_opens_no_files_that_it_does_not_close(tmp_path: Path) -> None:
    looks = list(soak(12, 2, tmp_path))
    assert [look.trials for look in looks] == [2, 4, 6, 8, 10, 12]
    assert looks[-1].files <= looks[1].files + 2
    assert looks[-1].threads <= looks[1].threads + 1


def test_growth_is_that_of_the_second_half() -> None:
    looks = [
        Look(trials=100 * place, seconds=0.0, memory_mib=500.0 + 2 * max(0, place - 4), threads=3, files=9)
        for place in range(9)
    ]
    found = growth(looks)
    assert found == pytest.approx({"memory_mib": 20.0, "threads": 0.0, "files": 0.0}, abs=1e-9)
