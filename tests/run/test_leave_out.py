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
from painvrl.data.grouping import KnownGroups, known_groups
from painvrl.evaluation.ranking import evaluate
from painvrl.run.config import TrainConfig
from painvrl.run.leave_out import leave_out
from painvrl.run.pipeline import RunResult, reweighed, run
from painvrl.run.prepare import Prepared, prepare, prepare_split
from painvrl.run.pretrained import pretraining_key
from painvrl.run.stages import Stages, known_environments
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


ROBUST = [{"kind": "vrex", "variance_weight": 5.0}, {"kind": "group_dro", "step": 2.0}]


@pytest.mark.parametrize("risks", ROBUST, ids=["vrex", "group_dro"])
def test_risks_are_those_of_the_known_environments_and_of_those_that_are_left(
    settings: dict[str, Any], tiny_prepared: Prepared, result: RunResult, risks: dict[str, object]
) -> None:
    """The labels come in the order of the pairs: put there by hand they make the same model."""
    backbone = settings["backbone"] | {"risks": risks}
    mask = {"source": "ones"}
    config = TrainConfig.model_validate(settings | {"backbone": backbone, "mask": mask})
    found = run(config, tiny_prepared)
    plain = run(TrainConfig.model_validate(settings | {"mask": mask}), tiny_prepared)
    assert not torch.equal(found.parts.items, plain.parts.items)
    assert found.metrics["loeo/ndcg_at_20"] != plain.metrics["loeo/ndcg_at_20"]
    order = torch.randperm(len(tiny_prepared.train), generator=torch.Generator().manual_seed(3))
    train = tiny_prepared.train.select(order)
    shuffled = prepare_split(config, tiny_prepared.dataset, tiny_prepared.split, train, CPU)
    groups = known_groups(tiny_prepared.dataset, train, config.environments.column, config.seed)
    of_pair = {
        (user, item): label
        for user, item, label in zip(
            train.user.tolist(), train.item.tolist(), groups.label.tolist(), strict=True
        )
    }
    pairs = shuffled.training.pairs
    expected = [of_pair[pair] for pair in zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)]
    known = known_environments(Stages(config=config, prepared=shuffled))
    assert known is not None
    assert known.label.tolist() == expected


def test_a_loss_of_risks_is_not_left_with_one_environment(settings: dict[str, Any], tmp_path: Path) -> None:
    risky = settings | {"backbone": settings["backbone"] | {"risks": ROBUST[0]}}
    prepare(TrainConfig.model_validate(risky), cache_dir=tmp_path, device=CPU)  # three environments
    environments = {"assignment": "column", "column": {"column": "popularity", "bins": 2}}
    two = risky | {"environments": environments}
    with pytest.raises(
        ConfigError, match=r"evaluation\.loeo: without one of two .* three environments or more"
    ):
        prepare(TrainConfig.model_validate(two), cache_dir=tmp_path, device=CPU)
    prepare(TrainConfig.model_validate(two | {"evaluation": {}}), cache_dir=tmp_path, device=CPU)


def test_groups_without_one_are_the_others_numbered_anew() -> None:
    groups = KnownGroups(label=torch.tensor([2, 0, 1, 2, 1]), names=("a", "b", "c"), sizes=(1, 2, 2))
    left = groups.without(1)
    assert left.label.tolist() == [1, 0, 1]
    assert (left.names, left.sizes) == (("a", "c"), (1, 2))
    left = groups.without(0)
    assert left.label.tolist() == [1, 0, 1, 0]
    assert (left.names, left.sizes) == (("b", "c"), (2, 2))


def test_risks_of_environments_need_known_ones_and_whole_data(settings: dict[str, Any]) -> None:
    backbone = settings["backbone"] | {"risks": {"kind": "vrex"}}
    with pytest.raises(ValidationError, match=r"backbone\.risks\.kind 'vrex' needs known environments"):
        TrainConfig.model_validate(settings | {"backbone": backbone, "environments": {}, "evaluation": {}})
    with pytest.raises(ValidationError, match=r"risks\.kind 'vrex' needs loss\.kind 'gramian'"):
        TrainConfig.model_validate(settings | {"backbone": backbone | {"loss": {"kind": "softmax"}}})


def test_a_pretraining_on_risks_is_shared_by_runs_of_the_same_environments_alone(
    settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    def key(bins: int, risks: str) -> str:
        backbone = settings["backbone"] | {"risks": {"kind": risks}}
        environments = {"assignment": "column", "column": {"column": "popularity", "bins": bins}}
        changed = settings | {"backbone": backbone, "environments": environments}
        return pretraining_key(TrainConfig.model_validate(changed), tiny_prepared)

    assert key(2, "mean") == key(3, "mean")
    assert key(2, "vrex") != key(3, "vrex")


def test_rows_that_nobody_is_asked_for_are_counted(settings: dict[str, Any], tmp_path: Path) -> None:
    """Counted row by row."""
    environments = {"assignment": "column", "column": {"column": "popularity", "bins": 2}}
    config = TrainConfig.model_validate(settings | {"environments": environments})
    prepared = prepare(config, cache_dir=tmp_path, device=CPU)
    (said,) = (one for one in prepared.split.statistics.provenance.warnings if "loeo" in one)
    train = prepared.train
    groups = known_groups(prepared.dataset, train, config.environments.column, config.seed)
    rows = list(zip(train.user.tolist(), groups.label.tolist(), strict=True))
    for index, name in enumerate(groups.names):
        users = {user for user, label in rows if label != index}
        inside = [user for user, label in rows if label == index]
        lost = sum(user not in users for user in inside)
        told = f"{name} is not asked for {lost:,} of users whom no other group has (of {len(inside):,} rows)"
        assert (told in said) == (lost > 0)


def test_epochs_by_loeo_are_the_best_of_the_mean_curve(
    settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    """Curves are made by hand: a model without each environment, at every epoch that is evaluated."""
    training = settings["training"] | {"monitor": "loeo/ndcg_at_20", "patience": 1}
    config = TrainConfig.model_validate(settings | {"training": training, "mask": {"source": "ones"}})
    found = run(config, tiny_prepared)
    curve = {}
    plain = config.model_copy(update={"training": config.training.monitoring("iid")})
    for epoch in (3, 6, 9, 12):
        state = RunState()
        state.epochs |= {"invariant": epoch, "variant": epoch}
        left = leave_out(plain, tiny_prepared, torch.ones(10), state, branch=False)
        (metrics,) = left.metrics([config.fusion.model_copy(update={"variant_weight": 0.0})])
        curve[epoch] = metrics["loeo/ndcg_at_20"]
    assert len(set(curve.values())) == 4
    best = max(curve, key=lambda epoch: curve[epoch])
    assert found.epochs["invariant"] == best
    state = RunState()
    state.epochs |= found.epochs
    again = leave_out(plain, tiny_prepared, torch.ones(10), state, branch=False)
    (metrics,) = again.metrics([config.fusion])
    assert found.metrics["loeo/ndcg_at_20"] == metrics["loeo/ndcg_at_20"]


def test_a_pretraining_is_stopped_by_iid_where_loeo_stops_the_final_model(
    settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    training = settings["training"] | {"monitor": "loeo/ndcg_at_20"}
    by_loeo = run(TrainConfig.model_validate(settings | {"training": training}), tiny_prepared)
    by_iid = run(TrainConfig.model_validate(settings), tiny_prepared)
    assert by_loeo.epochs["pretrain"] == by_iid.epochs["pretrain"]
    assert torch.equal(by_loeo.mask, by_iid.mask)


def test_stopping_by_loeo_needs_loeo(settings: dict[str, Any]) -> None:
    training = settings["training"] | {"monitor": "loeo/ndcg_at_20"}
    with pytest.raises(ValidationError, match=r"'loeo/ndcg_at_20' needs evaluation\.loeo: true"):
        TrainConfig.model_validate(settings | {"training": training, "evaluation": {}})
