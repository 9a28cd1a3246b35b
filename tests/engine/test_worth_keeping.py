"""What a training keeps of the points that were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from painvrl.engine import sweep as module
from painvrl.engine.outcomes import SweptPoint
from painvrl.engine.sweep import Scored, Sweep, SweepConfig, distinct, sweep
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, prepare
from painvrl.stats.dominance import hypervolume

AXES = ("iid/ndcg_at_20", "ood/ndcg_at_20")
OBJECTIVES = (*AXES, "iid/recall_at_20", "ood/recall_at_20")
ADAPTER: Any = TypeAdapter(Distribution)


def plan(**ranges: tuple[float, float]) -> Sweep:
    hyperparameters = {
        f"fusion.{name}": ADAPTER.validate_python({"type": "float", "low": low, "high": high})
        for name, (low, high) in ranges.items()
    }
    return Sweep(
        hyperparameters=hyperparameters,
        objectives=OBJECTIVES,
        axes=AXES,
        config=SweepConfig(points=40, keep=30),
    )


def points_of(result: RunResult, prepared: Prepared, what: Sweep) -> tuple[Scored, ...]:
    return sweep(result.config, result.parts, prepared.valid_plan, what)


def at(metrics: Sequence[float]) -> SweptPoint:
    return SweptPoint(values={}, metrics=dict(zip(OBJECTIVES, metrics, strict=True)))


def values(points: Sequence[SweptPoint]) -> list[tuple[float, ...]]:
    return [tuple(point.metrics[name] for name in OBJECTIVES) for point in points]


def test_of_equal_points_the_first_is_kept() -> None:
    points = [
        at(metrics)
        for metrics in (
            (0.0, 0.3, 0.0, 0.3),
            (0.2, 0.2, 0.2, 0.2),
            (0.2, 0.2, 0.2, 0.2),
            (0.2, 0.2, 0.2, 0.1),  # equal on the axes alone
            (0.2, 0.2, 0.2, 0.2),
        )
    ]
    assert distinct(points, range(5), OBJECTIVES) == [0, 1, 3]
    assert distinct(points, [4, 2, 0], OBJECTIVES) == [4, 0]


@pytest.fixture(scope="module")
def trained(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Prepared]:
    """A training whose OOD items are cold, and ranked among the warm ones."""
    split = {"protocol": "cold_item", "ood_candidates": "all"}
    config = TrainConfig.model_validate(tiny_config.model_dump() | {"split": split})
    prepared = prepare(config, cache_dir=tmp_path_factory.mktemp("cache"), device=torch.device("cpu"))
    return run(config, prepared), prepared


@pytest.mark.parametrize("every_user", [True, False])
def test_a_training_keeps_no_point_twice_and_its_own_point_always(
    trained: tuple[RunResult, Prepared], monkeypatch: pytest.MonkeyPatch, *, every_user: bool
) -> None:
    if not every_user:
        monkeypatch.setattr(module, "EXPLORED_CELLS", 2000)
        monkeypatch.setattr(module, "MIN_USERS", 5)
    # Far out nothing cold, or nothing warm, is recommended: many points are equal, and worthless.
    ranges = plan(cold_weight=(-10.0, 10.0), popularity_weight=(-1.0, 1.0))
    kept = [one.point for one in points_of(*trained, ranges)]
    assert kept[0].metrics == dict(trained[0].metrics)
    assert kept[0].values == {"fusion.popularity_weight": 0.0, "fusion.cold_weight": 0.0}
    assert len(kept) > 2
    assert len(set(values(kept))) == len(kept)
    bests = [max(each) for each in zip(*values(kept), strict=True)]
    for one in values(kept)[1:]:
        best_of_one = any(value == best for value, best in zip(one, bests, strict=True))
        # Of some users the best of an objective need not be the best of all.
        assert not every_user or min(one[:2]) > 0 or best_of_one, "a zero is kept as a best one alone"
    monkeypatch.setattr(module, "distinct", lambda _, places, __: list(places))
    everything = [one.point for one in points_of(*trained, ranges)]
    assert len(set(values(everything))) < len(everything), "the law holds because it is kept"
    if every_user:  # what is equal of some users need not be of all
        assert hypervolume(values(kept)) == pytest.approx(hypervolume(values(everything)))


def test_of_worthless_points_the_own_one_alone_is_kept(trained: tuple[RunResult, Prepared]) -> None:
    result, prepared = trained
    fusion = result.config.fusion.model_copy(update={"cold_weight": -10.0})
    buried = replace(result, config=result.config.model_copy(update={"fusion": fusion}))
    (own,) = points_of(buried, prepared, plan(cold_weight=(-10.0, -9.0)))
    assert own.point.values == {"fusion.cold_weight": -10.0}
    assert own.point.metrics["ood/ndcg_at_20"] == 0
