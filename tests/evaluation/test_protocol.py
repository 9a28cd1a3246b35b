from __future__ import annotations

import pytest
from pydantic import ValidationError

from painvrl.evaluation.protocol import EvaluationConfig


def test_cutoffs_are_sorted() -> None:
    assert EvaluationConfig(ks=(20, 5, 10)).ks == (5, 10, 20)


@pytest.mark.parametrize(
    ("ks", "rule"),
    [
        ((), "at least one cut-off"),
        ((5, 5), "must not name a cut-off twice"),
        ((0,), "greater than or equal to 1"),
        ((1001,), "less than or equal to 1000"),
    ],
)
def test_a_cutoff_that_means_nothing_is_refused(ks: tuple[int, ...], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        EvaluationConfig(ks=ks)


def test_a_block_holds_at_least_one_cell() -> None:
    with pytest.raises(ValidationError, match="block_cells"):
        EvaluationConfig(block_cells=0)
