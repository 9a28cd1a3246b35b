"""A round of environments and mask for more and more environments."""

from __future__ import annotations

import functools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import ours
from benchmarks.conftest import data_of
from benchmarks.sizes import size_config
from painvrl.model.ultragcn import Backbone


@functools.cache
def pretrained(size: str) -> Backbone:
    """A backbone of a few epochs; what it learnt does not change the time of a round."""
    data = data_of(size)
    model = ours.model(data.features, data.training, ours.GRAMIAN)
    ours.epochs(model, ours.GRAMIAN_TRAINING, 5)
    return model


@pytest.mark.parametrize("count", [2, 4, 10])
def bench_environment_round(benchmark: BenchmarkFixture, size: str, count: int) -> None:
    """Calibration, environments and mask; the seconds of the stages stand beside the whole."""
    settings = size_config(size, {"environments": {"count": count}})
    data, model = data_of(size), pretrained(size)
    benchmark.group = f"environment round, {size}"
    stages: list[dict[str, float]] = []
    benchmark.pedantic(
        lambda: stages.append(ours.round_seconds(settings, data, model)),
        rounds=3 if size == "small" else 1,
    )
    benchmark.extra_info["stages"] = {
        name: round(min(seconds[name] for seconds in stages), 3) for name in stages[0]
    }
