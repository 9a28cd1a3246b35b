from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from painvrl.study.comparison.indicators import additive_epsilon, coverage

A = [[4.0, 1.0], [3.0, 3.0], [1.0, 4.0]]
B = [[4.0, 1.0], [2.0, 2.0], [1.0, 5.0], [3.5, 2.0]]

FRONTS = st.integers(1, 4).flatmap(
    lambda width: st.tuples(
        *(
            hnp.arrays(
                float, st.tuples(st.integers(1, 8), st.just(width)), elements=st.sampled_from([0.1, 0.4, 0.9])
            )
            for _ in range(2)
        )
    )
)
EXAMPLES = settings(max_examples=60, deadline=None)


def test_coverage_by_hand() -> None:
    assert coverage(A, B) == 0.5  # an equal point and a dominated one
    assert coverage(B, A) == pytest.approx(2 / 3)  # (3, 3) is nobody's
    assert coverage(A, A) == 1.0


def test_epsilon_by_hand() -> None:
    assert additive_epsilon(A, B) == 1.0  # (1, 4) needs 1 for (1, 5)
    assert additive_epsilon(B, A) == 1.0  # (2, 2) and (3.5, 2) need 1 for (3, 3)
    assert additive_epsilon([[2.0, 2.0]], [[1.0, 1.5]]) == -0.5  # with that much to spare


@EXAMPLES
@given(FRONTS)
def test_epsilon_is_that_of_moocore(fronts: tuple[np.ndarray, np.ndarray]) -> None:
    import moocore  # comes with pymoo

    mine, reference = fronts
    expected = moocore.epsilon_additive(mine, ref=reference, maximise=True)
    assert additive_epsilon(mine, reference) == pytest.approx(expected, abs=1e-12)


@EXAMPLES
@given(FRONTS)
def test_a_front_that_gets_what_it_lacks_covers_the_other_and_with_less_does_not(
    fronts: tuple[np.ndarray, np.ndarray],
) -> None:
    mine, other = fronts
    lacks = additive_epsilon(mine, other)
    assert coverage(mine + lacks + 1e-9, other) == 1.0
    assert coverage(mine + lacks - 1e-9, other) < 1.0
