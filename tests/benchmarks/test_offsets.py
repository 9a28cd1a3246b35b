"""Which offsets the baselines need."""

from __future__ import annotations

import pytest


def test_each_offset_is_the_one_that_adds_most_area_in_the_mean() -> None:
    from benchmarks.offsets import ALL, chosen, covered
    from painvrl.baselines.offsets import GRID, Offset

    plain, first, second = Offset(), ALL[7], ALL[20]
    one = dict.fromkeys(ALL, (0.0, 0.0)) | {plain: (0.4, 0.1), first: (0.2, 0.4), second: (0.1, 0.5)}
    other = dict.fromkeys(ALL, (0.0, 0.0)) | {plain: (0.4, 0.1), second: (0.5, 0.1)}
    # By hand: the plain point has 0.04; the first adds 0.06 to it, the second then 0.01.
    assert covered(one, [plain]) == pytest.approx(0.04 / 0.11)
    assert covered(one, [plain, first]) == pytest.approx(0.10 / 0.11)
    assert covered(other, [plain]) == pytest.approx(0.8)
    # One by one: the first adds 0.06 / 0.11 and nothing, the second 0.04 / 0.11 and 0.2.
    assert chosen([one, other], 3) == [plain, second, first]
    assert chosen([one], 2) == [plain, first]
    assert set(GRID) <= set(ALL), "or the share in use cannot be reported"
