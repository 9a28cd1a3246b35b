from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from painvrl.config import TrainConfig
from painvrl.pipeline import RunResult, run
from painvrl.prepare import Prepared
from painvrl.study.trial.round_metrics import round_metrics


def test_the_true_environments_are_recovered_whole(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    settings = tiny_settings | {"environments": {"assignment": "given", "count": 2}}
    result = run(TrainConfig.model_validate(settings), tiny_prepared)
    truth = tiny_prepared.dataset.truth
    assert truth is not None
    for report in result.rounds:
        sizes = [size / sum(report.environment_sizes) for size in report.environment_sizes]
        chance = sum(size**2 for size in sizes)  # of labels of these sizes that know nothing
        told = round_metrics(report)["environments/recovered"]
        assert told == pytest.approx((1 - chance) / (truth.bayes_accuracy - chance))


def test_what_a_round_does_not_have_is_left_out(tiny_result: RunResult) -> None:
    (report, *_) = tiny_result.rounds
    assert {"environments/recovered", "environments/log_likelihood"} <= set(round_metrics(report))
    bare = replace(report, recovered=float("nan"), log_likelihood=float("nan"))
    assert not {"environments/recovered", "environments/log_likelihood"} & set(round_metrics(bare))
