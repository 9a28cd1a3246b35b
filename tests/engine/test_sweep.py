"""The sweep: what is left to choose once a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from painvrl.engine import sweep as module
from painvrl.engine.constraints import Constraint
from painvrl.engine.outcomes import SweptPoint
from painvrl.engine.sweep import (
    RungSweep,
    Scored,
    Sweep,
    SweepConfig,
    along_axes,
    curve_at,
    reported,
    scored_at,
    sweep,
    without_curve,
)
from painvrl.evaluation.ranking import RankingPlan, judged_users, some_users
from painvrl.model.fusion import ScoreParts, WeighedScores
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution
from painvrl.run.hyperparameters import Point
from painvrl.run.pipeline import RunResult, reweighed, run
from painvrl.run.prepare import Prepared, plan_parts, prepare
from painvrl.stats.dominance import hypervolume, non_dominated

OBJECTIVES = ("iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20")
AXES = ("iid/ndcg_at_20", "ood/ndcg_at_20")
VARIANT, POPULARITY = "fusion.variant_weight", "fusion.popularity_weight"
ID, COLD = "fusion.id_weight", "fusion.cold_weight"


def hyperparameters(**ranges: tuple[float, float]) -> dict[str, Distribution]:
    return {
        f"fusion.{name}": TypeAdapter(Distribution).validate_python(
            {"type": "float", "low": low, "high": high}
        )
        for name, (low, high) in ranges.items()
    }


def plan(points: int = 24, keep: int = 16, constraints: tuple[Constraint, ...] = (), **ranges: Any) -> Sweep:
    swept = hyperparameters(**(ranges or {"variant_weight": (0, 1), "popularity_weight": (-0.5, 0.5)}))
    settings = SweepConfig(points=points, keep=keep)
    return Sweep(
        hyperparameters=swept, objectives=OBJECTIVES, axes=AXES, constraints=constraints, config=settings
    )


@pytest.fixture
def trained(tiny_result: RunResult, tiny_prepared: Prepared) -> tuple[TrainConfig, ScoreParts, RankingPlan]:
    return tiny_result.config, tiny_result.parts, tiny_prepared.valid_plan


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[Point]]:
    """The points of each pass of ranking."""
    passes: list[list[Point]] = []

    def counted(*arguments: Any) -> tuple[Scored, ...]:
        passes.append([dict(point) for point in arguments[3]])
        return scored_at(*arguments)

    monkeypatch.setattr(module, "scored_at", counted)
    return passes


def test_every_point_is_what_a_training_with_its_values_gives_to_the_last_digit(
    trained: Any, tiny_prepared: Prepared, tiny_settings: dict[str, Any]
) -> None:
    found = sweep(*trained, plan(points=8))
    for one in found:
        values = {path.removeprefix("fusion."): value for path, value in one.point.values.items()}
        again = run(TrainConfig.model_validate({**tiny_settings, "fusion": values}), tiny_prepared)
        assert one.point.metrics == again.metrics


def test_the_first_point_is_the_configurations_own(trained: Any, tiny_result: RunResult) -> None:
    own = sweep(*trained, plan())[0].point
    fusion = tiny_result.config.fusion
    assert own.values == {VARIANT: fusion.variant_weight, POPULARITY: fusion.popularity_weight}
    assert own.metrics == tiny_result.metrics


def test_own_values_outside_the_ranges_stay_as_they_are(trained: Any, tiny_result: RunResult) -> None:
    own, *others = sweep(*trained, plan(popularity_weight=(-0.5, -0.1), variant_weight=(0.5, 1.0)))
    assert own.point.metrics == tiny_result.metrics
    for one in others:
        assert -0.5 <= one.point.values[POPULARITY] <= -0.1
        assert 0.5 <= one.point.values[VARIANT] <= 1.0


def test_a_sweep_has_the_same_points_every_time(trained: Any) -> None:
    assert [one.point for one in sweep(*trained, plan())] == [one.point for one in sweep(*trained, plan())]


def test_no_more_is_scored_than_is_allowed_and_nothing_twice(trained: Any, asked: list[list[Point]]) -> None:
    for points in (2, 9, 24, 60):
        asked.clear()
        sweep(*trained, plan(points=points))
        scored = [tuple(point.items()) for each in asked for point in each]
        assert points // 2 <= len(scored) <= points
        assert len(set(scored)) == len(scored)
        assert len(asked) <= 4, "the passes are few, whatever the number of points"


def test_what_is_kept_is_the_front_of_what_was_looked_at(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Scored] = []

    def remembered(*arguments: Any) -> tuple[Scored, ...]:
        found = scored_at(*arguments)
        looked.extend(found)
        return found

    monkeypatch.setattr(module, "scored_at", remembered)
    kept = sweep(*trained, plan(keep=200))
    values = np.array([[one.point.metrics[axis] for axis in AXES] for one in looked])
    on_front = [one.point for one, member in zip(looked, non_dominated(values), strict=True) if member]
    points = [one.point for one in kept]
    for point in on_front:
        if min(point.metrics[axis] for axis in AXES) > 0:
            assert any(same_values(point, other) for other in points)
    for objective in OBJECTIVES:
        assert max(point.metrics[objective] for point in points) == max(
            one.point.metrics[objective] for one in looked
        )


def same_values(one: SweptPoint, other: SweptPoint) -> bool:
    return all(one.metrics[name] == other.metrics[name] for name in OBJECTIVES)


def volume_of(points: Sequence[Scored]) -> float:
    return hypervolume([[one.point.metrics[axis] for axis in AXES] for one in points])


def test_a_long_front_is_thinned_and_keeps_most_of_its_volume(trained: Any) -> None:
    whole, few = (sweep(*trained, plan(points=60, keep=keep)) for keep in (200, 4))
    assert len(few) <= 4 + 1 + len(OBJECTIVES) < len(whole)
    volume = [volume_of(each) for each in (whole, few)]
    assert volume[1] > 0.9 * volume[0]


def test_the_refinement_finds_more_than_the_grid(trained: Any) -> None:
    config, parts, ranking = trained
    search = module._Search(config, parts, ranking, plan(points=40))
    search.explore()
    assert volume_of(search.points) > volume_of(search.points[:21])


def test_points_that_break_a_constraint_are_kept_only_where_all_do(
    trained: Any, tiny_result: RunResult
) -> None:
    own = tiny_result.metrics["iid/ndcg_at_20"]
    loose = Constraint(metric="iid/ndcg_at_20", min=0.9 * own)
    assert all(
        one.point.metrics["iid/ndcg_at_20"] >= 0.9 * own
        for one in sweep(*trained, plan(points=40, constraints=(loose,)))
    )
    impossible = Constraint(metric="iid/ndcg_at_20", min=0.999)
    assert len(sweep(*trained, plan(points=40, constraints=(impossible,)))) > 1


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        ({}, {VARIANT, POPULARITY, ID, COLD}),
        ({"fusion": {"kind": "invariant"}}, {POPULARITY, ID, COLD}),
        ({"backbone": {"id_dim": 0, "content_dim": 4}}, {POPULARITY, VARIANT, COLD}),
    ],
    ids=["everything", "no branch", "no ids"],
)
def test_only_what_can_change_a_ranking_is_swept(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, change: dict[str, Any], moves: set[str]
) -> None:
    config = TrainConfig.model_validate({**tiny_settings, "mask": {"source": "half"}, **change})
    parts = run(config, tiny_prepared).parts
    some_cold = replace(parts, degree=parts.degree * (torch.arange(80) % 4 > 0))
    everything = plan(variant_weight=(0, 1), popularity_weight=(-1, 1), id_weight=(0, 2), cold_weight=(-1, 1))
    found = sweep(config, some_cold, tiny_prepared.valid_plan, everything)
    assert {path for one in found for path in one.point.values} == moves


def test_without_cold_candidates_their_weight_is_not_swept(trained: Any) -> None:
    config, parts, ranking = trained
    warm = replace(parts, degree=parts.degree.clamp_min(1))
    found = sweep(config, warm, ranking, plan(cold_weight=(-1, 1), popularity_weight=(-1, 1)))
    assert {path for one in found for path in one.point.values} == {POPULARITY}


def test_a_sweep_over_nothing_is_the_configuration_itself(trained: Any, tiny_result: RunResult) -> None:
    (only,) = sweep(*trained, replace(plan(), hyperparameters={}))
    assert only.point == SweptPoint(values={}, metrics=dict(tiny_result.metrics))


def test_where_ranking_is_dear_the_search_looks_at_some_users_and_scores_what_it_keeps_on_all(
    trained: Any, tiny_prepared: Prepared, tiny_result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, parts, _ = trained
    blocks = tiny_prepared.evaluation.model_copy(update={"block_cells": 80 * 4})
    small = plan_parts(tiny_prepared.split.valid, [tiny_prepared.train], blocks, torch.device("cpu"))
    monkeypatch.setattr(module, "EXPLORED_CELLS", 80 * 16)
    monkeypatch.setattr(module, "MIN_USERS", 5)
    seen: list[int] = []

    def watched(*arguments: Any) -> tuple[Scored, ...]:
        seen.append(sum(len(block.users) for block in arguments[2].blocks))
        return scored_at(*arguments)

    monkeypatch.setattr(module, "scored_at", watched)
    found = sweep(config, parts, small, plan(points=8))
    everybody = sum(len(block.users) for block in small.blocks)
    assert seen[-1] == everybody
    assert all(0 < users < everybody / 2 for users in seen[:-1])
    for one in found:
        weights = {path.removeprefix("fusion."): value for path, value in one.point.values.items()}
        expected = reweighed(tiny_result, tiny_prepared, **weights)  # type: ignore[arg-type]
        assert one.point.metrics == pytest.approx(expected.metrics)


def test_half_as_many_points_are_kept_where_a_ranking_is_dear(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def watched(values: Any, rows: Any, keep: int) -> list[int]:
        kept.append(keep)
        return _spread(values, rows, keep)

    _spread = module._spread
    monkeypatch.setattr(module, "_spread", watched)
    sweep(*trained, plan(points=8, keep=6))
    assert set(kept) == {6}
    monkeypatch.setattr(module, "EXPLORED_CELLS", 80 * 16)
    monkeypatch.setattr(module, "MIN_USERS", 5)
    kept.clear()
    sweep(*trained, plan(points=8, keep=6))
    assert set(kept) == {3}


def test_what_users_got_is_reported_of_every_point(trained: Any) -> None:
    for one in sweep(*trained, plan(points=8)):
        for name in OBJECTIVES:
            assert float(one.users.values[name].mean()) == pytest.approx(one.point.metrics[name], abs=1e-6)


def test_a_point_stands_for_a_training_by_its_box() -> None:
    def point(iid: float, ood: float) -> SweptPoint:
        values = dict(zip(OBJECTIVES, (iid, iid, ood, ood), strict=True))
        return SweptPoint(values={}, metrics=values)

    points = [point(0.9, 0.1), point(0.4, 0.4), point(0.1, 0.9), point(0.4, 0.4)]
    assert reported(points, plan()) == 1
    assert reported(points[:1], plan()) == 0
    bound = Constraint(metric="iid/ndcg_at_20", min=0.5)
    assert reported(points, plan(constraints=(bound,))) == 0
    impossible = Constraint(metric="iid/ndcg_at_20", min=0.95)
    assert reported(points, plan(constraints=(impossible,))) == 1


def test_a_grid_moves_one_share_at_a_time_from_end_to_end() -> None:
    base = (0.3, 0.7)
    found = list(along_axes(base, 10))
    assert len(found) == 10
    assert all(sum(a != b for a, b in zip(each, base, strict=True)) <= 1 for each in found)
    for place in range(2):
        moved = sorted(each[place] for each in found if each[1 - place] == base[1 - place])
        assert (moved[0], moved[-1]) == (0.0, 1.0)


def test_a_rung_is_reported_as_metrics_and_read_back(trained: Any) -> None:
    config, parts, ranking = trained
    look = RungSweep(config=config, ranking=ranking, rungs=frozenset({"pretrain/6"}), plan=plan(points=16))
    assert look("pretrain/3", parts) == {}
    expected = [
        [one.point.metrics[axis] for axis in AXES] for one in sweep(config, parts, ranking, plan(points=8))
    ]
    metrics = dict.fromkeys(AXES, 0.5)
    reported_there = {**metrics, **look("pretrain/6", parts)}
    assert curve_at(reported_there, AXES) == expected
    assert without_curve(reported_there) == metrics
    assert curve_at(metrics, AXES) == [[0.5, 0.5]]


def test_looks_that_tell_other_things_have_other_keys(trained: Any) -> None:
    config, _, ranking = trained

    def key(rungs: str = "pretrain/6", sweep_plan: Sweep | None = None) -> str:
        return RungSweep(
            config=config, ranking=ranking, rungs=frozenset({rungs}), plan=sweep_plan or plan()
        ).key

    others = [key("pretrain/9"), key(sweep_plan=plan(points=9)), key(sweep_plan=plan(id_weight=(0, 1)))]
    assert len({key(), *others}) == 4
    assert key() == key()


@pytest.mark.parametrize("wrong", [{"points": 1}, {"keep": 0}, {"point": 3}])
def test_a_sweep_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SweepConfig.model_validate(wrong)


def adapted(**ranges: dict[str, Any]) -> Sweep:
    adapter: Any = TypeAdapter(Distribution)
    swept = {f"fusion.{name}": adapter.validate_python(each) for name, each in ranges.items()}
    return replace(plan(), hyperparameters=swept)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"type": "categorical", "choices": [0.0, 0.3, 1.0]}, {0.0, 0.3, 1.0}),
        ({"type": "float", "low": -0.5, "high": 0.5, "step": 0.5}, {-0.5, 0.0, 0.5}),
        ({"type": "int", "low": -1, "high": 1}, {-1, 0, 1}),
    ],
    ids=["choices", "steps", "whole numbers"],
)
def test_a_discrete_range_is_looked_at_whole_each_value_once(
    trained: Any, asked: list[list[Point]], given: dict[str, Any], values: set[float]
) -> None:
    sweep(*trained, adapted(popularity_weight=given))
    scored = [point[POPULARITY] for each in asked for point in each]
    assert len(scored) == len(set(scored))
    assert set(scored) == values | {0.0}


def test_both_ends_of_a_range_are_looked_at_though_the_own_value_lies_outside(
    trained: Any, asked: list[list[Point]]
) -> None:
    sweep(*trained, plan(popularity_weight=(0.05, 0.6)))
    scored = {point[POPULARITY] for each in asked for point in each}
    assert {0.0, 0.05, 0.6} <= scored


def test_the_best_iid_is_kept_though_its_ood_is_nothing(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, parts, ranking = trained
    cold = torch.zeros(80, dtype=torch.bool)
    cold[ranking.candidates[::2]] = True
    looked: list[Scored] = []

    def remembered(*arguments: Any) -> tuple[Scored, ...]:
        found = scored_at(*arguments)
        looked.extend(found)
        return found

    monkeypatch.setattr(module, "scored_at", remembered)
    kept = sweep(config, replace(parts, degree=parts.degree * ~cold), ranking, plan(cold_weight=(-10, 10)))
    for objective in OBJECTIVES:
        assert max(one.point.metrics[objective] for one in kept) == max(
            one.point.metrics[objective] for one in looked
        )


def test_a_bonus_that_all_items_of_a_list_share_is_not_swept(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    apart = {"protocol": "cold_item", "ood_candidates": "held_out"}
    config = TrainConfig.model_validate({**tiny_settings, "mask": {"source": "half"}, "split": apart})
    prepared = prepare(config, cache_dir=tmp_path, device=torch.device("cpu"))
    parts = run(config, prepared).parts
    (only,) = sweep(config, parts, prepared.valid_plan, plan(cold_weight=(-1, 1)))
    assert only.point.values == {}


def test_looks_of_configurations_with_other_own_values_have_other_keys(trained: Any) -> None:
    config, _, ranking = trained
    other = config.model_copy(update={"fusion": config.fusion.model_copy(update={"popularity_weight": -0.3})})

    def key(of: TrainConfig) -> str:
        return RungSweep(config=of, ranking=ranking, rungs=frozenset({"pretrain/6"}), plan=plan()).key

    assert key(config) != key(other)


@pytest.mark.parametrize("every", [2, 3, 7])
def test_a_plan_of_some_users_judges_these_as_the_whole_plan_does(trained: Any, every: int) -> None:
    _, parts, ranking = trained
    fusion = trained[0].fusion
    some = some_users(ranking, every)
    (whole,), (few,) = (list(judged_users(each, WeighedScores(parts, [fusion]))) for each in (ranking, some))
    for name, judged in few.items():
        assert 0 < len(judged.users) <= len(whole[name].users)
        place = torch.searchsorted(whole[name].users, judged.users)
        assert torch.equal(whole[name].users[place], judged.users)
        for metric, values in judged.values.items():
            assert torch.equal(values, whole[name].values[metric][place])


def test_a_part_of_few_users_is_not_thinned(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPLORED_CELLS", 1)
    assert module._affordable(trained[2], 32) is trained[2]
