"""Ranking: the literal one for one K and one part, painvrl's for every K and both parts."""

from __future__ import annotations

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import ours
from benchmarks.literal import LiteralSettings, ndcg
from painvrl.run.prepare import Prepared

WIDTH = 128


def vectors(data: Prepared) -> tuple[torch.Tensor, torch.Tensor]:
    """Random score vectors of the width that both implementations rank with."""
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(data.train.n_users, WIDTH, generator=generator)
    return users, torch.randn(data.train.n_items, WIDTH, generator=generator)


def bench_ranking_literal(benchmark: BenchmarkFixture, size: str, data: Prepared) -> None:
    """One K and one part; at the large size four blocks of users stand for all."""
    at_once = LiteralSettings().ranked_at_once
    users, items = vectors(data)
    measured = min(data.train.n_users, 4 * at_once)
    benchmark.group = f"ranking, {size}"
    benchmark.extra_info["times"] = data.train.n_users / measured
    asked = ours.literal_iid_ranking(data)
    benchmark.pedantic(ndcg, args=(asked, users[:measured], items, 20, at_once), rounds=3, warmup_rounds=1)


def bench_ranking_ours(benchmark: BenchmarkFixture, size: str, data: Prepared) -> None:
    """Every K, both valid parts, all users."""
    benchmark.group = f"ranking, {size}"
    benchmark.pedantic(ours.rank, args=(data, *vectors(data)), rounds=5, warmup_rounds=1)
