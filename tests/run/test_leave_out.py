"""What a configuration is worth on an environment that its training lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from painvrl.core.errors import ConfigError
from painvrl.data.grouping import known_groups
from painvrl.evaluation.ranking import evaluate
from painvrl.run.config import TrainConfig
from painvrl.run.leave_out import leave_out
from painvrl.run.pipeline import RunResult, reweighed, run
from painvrl.run.prepare import Prepared, prepare, prepare_split
from painvrl.run.state import RunState

CPU = torch.device("cpu")


@pytest.fixture
def settings(tiny_settings: dict[str, Any]) -> dict[str, Any]:
    return tiny_settings | {
        "environments": {"assignment": "column", "column": {"column": "popularity", "bins": 3}},
        "evaluation": {"loeo": True},
    }


@pytest.fixture
def config(settings: dict[str, Any]) -> TrainConfig:
    return TrainConfig.model_validate(settings)


@pytest.fixture
def result(config: TrainConfig, tiny_prepared: Prepared) -> RunResult:
    return run(config, tiny_prepared)


def test_the_metrics_are_the_means_over_the_environments(result: RunResult) -> None:
    assert result.left_out is not None
    assert len(result.left_out.models) == 3
    fusion = result.config.fusion
    each = [evaluate(plan, *parts.weighed(fusion)) for parts, plan in result.left_out.models]
    for name in ("loeo/ndcg_at_20", "loeo/recall_at_5"):
        assert result.metrics[name] == pytest.approx(sum(found[name] for found in each) / 3, rel=1e-6)
    assert {name for name in result.metrics if name.startswith("loeo/")} == set(each[0])


def test_each_environment_is_ranked_by_a_model_that_never_saw_its_rows(
    config: TrainConfig, tiny_prepared: Prepared, result: RunResult
) -> None:
    """Whole items are left out here, so the degree that a model knows of them is none."""
    train = tiny_prepared.train
    groups = known_groups(tiny_prepared.dataset, train, config.environments.column, config.seed)
    assert result.left_out is not None
    for index, (parts, plan) in enumerate(result.left_out.models):
        left = train.item[groups.label == index]
        assert not bool(parts.degree[left].any())
        kept = train.item[groups.label != index]
        assert bool((parts.degree[kept] > 0).all())
        asked = sum(int((block.positives[0] >= 0).sum()) for block in plan.blocks)
        users = set(train.user[groups.label != index].tolist())
        inside = groups.label == index
        assert asked == sum(user in users for user in train.user[inside].tolist())


def test_the_ood_part_is_not_read(config: TrainConfig, tiny_prepared: Prepared, result: RunResult) -> None:
    split = tiny_prepared.split
    other = {**split.valid, "ood": replace(split.valid["ood"], interactions=split.valid["iid"].interactions)}
    blind = run(config, replace(tiny_prepared, split=replace(split, valid=other)))
    mine = {name: value for name, value in result.metrics.items() if name.startswith("loeo/")}
    assert mine == {name: value for name, value in blind.metrics.items() if name.startswith("loeo/")}


def test_the_rest_of_a_run_does_not_change(
    settings: dict[str, Any], tiny_prepared: Prepared, result: RunResult
) -> None:
    plain = run(TrainConfig.model_validate(settings | {"evaluation": {}}), tiny_prepared)
    assert plain.left_out is None
    assert torch.equal(plain.mask, result.mask)
    assert plain.metrics == {k: v for k, v in result.metrics.items() if not k.startswith("loeo/")}


def test_other_weights_of_the_same_training_are_asked_too(result: RunResult, tiny_prepared: Prepared) -> None:
    other = reweighed(result, tiny_prepared, popularity_weight=0.9)
    assert other.metrics["loeo/ndcg_at_20"] != result.metrics["loeo/ndcg_at_20"]
    same = reweighed(other, tiny_prepared, popularity_weight=result.config.fusion.popularity_weight)
    assert same.metrics == result.metrics


def test_where_ood_ranks_held_out_items_alone_so_is_a_left_out_environment(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    config = TrainConfig.model_validate(settings | {"split": {"protocol": "cold_item"}})
    prepared = prepare(config, cache_dir=tmp_path, device=CPU)
    mask = torch.ones(10)
    state = RunState()
    state.epochs |= {"invariant": 1, "variant": 1}
    found = leave_out(config, prepared, mask, state, branch=False)
    groups = known_groups(prepared.dataset, prepared.train, config.environments.column, config.seed)
    for index, (_, plan) in enumerate(found.models):
        inside = set(prepared.train.item[groups.label == index].tolist())
        assert set(plan.candidates.tolist()) == inside


def test_an_environment_that_nobody_else_knows_is_refused(
    config: TrainConfig, tiny_prepared: Prepared
) -> None:
    train = tiny_prepared.train
    apart = tiny_prepared.dataset.columns
    users = ["a" if user < 30 else "b" for user in range(train.n_users)]
    dataset = replace(tiny_prepared.dataset, columns=replace(apart, user={"city": np.array(users)}))
    prepared = replace(tiny_prepared, dataset=dataset)
    environments = {"assignment": "column", "column": "city"}
    by_city = TrainConfig.model_validate(config.model_dump() | {"environments": environments})
    with pytest.raises(ConfigError, match=r"evaluation\.loeo: no user of this environment"):
        leave_out(by_city, prepared, torch.ones(10), RunState(), branch=False)


def test_it_needs_known_environments_and_stands_in_no_fingerprint_while_off(
    tiny_settings: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError, match=r"name them, environments\.column"):
        TrainConfig.model_validate(tiny_settings | {"evaluation": {"loeo": True}})
    assert "loeo" not in TrainConfig.model_validate(tiny_settings).model_dump()["evaluation"]


def test_the_mask_meets_the_features_that_it_was_learned_on(settings: dict[str, Any], tmp_path: Path) -> None:
    """A smooth column that spans less without an environment would have fewer columns."""
    config = TrainConfig.model_validate(settings | {"features": {"smooth": {"size": {"width": 5}}}})
    plain = prepare(TrainConfig.model_validate(settings), cache_dir=tmp_path, device=CPU)
    degree = plain.train.item_degree().int().tolist()
    columns = replace(plain.dataset.columns, item={"size": np.array([str(one) for one in degree])})
    dataset = replace(plain.dataset, columns=columns)
    prepared = prepare_split(config, dataset, plain.split, plain.train, CPU)
    assert prepared.features.shape[1] > 10
    assert "loeo/ndcg_at_20" in run(config, prepared).metrics


def test_epochs_that_an_ood_part_has_chosen_are_refused(settings: dict[str, Any]) -> None:
    training = {**settings["training"], "monitor": "ood/ndcg_at_20"}
    with pytest.raises(ValidationError, match="epochs that no OOD part has chosen"):
        TrainConfig.model_validate(settings | {"training": training})
