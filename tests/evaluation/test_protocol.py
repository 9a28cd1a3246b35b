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


def test_what_measures_nothing_else_is_written_as_before_there_was_more() -> None:
    assert EvaluationConfig().model_dump() == {"ks": (5, 10, 20, 50), "block_cells": 2**22}
    more = EvaluationConfig.model_validate(
        {"also": ["coverage", {"name": "worst_group_ndcg", "column": "sex"}]}
    )
    assert more.names[-2:] == ("coverage", "worst_group_ndcg")
    assert EvaluationConfig.model_validate(more.model_dump(mode="json")) == more


@pytest.mark.parametrize("also", [["coverage", "coverage"], ["recall"]])
def test_a_metric_is_measured_once(also: list[str]) -> None:
    with pytest.raises(ValidationError, match="must not name a metric twice"):
        EvaluationConfig.model_validate({"also": also})


def test_a_metric_that_is_not_measured_is_refused_with_the_remedy() -> None:
    EvaluationConfig().check_measured("recall")
    with pytest.raises(ValueError, match=r"add coverage to evaluation\.also"):
        EvaluationConfig().check_measured("coverage")
    with pytest.raises(ValueError, match="must name a metric; known: recall"):
        EvaluationConfig().check_measured("accuracy")
