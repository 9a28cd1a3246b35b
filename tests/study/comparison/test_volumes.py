from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from painvrl.study.comparison import volumes
from painvrl.study.comparison.volumes import hypervolumes
from painvrl.study.front import hypervolume

SETS = st.integers(1, 5).flatmap(
    lambda width: hnp.arrays(
        float,
        st.tuples(st.integers(0, 3), st.integers(0, 8), st.just(width)),
        elements=st.one_of(
            st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, np.nan, np.inf, -np.inf]), st.floats(0.01, 2.0)
        ),
    )
)


@settings(max_examples=100, deadline=None)
@given(SETS)
def test_every_set_has_the_volume_that_it_has_alone(values: np.ndarray) -> None:
    expected = [hypervolume(points) for points in values]
    assert hypervolumes(values).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_fronts_of_different_sizes_agree_with_pymoo(width: int) -> None:
    from pymoo.indicators.hv import HV

    rng = np.random.default_rng(width)
    values = rng.random((12, 18, width)) + 0.01
    values[:6] /= np.linalg.norm(values[:6], axis=2, keepdims=True)  # nobody dominates anybody
    by_pymoo = [float(HV(ref_point=np.zeros(width))(-points)) for points in values]
    assert hypervolumes(values).tolist() == pytest.approx(by_pymoo, rel=1e-10)


def test_the_size_of_a_block_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((9, 7, 4))
    whole = hypervolumes(values)
    monkeypatch.setattr(volumes, "_CELLS", 1)
    np.testing.assert_array_equal(hypervolumes(values), whole)


def test_a_zero_takes_a_point_out() -> None:
    values = np.array([[[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]]).repeat(2, axis=0)
    values[1, 1] = 0.0
    assert hypervolumes(values).tolist() == [6.0, 5.0]
