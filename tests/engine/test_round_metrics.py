from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from painvrl.engine.round_metrics import round_metrics
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared


def test_what_is_given_was_not_recovered(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    settings = tiny_settings | {"environments": {"assignment": "given", "count": 2}}
    result = run(TrainConfig.model_validate(settings), tiny_prepared)
    assert result.rounds
    for report in result.rounds:
        assert "environments/recovered" not in round_metrics(report)


def test_the_environments_that_were_found_are_compared_with_the_planted_ones(
    tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    """Pair by pair, and naming by naming."""
    dataset, train, found = tiny_prepared.dataset, tiny_prepared.train, tiny_result.environments
    assert dataset.truth is not None
    assert found is not None
    everything = dataset.interactions
    drew = dict(
        zip(
            zip(everything.user.tolist(), everything.item.tolist(), strict=True),
            dataset.truth.environment.tolist(),
            strict=True,
        )
    )
    pairs = sorted(zip(train.user.tolist(), train.item.tolist(), strict=True))
    planted = [drew[pair] for pair in pairs]
    label = found.label.tolist()
    count = len(found.sizes)
    assert sorted(set(planted)) == [0, 1]
    best = chance = 0.0
    for zero, one in itertools.permutations(range(count), 2):
        name = {zero: 0, one: 1}
        right = sum(name.get(each) == truth for each, truth in zip(label, planted, strict=True))
        best = max(best, right / len(pairs))
        by_luck = sum(label.count(e) * planted.count(t) for e, t in name.items()) / len(pairs) ** 2
        chance = max(chance, by_luck)
    expected = (best - chance) / (dataset.truth.bayes_accuracy - chance)
    told = round_metrics(tiny_result.rounds[-1])["environments/recovered"]
    assert told == pytest.approx(expected)


def test_what_a_round_does_not_have_is_left_out(tiny_result: RunResult) -> None:
    (report, *_) = tiny_result.rounds
    assert {"environments/recovered", "environments/log_likelihood"} <= set(round_metrics(report))
    bare = replace(report, recovered=float("nan"), log_likelihood=float("nan"))
    assert not {"environments/recovered", "environments/log_likelihood"} & set(round_metrics(bare))
