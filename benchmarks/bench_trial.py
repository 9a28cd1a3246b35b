"""A default MovieLens trial: prepared data in, a scored recommender out."""

from __future__ import annotations

from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.common import prepared, trained
from painvrl.study.file.spec import load_spec


def bench_default_trial(benchmark: BenchmarkFixture) -> None:
    """The base configuration of the default study."""
    settings = load_spec(Path("studies/movielens.yaml")).config
    data = prepared(settings)
    benchmark.group = "trial"
    result = benchmark.pedantic(trained, args=(settings, data), rounds=3)
    benchmark.extra_info["stages"] = {name: round(value, 2) for name, value in result.seconds.items()}
