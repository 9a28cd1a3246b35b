"""Metrics of all users' lists together: coverage, Gini, the worst group."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import validated
from painvrl.data.dataset import Columns
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.evaluation.metrics import METRICS
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import (
    DotProducts,
    RankingPlan,
    evaluate,
    evaluate_users,
    plan_ranking,
    some_users,
)
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec, check_spec
from painvrl.study.runner import run_study
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.port import NullTracker

KS = (1, 3, 6)


class World:
    """Two parts with different candidates, hidden rows, labels, and scores without ties."""

    def __init__(self, seed: int, n_users: int = 12, n_items: int = 9) -> None:
        rng = np.random.default_rng(seed)
        role = rng.choice(4, size=(n_users, n_items), p=[0.5, 0.2, 0.2, 0.1])  # neither, one, other, hidden
        role[0, :2] = 1, 2
        self.role = role
        self.candidates = {"iid": np.arange(n_items) > 0, "ood": np.arange(n_items) < n_items - 2}
        for number, part in enumerate(self.candidates, start=1):
            self.candidates[part] |= (role == number).any(axis=0)
        self.columns = Columns(
            user={"sex": np.array(["f", "m", ""], dtype=object)[rng.integers(0, 3, n_users)]},
            item={"genre": np.array(["war", "love", ""], dtype=object)[rng.integers(0, 3, n_items)]},
        )
        self.users, self.items = rng.standard_normal((n_users, 4)), rng.standard_normal((n_items, 4))
        self.vectors = torch.from_numpy(self.users), torch.from_numpy(self.items)

    def pairs(self, number: int) -> Interactions:
        user, item = (torch.from_numpy(each) for each in np.nonzero(self.role == number))
        return Interactions(user=user, item=item, n_users=len(self.users), n_items=len(self.items))

    def plan(self, *also: object, cells: int = 2**20) -> RankingPlan:
        parts = [
            Part(name=name, interactions=self.pairs(number), candidates=torch.from_numpy(candidates))
            for number, (name, candidates) in enumerate(self.candidates.items(), start=1)
        ]
        config = EvaluationConfig.model_validate({"ks": KS, "block_cells": cells, "also": also})
        return plan_ranking(parts, [self.pairs(3)], config, torch.device("cpu"), self.columns)

    def lists(self, part: str) -> dict[int, list[int]]:
        """What each user of the part is shown, item by item."""
        number = 1 + list(self.candidates).index(part)
        return {
            int(user): sorted(
                (
                    int(item)
                    for item in np.flatnonzero(self.candidates[part])
                    if self.role[user, item] in {0, number}
                ),
                key=lambda item, user=user: -math.fsum(self.users[user] * self.items[item]),  # type: ignore[misc]
            )
            for user in np.flatnonzero((self.role == number).any(axis=1))
        }

    def positives(self, part: str, user: int) -> set[int]:
        return set(np.flatnonzero(self.role[user] == 1 + list(self.candidates).index(part)).tolist())


def ndcg(shown: Sequence[int], positives: set[int], k: int) -> float:
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(shown[:k]) if item in positives)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(len(positives), k)))


@pytest.mark.parametrize("cells", [1, 40, 2**20])
@pytest.mark.parametrize("seed", range(4))
def test_coverage_and_gini_equal_those_of_lists_sorted_one_by_one(seed: int, cells: int) -> None:
    world = World(seed)
    values = evaluate(world.plan("coverage", "gini_diversity", cells=cells), *world.vectors)
    for part, candidates in world.candidates.items():
        for k in KS:
            often = Counter(item for shown in world.lists(part).values() for item in shown[:k])
            counts = [often[item] for item in np.flatnonzero(candidates)]
            assert values[f"{part}/coverage_at_{k}"] == sum(map(bool, counts)) / len(counts)
            # The Gini index is half of the relative mean difference.
            apart = sum(abs(one - other) for one in counts for other in counts) / len(counts) ** 2
            gini = apart / (2 * sum(counts) / len(counts))
            assert values[f"{part}/gini_diversity_at_{k}"] == pytest.approx(1 - gini, abs=1e-12)


@pytest.mark.parametrize("of", ["user", "item"])
@pytest.mark.parametrize("seed", range(4))
def test_the_worst_group_is_the_one_whose_users_fare_worst(seed: int, of: str) -> None:
    world, column = World(seed), {"user": "sex", "item": "genre"}[of]
    also = {"name": "worst_group_ndcg", "column": column, "of": of, "min_users": 2}
    values = evaluate(world.plan(also), *world.vectors)
    labels = (world.columns.user if of == "user" else world.columns.item)[column]
    for part in world.candidates:
        for k in KS:
            means = []
            for label in set(labels) - {""}:
                of_users = []
                for user, shown in world.lists(part).items():
                    positives = world.positives(part, user)
                    if of == "item":
                        positives = {item for item in positives if labels[item] == label}
                    if positives and (of == "item" or labels[user] == label):
                        of_users.append(ndcg(shown, positives, k))
                if len(of_users) >= 2:
                    means.append(sum(of_users) / len(of_users))
            assert values[f"{part}/worst_group_ndcg_at_{k}"] == pytest.approx(min(means), abs=1e-12)


def test_what_is_measured_besides_changes_no_standard_metric() -> None:
    world = World(0)
    plain, more = (evaluate(world.plan(*also), *world.vectors) for also in ((), ("coverage",)))
    assert {name: more[name] for name in plain} == plain
    assert set(more) - set(plain) == {f"{part}/coverage_at_{k}" for part in world.candidates for k in KS}
    judged = evaluate_users(world.plan("coverage"), DotProducts(*world.vectors))
    assert all(
        "coverage" not in each.values and each.whole.keys() == {"coverage"} for each in judged.values()
    )


def test_the_lists_take_no_time_where_nobody_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from painvrl.evaluation import ranking

    def asked(*_: object) -> Tensor:
        raise AssertionError("the items were selected")

    monkeypatch.setattr(ranking, "_top_columns", asked)
    world = World(0)
    evaluate(world.plan({"name": "worst_group_ndcg", "column": "sex", "min_users": 1}), *world.vectors)
    with pytest.raises(AssertionError, match="selected"):
        evaluate(world.plan("coverage"), *world.vectors)


def test_a_column_that_the_data_do_not_have_is_refused_before_anything_is_ranked() -> None:
    with pytest.raises(ConfigError, match=r"no such column of users; they have sex \(found 'age'\)"):
        World(0).plan({"name": "worst_group_ndcg", "column": "age"})


def test_groups_that_are_all_too_small_are_an_error() -> None:
    with pytest.raises(ConfigError, match="no group of 'sex' has 20 users"):
        evaluate(World(0).plan({"name": "worst_group_ndcg", "column": "sex"}), *World(0).vectors)


def test_the_size_of_a_group_is_that_in_the_whole_part() -> None:
    world = World(0)
    of_some = some_users(world.plan({"name": "worst_group_ndcg", "column": "sex", "min_users": 3}), 2)
    assert all(0 < value <= 1 for value in evaluate(of_some, *world.vectors).values() if value)


def test_a_study_says_where_to_add_a_metric_that_it_does_not_measure(tiny_config: TrainConfig) -> None:
    content = study(tiny_config, "ood/coverage_at_20")
    with pytest.raises(ConfigError, match=r"add coverage to config\.evaluation\.also"):
        check_spec(validated(StudySpec, content))
    content["config"]["evaluation"]["also"] = ["coverage"]
    check_spec(validated(StudySpec, content))


def study(config: TrainConfig, *objectives: str) -> dict[str, Any]:
    return {
        "study": {"name": "more", "trials": 2, "sampler": "random"},
        "objectives": objectives,
        "config": config.model_dump(mode="json"),
        "presets": [],
        "pruning": False,
        "space": {"mask.sparsity": {"type": "float", "low": 0.1, "high": 0.8}},
    }


def test_a_study_searches_for_what_all_lists_are_like(tiny_config: TrainConfig, tmp_path: Path) -> None:
    content = study(tiny_config, "ood/ndcg_at_20", "iid/coverage_at_20")
    content["config"]["evaluation"]["also"] = ["coverage", "gini_diversity"]
    run_study(validated(StudySpec, content), Workspace(tmp_path), torch.device("cpu"), tracker=NullTracker())
    stored = open_study("more", Workspace(tmp_path))
    for record in stored.trials():
        assert record.values == tuple(record.metrics[name] for name in content["objectives"])
        assert 0 < record.metrics["iid/gini_diversity_at_20"] < record.metrics["iid/coverage_at_20"] <= 1


def test_a_metric_that_did_not_ask_for_the_items_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    measure = METRICS.get("ndcg").at

    def spied(self: Any, shown: Any) -> Any:
        seen.append(shown.items)
        return measure(self, shown)

    monkeypatch.setattr(METRICS.get("ndcg"), "at", spied)
    world = World(0)
    evaluate(world.plan(), *world.vectors)
    assert seen
    assert all(items is None for items in seen)
    seen.clear()
    evaluate(world.plan("coverage"), *world.vectors)
    assert all(items is not None and items.shape[1] > 0 for items in seen)
